"""Generators for the shared tests: coloured, guided, modalities, mixing, decoding, dropping."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maskjax.masking import TokenSplit, colors, confidence, guided, mixing, modalities, progressive
from maskjax.masking.noise_filters import make_bank

GRID, NUM, VISIBLE = (5, 6), 30, 8
MODALITIES = (10, 10, 10)
KEEP = (15, 8)


class Generator(NamedTuple):
    """One row of the table.

    Attributes:
        draw: key -> what the generator returns for one example.
        hidden: that -> bool[N].
        num_hidden: how many tokens must be hidden.
        slack: allowed deviation of a position's share of being hidden from the mean, beside the
            sampling error.
    """

    draw: Callable[[jax.Array], Any]
    hidden: Callable[[Any], jax.Array] = TokenSplit.hidden
    num_hidden: int = NUM - VISIBLE
    slack: float = 0.0


def weights_of(key, shape=(NUM,)):
    return jax.random.uniform(jax.random.fold_in(key, 7), shape)


def colored(color, edges="wrap", slack=0.0):
    options = {"num_visible": VISIBLE, "color": color, "edges": edges}
    return Generator(lambda key: colors.colored(key, GRID, **options), slack=slack)


def from_bank(key):
    bank = make_bank(jax.random.key(0), "green", shape=(6, 32, 32))
    return colors.colored_from_bank(key, bank, GRID, num_visible=VISIBLE)


def sampled(favour):
    def draw(key):
        return guided.sampled(key, weights_of(key), num_visible=VISIBLE, favour=favour)

    return Generator(draw)


def easy_to_hard(key):
    number = jax.random.randint(jax.random.fold_in(key, 9), (), 0, 12)
    return guided.easy_to_hard(key, weights_of(key), num_visible=VISIBLE, num_hard=number)


def dirichlet(**options):
    return lambda key: modalities.dirichlet(key, MODALITIES, num_visible=VISIBLE, **options)


def revealed(key):
    split = confidence.all_hidden(NUM)
    for step, count in enumerate((26, 22)):
        score = weights_of(jax.random.fold_in(key, step))
        split = confidence.reveal(score, split, num_hidden=count)
    return split


def hidden_more(key):
    first = confidence.hide(key, NUM, 10)
    return confidence.hide_more(jax.random.fold_in(key, 1), first, 12)


def dropped(**options):
    def draw(key):
        noise = key if options else None
        features = jax.random.normal(jax.random.fold_in(key, 7), (2, NUM, 4))
        return progressive.progressive(list(features), KEEP, noise_or_key=noise, **options)

    return draw


GENERATORS = {
    **{f"colored {color}": colored(color) for color in ("white", "red", "purple")},
    # Ranks in a small window are a little uneven; a bank is finite, so its places differ too.
    "colored green, cropped": colored("green", "crop", 0.04),
    "colored from a bank": Generator(from_bank, slack=0.08),
    "sampled visible": sampled("visible"),
    "sampled hidden": sampled("hidden"),
    "ranked": Generator(lambda key: guided.ranked(weights_of(key), num_visible=VISIBLE)),
    "easy to hard": Generator(easy_to_hard),
    "dirichlet": Generator(dirichlet()),
    "dirichlet subsets": Generator(dirichlet(subsets=True, alpha=(0.5, 0.5, 0.5))),
    "groups mix": Generator(
        lambda key: mixing.groups_mix(key, GRID, num_images=4),
        hidden=lambda owner: mixing.hidden_of(owner, 4)[0],
    ),
    "decoding": Generator(revealed),
    "hide": Generator(lambda key: confidence.hide(key, NUM, 22), hidden=jnp.asarray),
    "hide more": Generator(hidden_more, hidden=jnp.asarray),
    "progressive": Generator(dropped()),
    "progressive with anchors": Generator(dropped(num_anchors=5)),
}


def infeasible():
    """{what is asked: (generator call, what the error says)}."""
    key = jax.random.key(0)
    noise = jnp.zeros(NUM)
    bank = jnp.zeros((2, 4, 4))
    features = [jnp.ones((NUM, 2))] * 2
    ratio = lambda **options: confidence.hidden_counts(**{"num_tokens": 8, **options})  # noqa: E731
    visible = {"num_visible": 31}
    return {
        "too many visible, colored": (lambda: colors.colored(key, GRID, **visible), "30 tokens"),
        "color": (lambda: colors.colored(key, GRID, num_visible=3, color="pink"), "'pink'"),
        "sigmas, number": (lambda: make_bank(key, "green", sigmas=(1.0,)), "two positive, rising"),
        "sigmas, order": (lambda: make_bank(key, "green", sigmas=(2.0, 1.0)), "rising"),
        "sigmas, sign": (lambda: make_bank(key, "red", sigmas=(-1.0,)), "one positive"),
        "edges": (lambda: colors.canvas(GRID, "red", edges="mirror"), "'mirror'"),
        "small bank": (
            lambda: colors.colored_from_bank(key, bank, GRID, num_visible=3),
            "does not fit",
        ),
        "too many visible, sampled": (lambda: guided.sampled(key, noise, **visible), "30 tokens"),
        "too many visible, ranked": (lambda: guided.ranked(noise, **visible), "30 tokens"),
        "favour": (lambda: guided.ranked(noise, num_visible=3, favour="both"), "'both'"),
        "too many hard": (
            lambda: guided.easy_to_hard(key, noise, num_visible=8, num_hard=23),
            "num_hard is 23 but 22 of 30",
        ),
        "hard share": (lambda: guided.hard_counts(5, 10, end=1.5), "end=1.5"),
        "too many visible, modalities": (
            lambda: modalities.dirichlet(key, MODALITIES, **visible),
            "30 tokens",
        ),
        "alpha": (
            lambda: modalities.dirichlet(key, MODALITIES, num_visible=8, alpha=0.0),
            "alpha must be positive",
        ),
        "no modality": (lambda: modalities.dirichlet(key, (), num_visible=0), "at least one"),
        "too many images": (lambda: mixing.groups_mix(key, 4, num_images=5), "1..4"),
        "no image": (lambda: mixing.groups_mix(key, 4, num_images=0), "1..4"),
        "schedule": (lambda: ratio(num_steps=3, schedule="sine"), "'sine'"),
        "no step": (lambda: ratio(num_steps=0), "at least 1"),
        "strict": (lambda: ratio(num_steps=9, strict=True), "take fewer steps"),
        "more hidden than before": (
            lambda: confidence.reveal(noise, confidence.all_hidden(NUM), num_hidden=31),
            "0..30",
        ),
        "hide": (lambda: confidence.hide(key, NUM, 31), "0..30"),
        "hide more": (lambda: confidence.hide_more(key, noise > 0, -1), "0..30"),
        "rising counts": (lambda: progressive.progressive(features, (3, 4)), "must not rise"),
        "counts": (lambda: progressive.progressive(features, (3,)), "2 features for 1 points"),
        "anchors without noise": (
            lambda: progressive.progressive(features, (4, 3), num_anchors=2),
            "needs noise_or_key",
        ),
        "keep ratio": (lambda: progressive.keep_counts(8, 1.0), "hidden share"),
    }
