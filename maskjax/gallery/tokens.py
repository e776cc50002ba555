"""The drawings of token generators: splits, sets, video, modalities, mixing."""

from typing import Any

from maskjax.gallery import shows
from maskjax.gallery.entry import Entry, hidden_tokens
from maskjax.gallery.scene import GRID


def _split(family: str, title: str, source: str, code: str, **options: Any) -> Entry:
    return Entry(
        family, title, source, code, **{"show": shows.split, "hidden": hidden_tokens, **options}
    )


def _quarters(ratio: float, num_tokens: int = 196) -> int:
    """A count that shows the same number of every 2 x 2 cell: 1, 2 or 3 of 4."""
    return num_tokens // 4 * min(max(round(4 * (1 - ratio)), 1), 3)


def _coarse(ratio: float) -> int:
    from maskjax.masking.cells import coarse_visible

    return coarse_visible(GRID, 2, ratio)


def _tube(ratio: float) -> int:
    from maskjax.masking.video import tube_visible

    return tube_visible((4, 8, 8), ratio)


FAMILY = "At random, in cells, in blocks"
SPATIAL = (
    _split(
        FAMILY,
        "random",
        "MAE (He et al. 2022)",
        "masking.random(key, (14, 14), num_visible={visible})",
    ),
    _split(
        FAMILY,
        "grid",
        "MAE, ablation",
        "masking.grid(key, (14, 14), num_visible={visible})",
        count=_quarters,
    ),
    _split(
        FAMILY,
        "coarse cells",
        "SimMIM (Xie et al. 2022)",
        "masking.coarse(key, (14, 14), num_visible={visible}, cell=2)",
        count=_coarse,
        ratio=0.6,
    ),
    _split(
        FAMILY,
        "blocks, BEiT's law",
        "BEiT (Bao et al. 2022)",
        "masking.block(key, (14, 14), num_visible={visible})",
        ratio=0.4,
    ),
    _split(
        FAMILY,
        "blocks, CAE's law",
        "CAE (Chen et al. 2022)",
        'masking.block(key, (14, 14), num_visible={visible}, law="cae")',
        ratio=0.5,
    ),
)


def _colour(color: str, says: str) -> Entry:
    source = f"ColorMAE (Hinojosa et al. 2024): {says}"
    code = f'masking.colored(key, (14, 14), num_visible={{visible}}, color="{color}")'
    return _split("Coloured noise", color, source, code)


COLOURED = (
    _colour("red", "large blobs"),
    _colour("green", "clusters of middle size"),
    _colour("blue", "spread evenly"),
    _colour("purple", "speckle among blobs"),
    _split(
        "Coloured noise",
        "green, from a bank",
        "ColorMAE: windows of one bank",
        'bank = make_bank(jax.random.key(7), "green", shape=(16, 64, 64))\n'
        "masking.colored_from_bank(key, bank, (14, 14), num_visible={visible})",
    ),
)
FAMILY = "Guided by a map"
GUIDED = (
    _split(
        FAMILY,
        "sampled, shown",
        "by attention: MaskAlign (Xue et al. 2023)",
        "masking.sampled(key, weights, num_visible={visible})",
    ),
    _split(
        FAMILY,
        "sampled, hidden",
        "what stands out disappears",
        'masking.sampled(key, weights, num_visible={visible}, favour="hidden")',
    ),
    _split(
        FAMILY,
        "ranked",
        "the highest scores; nothing random",
        'masking.ranked(weights, num_visible={visible}, favour="hidden")',
        hidden=None,
    ),
    _split(
        FAMILY,
        "easy to hard",
        "HPM (Wang et al. 2023)",
        "masking.easy_to_hard(key, weights, num_visible={visible}, num_hard=40)",
    ),
)
FAMILY = "Step by step"
IN_TURN = (
    Entry(
        FAMILY,
        "iterative decoding",
        "MaskGIT (2022), ENAT (2024); green: this step",
        "score = lambda i: jax.random.gumbel(jax.random.fold_in(key, i), (196,)) - 8 * weights\n"
        "counts = confidence.hidden_counts(196, 8)[: 1 + round(7 * {clear})]\n"
        "split = confidence.all_hidden(196)\n"
        "for i, count in enumerate(counts[:-1]):\n"
        "    split = confidence.reveal(score(i), split, num_hidden=count)\n"
        "split, confidence.reveal(score(8), split, num_hidden=counts[-1])",
        shows.revealed_in_turn,
        hidden=lambda pair: hidden_tokens(pair[1]),
        ratio=0.5,
    ),
    Entry(
        FAMILY,
        "hide, then hide more",
        "ENAT (Ni et al. 2024); orange: the step before",
        "hidden = confidence.hide(key, 196, {hidden})\n"
        "other = jax.random.fold_in(key, 1)\n"
        "hidden, confidence.hide_more(other, hidden, 30)",
        shows.hidden_in_turn,
        hidden=lambda pair: pair[0].reshape(GRID),
        ratio=0.6,
    ),
    Entry(
        FAMILY,
        "dropping in turn",
        "Hybrid Distill (Shi et al. 2024); a reconstruction",
        "counts = progressive.keep_counts(196, {ratio})\n"
        "progressive.progressive(features, counts, noise_or_key=key, num_anchors=32)",
        shows.dropped_in_turn,
        hidden=hidden_tokens,
    ),
)
FAMILY = "Blocks and regions"
REGIONS = (
    Entry(
        FAMILY,
        "context and targets",
        "I-JEPA (Assran et al. 2023)",
        "masking.multiblock(key, (14, 14))",
        shows.context_and_targets,
        hidden=lambda sets: ~sets[0].members(196).reshape(GRID),
    ),
    Entry(
        FAMILY,
        "tokens of boxes",
        "padded sets; ART (2025)",
        "members = regions.box_shares(corners, (14, 14), (16, 16)) > 0\n"
        "masking.region(members, max_tokens=64, noise_or_key=key)",
        shows.regions,
    ),
    _split(
        FAMILY,
        "whole regions",
        "semantic masks; a law of ours",
        "owner = regions.segment_shares(segments, (16, 16), num_segments=8).argmax(-2)\n"
        "regions.hide_regions(key, owner, num_visible={visible}, num_regions=8)",
        ratio=0.6,
    ),
)
FAMILY = "Video, modalities, mixing"
SEVERAL = (
    Entry(
        FAMILY,
        "tubes",
        "VideoMAE V2 (Wang et al. 2023), encoder",
        "masking.tube(key, (4, 8, 8), num_visible={visible})",
        shows.film,
        count=_tube,
        hidden=lambda split: split.hidden().reshape(4, 8, 8)[0],
    ),
    Entry(
        FAMILY,
        "running cells",
        "VideoMAE V2, decoder",
        "masking.running_cell(key, (4, 8, 8), num_visible={visible})",
        shows.film,
        count=lambda ratio: _quarters(ratio, 256),
        ratio=0.5,
        hidden=lambda split: split.hidden().reshape(4, 8, 8)[0],
    ),
    Entry(
        FAMILY,
        "modalities",
        "MultiMAE (Bachmann et al. 2022)",
        "masking.dirichlet(key, (196, 196, 196, 196), num_visible={visible})",
        shows.modalities,
        count=lambda ratio: round(4 * 196 * (1 - ratio)),
        hidden=lambda split: split.hidden().reshape(4, *GRID)[0],
    ),
    Entry(
        FAMILY,
        "mixed images",
        "MixedAE (Chen et al. 2023)",
        "masking.groups_mix(key, (14, 14), num_images=4)",
        shows.mixed,
        hidden=lambda owner: (owner != 0).reshape(GRID),
    ),
)
