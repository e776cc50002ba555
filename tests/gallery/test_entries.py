"""The table of drawings: complete, runs as shown, exact."""

import ast
import itertools
import math

import jax
import numpy as np
import pytest

from maskjax.gallery import shows
from maskjax.gallery.build import RATIOS
from maskjax.gallery.entries import ENTRIES
from maskjax.gallery.entry import IMPORTS, run, sample
from maskjax.gallery.scene import NAMES, make_scene
from maskjax.masking import TokenSplit

# Generators and masks that the issue of the library asks for; operations follow below.
DRAWN = {
    *("random", "block", "grid", "multiblock", "center_out", "box", "irregular", "tube"),
    *("running_cell", "colored", "colored_from_bank", "sampled", "ranked", "easy_to_hard"),
    *("coarse", "dirichlet", "groups_mix", "region", "hide_regions", "reveal", "hide_more"),
    *("progressive", "causal", "soft_causal", "gaussian_mixture", "key_masked_attention"),
    *("chunk_causal", "valid_keys", "unblock_empty"),
}
OPERATIONS = {
    *("dilate", "erode", "outline", "fill_holes", "to_mask", "pyramid", "masked_conv"),
    *("partial_conv", "densify", "neighbour_fill", "masked_max_pool", "key_bias"),
    *("distance_decay", "same_owner"),
}


@pytest.fixture(scope="module")
def scene():
    return make_scene()


def called(code: str) -> set[str]:
    """Last parts of the names of all functions that are called."""
    calls = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return {ast.unparse(name).rsplit(".", 1)[-1] for name in calls}


def test_every_generator_and_operation_is_drawn():
    found = set().union(*(called(entry.text(entry.ratio)) for entry in ENTRIES))
    assert (DRAWN | OPERATIONS) - found == set()
    assert len({entry.title for entry in ENTRIES}) == len(ENTRIES)


def test_families_stand_together():
    order = [entry.family for entry in ENTRIES]
    assert len(set(order)) == 1 + sum(a != b for a, b in itertools.pairwise(order))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_the_picture_is_what_the_shown_code_gives(entry, scene):
    seeds = (0, 3)
    results = sample(entry, [entry.ratio], scene, seeds)[entry.text(entry.ratio)]
    for result, seed in zip(results, seeds, strict=True):
        picture = entry.show(result, scene, seed)
        if picture.image is not None:
            assert picture.image.shape == (112, 112, 3) and picture.image.dtype == np.uint8
            continue
        assert picture.cells.max() < len(picture.styles) <= 16
        assert {style.base for style in picture.styles} <= {"", *scene.bases}
        if isinstance(result, TokenSplit):
            assert result.num_visible == entry.count(entry.ratio) or len(result.cuts) > 1
            assert (shows.parts(result) > 0).sum() == result.num_hidden


@pytest.mark.parametrize("ratio", RATIOS)
def test_every_position_of_the_slider_is_feasible(ratio, scene):
    """Traced only, which is when what is infeasible is refused."""
    names = jax.tree.map(jax.numpy.asarray, scene.names)
    for entry in ENTRIES:
        jax.eval_shape(entry.function(ratio), jax.random.key(0), names)


@pytest.mark.parametrize("title", ["coarse cells", "tokens of boxes", "densify"])
def test_a_reader_gets_the_same(title, scene):
    """Pasting imports and code, with the names of the page defined, without jit or vmap."""
    entry = next(entry for entry in ENTRIES if entry.title == title)
    names = {**jax.tree.map(jax.numpy.asarray, scene.names), "key": jax.random.key(3)}
    pasted = run(f"{IMPORTS}\n{entry.text(0.6)}", names)
    drawn = sample(entry, [0.6], scene, [3])[entry.text(0.6)][0]
    jax.tree.map(np.testing.assert_array_equal, pasted, drawn)


def test_codes_use_only_names_that_the_page_explains():
    given = set(NAMES) | {"jax", "jnp", "masking", "make_bank", "window"}
    given |= {alias.name for node in ast.parse(IMPORTS).body for alias in node.names}
    for entry in ENTRIES:
        nodes = [n for n in ast.walk(ast.parse(entry.text(0.6))) if isinstance(n, ast.Name)]
        made = {node.id for node in nodes if isinstance(node.ctx, ast.Store)} | {"i"}
        used = {node.id for node in nodes if isinstance(node.ctx, ast.Load)}
        assert used - made - given <= {"round", "enumerate"}


def test_the_call_is_the_last_expression():
    entry = next(entry for entry in ENTRIES if entry.title == "dilate")
    assert entry.call(0.4) == "morphology.dilate(hole, 9)"
    with pytest.raises(ValueError, match="must be an expression"):
        run("a = 1", {})


def test_the_scene_is_alike_every_time_and_of_any_picture(scene):
    again = make_scene()
    jax.tree.map(np.testing.assert_array_equal, scene.names, again.names)
    assert scene.names["weights"].shape == (math.prod(shows.GRID),)
    assert set(scene.names) == set(NAMES) - {"key"}
    tiny = make_scene(np.full((3, 5, 3), 7, np.uint8))
    assert tiny.bases["photo"].shape == (224, 224, 3)
    assert np.isfinite(tiny.names["weights"]).all()
