"""One drawing of the gallery: the text of a call, which is what is run, and how to show it."""

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from maskjax.gallery.scene import GRID, Scene
from maskjax.gallery.shows import Picture

# What stands in front of every code; a module is named where `masking` itself does not offer it.
IMPORTS = """\
import jax
import jax.numpy as jnp
from maskjax import masking
from maskjax.masking import (
    attend, attention_ops, boxes, confidence, conv, morphology, neighbour,
    patches, pool, progressive, pyramid, regions,
)
from maskjax.masking.noise_filters import make_bank
from maskjax.masking.windows import window"""


def visible_of(ratio: float) -> int:
    """Visible ones of 196 tokens at a hidden share, as MAE counts them."""
    from maskjax.masking import count_visible

    return count_visible(math.prod(GRID), ratio)


def hidden_tokens(split: Any) -> Any:
    """A TokenSplit of the photograph -> bool[14, 14]."""
    return split.hidden().reshape(GRID)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A drawing.

    Attributes:
        family: heading under which it stands.
        title: what it is.
        source: where the law comes from.
        code: Python, after `IMPORTS`; its last line is an expression, the call. {visible} and
            {hidden} stand for numbers of tokens, {ratio} and {clear} for the hidden share and the
            rest.
        show: (result as numpy arrays, scene, seed) -> Picture.
        count: hidden share -> what {visible} stands for.
        ratio: hidden share on the sheet.
        hidden: result -> bool[rows, columns] for the coverage map; None without one.
        matrix: result -> float[Q, K] in 0..1 that is drawn small beside; None without one.
        num_keys: keys of the coverage map.
    """

    family: str
    title: str
    source: str
    code: str
    show: Callable[[Any, Scene, int], Picture]
    count: Callable[[float], int] = visible_of
    ratio: float = 0.75
    hidden: Callable[[Any], Any] | None = None
    matrix: Callable[[Any], Any] | None = None
    num_keys: int = 2048

    def text(self, ratio: float) -> str:
        """The code at a hidden share, without `IMPORTS`."""
        visible, num_tokens = self.count(ratio), math.prod(GRID)
        numbers = {"visible": visible, "hidden": num_tokens - visible, "ratio": ratio}
        return self.code.format(**numbers, clear=round(1 - ratio, 2))

    def call(self, ratio: float) -> str:
        """The last expression of the code alone, or of several the last one."""
        text = self.text(ratio)
        node = ast.parse(text).body[-1].value
        return ast.get_source_segment(text, node.elts[-1] if isinstance(node, ast.Tuple) else node)

    @property
    def random(self) -> bool:
        """Whether the code uses the key."""
        return re.search(r"\bkey\b", self.code) is not None

    def function(self, ratio: float) -> Callable[[Any, Mapping[str, Any]], Any]:
        """(key, arrays of the scene) -> result: runs the very text that is shown."""
        text = f"{IMPORTS}\n{self.text(ratio)}"
        return lambda key, names: run(text, {**names, "key": key})


def run(text: str, names: Mapping[str, Any]) -> Any:
    """Runs Python text and returns the value of its last line, an expression."""
    *body, last = ast.parse(text).body
    if not isinstance(last, ast.Expr):
        raise ValueError(f"the last line of a gallery entry must be an expression:\n{text}")
    space = dict(names)
    exec(compile(ast.Module(body, []), "<gallery>", "exec"), space)
    return eval(compile(ast.Expression(last.value), "<gallery>", "eval"), space)


def sample(
    entry: Entry, ratios: Sequence[float], scene: Scene, seeds: Sequence[int]
) -> dict[str, list[Any]]:
    """What the code gives, as numpy arrays: {text: results for `jax.random.key(seed)`}.

    Ratios whose text is the same share an entry.
    """
    import jax
    import jax.numpy as jnp

    at = {entry.text(ratio): ratio for ratio in ratios}
    fns = {text: entry.function(ratio) for text, ratio in at.items()}
    names = jax.tree.map(jnp.asarray, scene.names)
    if not entry.random:
        found = {text: jax.tree.map(np.asarray, fn(None, names)) for text, fn in fns.items()}
        return {text: [result] * len(seeds) for text, result in found.items()}

    @jax.jit  # one program for all ratios, which have nearly everything in common
    def batch(keys, names):
        return {t: jax.vmap(lambda key, fn=fn: fn(key, names))(keys) for t, fn in fns.items()}

    keys = jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))
    results = jax.tree.map(np.asarray, batch(keys, names))
    one = lambda result, i: jax.tree.map(lambda leaf: leaf[i], result)  # noqa: E731
    return {text: [one(r, i) for i in range(len(seeds))] for text, r in results.items()}
