"""The drawings of token generators: splits, sets, video, modalities, mixing."""

from maskjax.gallery import shows
from maskjax.gallery.entry import Entry, hidden_tokens
from maskjax.gallery.scene import GRID

SPATIAL, COLOURED = "At random, in cells, in blocks", "Coloured noise"
GUIDED, IN_TURN = "Guided by a map", "Step by step"
REGIONS, SEVERAL = "Blocks and regions", "Video, modalities, mixing"


def _split(family: str, title: str, source: str, imports: str, code: str, **options) -> Entry:
    options = {"show": shows.split, "hidden": hidden_tokens, **options}
    return Entry(family, title, source, imports, code, **options)


def _quarters(ratio: float, num_tokens: int = 196) -> int:
    """A count that shows the same number of every 2 x 2 cell: 1, 2 or 3 of 4."""
    return num_tokens // 4 * min(max(round(4 * (1 - ratio)), 1), 3)


def _coarse(ratio: float) -> int:
    from maskjax.masking.cells import coarse_visible

    return coarse_visible(GRID, 2, ratio)


def _tube(ratio: float) -> int:
    from maskjax.masking.video import tube_visible

    return tube_visible((4, 8, 8), ratio)


BLOCK = "from maskjax.masking.blocks import block"
COLORED = "from maskjax.masking.colors import colored"

STRUCTURED = (
    _split(
        SPATIAL,
        "random",
        "MAE (He et al. 2022)",
        "from maskjax.masking import random",
        "random(key, (14, 14), num_visible={visible})",
    ),
    _split(
        SPATIAL,
        "grid",
        "MAE, ablation",
        "from maskjax.masking.grid_cells import grid",
        "grid(key, (14, 14), num_visible={visible})",
        count=_quarters,
    ),
    _split(
        SPATIAL,
        "coarse cells",
        "SimMIM (Xie et al. 2022)",
        "from maskjax.masking.cells import coarse",
        "coarse(key, (14, 14), num_visible={visible}, cell=2)",
        count=_coarse,
        ratio=0.6,
    ),
    _split(
        SPATIAL,
        "blocks, BEiT's law",
        "BEiT (Bao et al. 2022)",
        BLOCK,
        "block(key, (14, 14), num_visible={visible})",
        ratio=0.4,
    ),
    _split(
        SPATIAL,
        "blocks, CAE's law",
        "CAE (Chen et al. 2022)",
        BLOCK,
        'block(key, (14, 14), num_visible={visible}, law="cae")',
        ratio=0.5,
    ),
)


def _colour(color: str, says: str) -> Entry:
    source = f"ColorMAE (Hinojosa et al. 2024): {says}"
    code = f'colored(key, (14, 14), num_visible={{visible}}, color="{color}")'
    return _split(COLOURED, color, source, COLORED, code)


COLOURS = (
    _colour("red", "large blobs"),
    _colour("green", "clusters of middle size"),
    _colour("blue", "spread evenly"),
    _colour("purple", "speckle among blobs"),
    _split(
        COLOURED,
        "green, from a bank",
        "ColorMAE: windows of one bank",
        "import jax\nfrom maskjax.masking.colors import colored_from_bank\n"
        "from maskjax.masking.noise_filters import make_bank",
        'bank = make_bank(jax.random.key(7), "green", shape=(16, 64, 64))\n'
        "colored_from_bank(key, bank, (14, 14), num_visible={visible})",
    ),
)
SAMPLED = "from maskjax.masking.guided import sampled"
MAPS = (
    _split(
        GUIDED,
        "sampled, shown",
        "by attention: MaskAlign (Xue et al. 2023)",
        SAMPLED,
        "sampled(key, weights, num_visible={visible})",
    ),
    _split(
        GUIDED,
        "sampled, hidden",
        "what stands out disappears",
        SAMPLED,
        'sampled(key, weights, num_visible={visible}, favour="hidden")',
    ),
    _split(
        GUIDED,
        "ranked",
        "the highest scores; nothing random",
        "from maskjax.masking.guided import ranked",
        'ranked(weights, num_visible={visible}, favour="hidden")',
        hidden=None,
    ),
    _split(
        GUIDED,
        "easy to hard",
        "HPM (Wang et al. 2023)",
        "from maskjax.masking.guided import easy_to_hard",
        "easy_to_hard(key, weights, num_visible={visible}, num_hard=40)",
    ),
)
CONFIDENCE = "import jax\nfrom maskjax.masking import confidence"
STEPS = (
    Entry(
        IN_TURN,
        "iterative decoding",
        "MaskGIT (2022), ENAT (2024); green: this step",
        CONFIDENCE,
        "score = lambda i: jax.random.gumbel(jax.random.fold_in(key, i), (196,)) - 8 * weights\n"
        "counts = confidence.hidden_counts(196, 8)[: 1 + round(7 * {clear})]\n"
        "split = confidence.all_hidden(196)\n"
        "for i, count in enumerate(counts[:-1]):\n"
        "    split = confidence.reveal(score(i), split, num_hidden=count)\n"
        "split, confidence.reveal(score(8), split, num_hidden=counts[-1])",
        show=shows.revealed_in_turn,
        hidden=lambda pair: hidden_tokens(pair[1]),
        ratio=0.5,
    ),
    Entry(
        IN_TURN,
        "hide, then hide more",
        "ENAT (Ni et al. 2024); orange: the step before",
        CONFIDENCE,
        "hidden = confidence.hide(key, 196, {hidden})\n"
        "other = jax.random.fold_in(key, 1)\n"
        "hidden, confidence.hide_more(other, hidden, 30)",
        show=shows.hidden_in_turn,
        hidden=lambda pair: pair[0].reshape(GRID),
        ratio=0.6,
    ),
    Entry(
        IN_TURN,
        "progressive dropping",
        "Hybrid Distill (Shi et al. 2024); a reconstruction",
        "from maskjax.masking.progressive import keep_counts, progressive",
        "progressive(features, keep_counts(196, {ratio}), noise_or_key=key, num_anchors=32)",
        show=shows.dropped_in_turn,
        hidden=hidden_tokens,
    ),
)
OWNERS = (
    Entry(
        REGIONS,
        "context and targets",
        "I-JEPA (Assran et al. 2023)",
        "from maskjax.masking.multi_blocks import multiblock",
        "multiblock(key, (14, 14))",
        show=shows.context_and_targets,
        hidden=lambda sets: ~sets[0].members(196).reshape(GRID),
    ),
    Entry(
        REGIONS,
        "tokens of boxes",
        "padded sets; ART (2025)",
        "from maskjax.masking.regions import box_shares, region",
        "members = box_shares(boxes, (14, 14), (16, 16)) > 0\n"
        "region(members, max_tokens=64, noise_or_key=key)",
        show=shows.regions,
        ratio=0.0,
    ),
    _split(
        REGIONS,
        "whole regions",
        "semantic masks; a law of ours",
        "from maskjax.masking.regions import hide_regions, segment_shares",
        "owner = segment_shares(segments, (16, 16), num_segments=8).argmax(-2)\n"
        "hide_regions(key, owner, num_visible={visible}, num_regions=8)",
        ratio=0.6,
    ),
)
MANY = (
    Entry(
        SEVERAL,
        "tubes",
        "VideoMAE V2 (Wang et al. 2023), encoder",
        "from maskjax.masking.video import tube",
        "tube(key, (4, 8, 8), num_visible={visible})",
        show=shows.film,
        count=_tube,
        ratio=0.75,
        hidden=lambda split: split.hidden().reshape(4, 8, 8)[0],
    ),
    Entry(
        SEVERAL,
        "running cells",
        "VideoMAE V2, decoder",
        "from maskjax.masking.video import running_cell",
        "running_cell(key, (4, 8, 8), num_visible={visible})",
        show=shows.film,
        count=lambda ratio: _quarters(ratio, 256),
        ratio=0.5,
        hidden=lambda split: split.hidden().reshape(4, 8, 8)[0],
    ),
    Entry(
        SEVERAL,
        "modalities",
        "MultiMAE (Bachmann et al. 2022)",
        "from maskjax.masking.modalities import dirichlet",
        "dirichlet(key, (196, 196, 196, 196), num_visible={visible})",
        show=shows.modalities,
        count=lambda ratio: round(4 * 196 * (1 - ratio)),
        hidden=lambda split: split.hidden().reshape(4, *GRID)[0],
    ),
    Entry(
        SEVERAL,
        "mixed images",
        "MixedAE (Chen et al. 2023)",
        "from maskjax.masking.mixing import groups_mix",
        "groups_mix(key, (14, 14), num_images=4)",
        show=shows.mixed,
        hidden=lambda owner: (owner != 0).reshape(GRID),
    ),
)
ENTRIES = (*STRUCTURED, *COLOURS, *MAPS, *STEPS, *OWNERS)
