"""I2P-MAE: the invariants of its sheet, its 2-D network, official names, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from maskjax import losses
from maskjax.errors import UserError
from maskjax.interop import files
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import LAYOUTS
from maskjax.interop.layouts import i2p_mae as layout
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.point_ops import farthest_points, interpolation, nearest_points, point_levels
from maskjax.targets import point_views
from maskjax.train import fill
from maskjax.train.state import TrainState

NUM_POINTS = 48
SMALL = {
    "num_points": NUM_POINTS,
    "num_groups": (20, 10, 5),
    "group_sizes": (6, 4, 3),
    "encoder": {"dims": (8, 12, 16), "depths": (1, 2, 1), "heads": 2},
    "decoder": {"dims": (16, 12), "depths": (1, 1), "heads": 2, "units": (1,)},
    "mask_ratio": 0.6,
    "image_size": (16, 16),
    "teacher": {
        "file": "random",
        "change": ("dim=8", "depth=2", "heads=2", "mlp_hidden=16", "patch_size=4", "projection=6"),
    },
}
CLOUDS = np.random.default_rng(0).normal(size=(3, NUM_POINTS, 3)).astype(np.float32)
BATCH = {"points": jnp.asarray(CLOUDS), "position": tiny.positions(3)}


def build(**changes):
    return build_method("views.i2p_mae", {**SMALL, **changes}, BATCH)


def draws(num=3, seed=0):
    return Draws.keyed(jax.random.key(seed), jnp.asarray(tiny.positions(num)))


class Made:
    """The method with weights, masked and run once by running statistics."""

    def __init__(self, **changes):
        self.method = build(**changes)
        self.core = self.method.phases[0].fn.__self__
        params, extra = jax.eval_shape(self.method.init, jax.random.key(0), BATCH)
        self.params = tiny.filled(params)
        variance = lambda path, x: jnp.abs(x) + 0.5 if "var" in str(path[-1]) else x  # noqa: E731
        self.extra = jax.tree_util.tree_map_with_path(variance, tiny.filled(extra, 1))
        self.masked = jax.jit(lambda e, b: self.core.masked(e, b, draws()))(self.extra, BATCH)
        self.encode = jax.jit(self.encoded)

    def encoded(self, levels, valid):
        variables = {"params": self.params, "batch_stats": self.extra["batch_stats"]}
        run = lambda model: model.encoder(levels, valid, train=False)  # noqa: E731
        return self.core.model.apply(variables, method=run)


@pytest.fixture(scope="module")
def made():
    return Made()


clouds = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).integers(-9, 10, (1, 24, 3)).astype(np.float32)
)
FARTHEST = jax.jit(lambda points: farthest_points(points, 10))
NEAREST = jax.jit(lambda queries, points: nearest_points(queries, points, 5))


@settings(max_examples=25, deadline=None)
@given(cloud=clouds)
def test_1_farthest_points_spread_out_and_groups_start_with_their_centre(cloud):
    ids = np.asarray(FARTHEST(cloud))[0]
    chosen = cloud[0, ids]
    assert ids[0] == 0 and len(np.unique(ids)) == 10
    gaps = [np.square(chosen[:n] - chosen[n]).sum(-1).min() for n in range(1, 10)]
    assert np.all(np.diff(gaps) <= 0)
    for n in range(1, 10):
        others = np.square(cloud[0][:, None] - chosen[:n]).sum(-1).min(1)
        assert gaps[n - 1] == others.max()
    near = np.asarray(NEAREST(chosen[None], cloud))[0]
    distance = np.square(cloud[0][None] - chosen[:, None]).sum(-1)
    found = np.take_along_axis(distance, near, 1)
    assert np.all(found[:, 0] == 0)
    np.testing.assert_array_equal(found, np.sort(distance, 1)[:, :5])


def test_interpolation_gives_back_the_sources_and_knows_three_neighbours():
    sources = CLOUDS[:, :7]
    weights = np.asarray(interpolation(CLOUDS, sources))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights[:, :7], np.broadcast_to(np.eye(7), (3, 7, 7)), atol=1e-5)
    assert ((weights[:, 7:] > 0).sum(-1) == 3).all()
    squares = np.square(CLOUDS[0, 20] - sources[0]).sum(-1)
    nearest = np.sort(squares)[:3]
    expected = np.sort(1 / nearest / (1 / nearest).sum())
    np.testing.assert_allclose(np.sort(weights[0, 20])[-3:], expected, rtol=1e-4)


@pytest.mark.parametrize("first_token", [False, True])
def test_2_what_is_visible_is_what_visible_groups_are_made_of(made, first_token):
    core = dataclasses.replace(made.core, first_token=first_token)
    levels = jax.jit(core.levels)(BATCH["points"])
    hidden = core.hidden(levels, made.masked.probability, draws())
    visible = [~np.asarray(x) for x in hidden]
    assert (visible[2].sum(1) == 2).all()
    for below, above, level in zip(visible, visible[1:], levels[1:], strict=False):
        for cloud in range(3):
            members = np.unique(np.asarray(level.ids)[cloud][above[cloud]])
            shown = set(members) | ({0} if first_token and cloud == 0 else set())
            assert set(np.flatnonzero(below[cloud])) == shown


def test_3_nothing_leaks_from_hidden_points_into_visible_tokens(made):
    levels, valid = made.masked.levels, made.masked.valid

    def total(levels):
        encoded = made.encoded(levels, valid)
        return sum(
            jnp.where(v[..., None], jnp.sin(x), 0).sum()
            for x, v in zip(encoded, valid, strict=True)
        )

    slopes = jax.jit(jax.grad(total, allow_int=True))(levels)
    for slope, there, name in (
        (slopes[0].offsets, valid[0], "points"),
        *((s.centers, v, "centre") for s, v in zip(slopes, valid, strict=True)),
    ):
        slope = np.abs(np.asarray(slope)).reshape(*slope.shape[:2], -1).max(-1)
        hidden = ~np.pad(np.asarray(there), ((0, 0), (0, slope.shape[1] - there.shape[1])))
        assert hidden.any() and (slope[hidden] == 0).all() and (slope[~hidden] > 0).all(), name


def test_4_the_length_of_the_padding_changes_nothing(made):
    assert made.core.rooms == (20, 6, 2)
    valid = [np.asarray(there) for there in made.masked.valid]
    tight = tuple(int(there.sum(1).max()) for there in valid)
    assert tight[0] < 20

    def run(masked, rooms):
        core = dataclasses.replace(made.core, rooms=rooms)
        output, _ = core._run(made.params, made.extra, masked, draws(), train=True)
        terms = core.compared(masked, output)
        return {name: term.sum / term.weight for name, term in terms.items()}

    results = []
    for rooms in (made.core.rooms, (20, 10, 2), tight):
        pairs = zip(valid, rooms, strict=True)
        padded = (np.pad(there, ((0, 0), (0, 20)))[:, :room] for there, room in pairs)
        masked = made.masked._replace(valid=tuple(map(jnp.asarray, padded)))
        found = jax.jit(run, static_argnums=1)(masked, rooms)
        results.append({name: float(value) for name, value in found.items()})
    for other in results[1:]:
        assert other == {name: pytest.approx(x, rel=1e-4) for name, x in results[0].items()}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_5_the_chamfer_distance(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    assert not np.asarray(losses.chamfer(a, a)).any()
    value = np.asarray(losses.chamfer(a, b))
    np.testing.assert_allclose(value, losses.chamfer(b, a), rtol=1e-6)
    shuffled = losses.chamfer(a[:, rng.permutation(6)], b[:, rng.permutation(6)])
    np.testing.assert_allclose(value, shuffled, rtol=1e-6)
    squares = np.square(a[:, :, None] - b[:, None]).sum(-1)
    expected = squares.min(2).mean(1) + squares.min(1).mean(1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_6_each_loss_has_its_own_tokens_and_none_moves_the_2d_network(made):
    masked, core = made.masked, made.core
    output, _ = core._run(made.params, made.extra, masked, draws(), train=False)
    level, room = masked.levels[1], core.rooms[1]
    shown = np.pad(np.asarray(masked.valid[1]), ((0, 0), (0, 10 - room)))

    def values(level):
        levels = (masked.levels[0], level, masked.levels[2])
        terms = core.compared(masked._replace(levels=levels), output)
        return [float(terms[name].sum) for name in ("points", "semantics")]

    move = lambda where: level._replace(  # noqa: E731
        offsets=jnp.where(where[..., None, None], level.offsets + 1, level.offsets),
        ids=jnp.where(where[..., None], (level.ids + 7) % 20, level.ids),
    )
    before, visible, hidden = values(level), values(move(shown)), values(move(~shown))
    assert visible[0] == before[0] and visible[1] != before[1]
    assert hidden[0] != before[0] and hidden[1] == before[1]

    def look(gain, pictures):  # a 2-D network that would let gradients through
        cells = gain * pictures[:, 2::4, 2::4, :1]
        return jnp.tile(cells, (1, 1, 1, 6)), cells[..., 0]

    semantics = dataclasses.replace(core.semantics, look=look)
    other = dataclasses.replace(core, semantics=semantics)

    def loss(gain, train):
        extra = {**made.extra, "teacher": gain}
        return losses.total(other.terms(made.params, extra, BATCH, draws(), train=train)[0])

    value, slope = jax.jit(jax.value_and_grad(loss), static_argnums=1)(1.5, True)
    assert np.isfinite(value) and slope == 0


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]),
    shift=st.tuples(st.integers(-8, 8), st.integers(-8, 8)),
)
def test_7_pictures_do_not_know_place_and_size(seed, scale, shift):
    cloud = np.random.default_rng(seed).integers(-64, 65, (1, 30, 3)).astype(np.float32) / 64
    moved = cloud * np.float32([scale, scale, 1]) + np.float32([*shift, 0])
    first, second = (np.asarray(PICTURE(c)) for c in (cloud, moved))
    np.testing.assert_array_equal(first, second)
    assert first.min() < 0.5 < first.max()


PICTURE = jax.jit(
    lambda cloud: point_views.depth_picture(cloud, point_views.fit_view(cloud, 24), 24)
)


def test_a_point_is_a_square_of_its_depth_in_the_middle_of_the_picture():
    cloud = jnp.asarray([[[0, 0, 2.0], [1, 0, -3.0], [0, 0, 2.0]]])
    picture = np.asarray(PICTURE(cloud))[0]
    depth = np.log(picture / (1 - picture))
    # The longer side has 24 - 3 cells; what sticks out by one falls on the last row.
    rows = np.flatnonzero(np.abs(depth).sum(1) > 1e-4)
    columns = np.flatnonzero(np.abs(depth).sum(0) > 1e-4)
    assert (rows[0], rows[-1]) == (0, 23) and len(columns) == 5
    np.testing.assert_allclose(depth[:, columns[0]], depth[:, columns[-1]], atol=1e-4)
    np.testing.assert_allclose(depth[2, columns], 4, rtol=1e-3)
    np.testing.assert_allclose(depth.sum(), 25 * (2 - 3 + 2), rtol=1e-3)


def test_values_are_read_where_points_are_drawn():
    cloud = jnp.asarray(CLOUDS)
    view = point_views.fit_view(cloud, 16)
    pixel = np.asarray(point_views.pixel_of(cloud, view))
    assert pixel.min() >= 0 and pixel.max() < 16
    maps = np.random.default_rng(1).normal(size=(3, 16, 16, 2)).astype(np.float32)
    eye = np.eye(16, dtype=np.float32)
    found = np.asarray(point_views.values_at(maps, cloud, view, (eye, eye)))
    expected = np.stack([maps[b, pixel[b, :, 0], pixel[b, :, 1]] for b in range(3)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_8_equal_saliency_gives_every_token_the_same_chance_and_more_gives_more(made):
    num = 3000
    levels = [
        level._replace(ids=jnp.broadcast_to(level.ids[:1], (num, *level.ids.shape[1:])))
        for level in made.core.levels(BATCH["points"][:1])
    ]

    @jax.jit
    def shares(saliency):
        probability = jnp.broadcast_to(jax.nn.softmax(saliency), (num, 5))
        return (~made.core.hidden(levels, probability, draws(num))[-1]).mean(0)

    equal = np.asarray(shares(jnp.zeros(5)))
    np.testing.assert_allclose(equal, 0.4, atol=4 * np.sqrt(0.24 / num))
    raised = np.asarray(shares(jnp.zeros(5).at[3].set(1.0)))
    # Drawn first with e / (e + 4), or second behind one of the four.
    first = np.e / (np.e + 4)
    expected = first + (1 - first) * np.e / (np.e + 3)
    np.testing.assert_allclose(raised[3], expected, atol=4 * np.sqrt(0.24 / num))


def test_the_teacher_is_a_clip_file_and_gives_projected_patches(made, tmp_path):
    look, extra = made.core.semantics.look, made.extra
    g = look.teacher.geometry
    path = tmp_path / "clip.safetensors"
    files.write(path, to_torch(extra["teacher"], LAYOUTS["clip"](g)), {})
    config = ConfigDict({"init_from": "", "model": {**SMALL, "teacher": {}}})
    from maskjax import options

    config.model.teacher = {
        **options.TEACHER,
        **SMALL["teacher"],
        "name": "clip_b16",
        "file": str(path),
    }
    other = {**extra, "teacher": jax.tree.map(jnp.zeros_like, extra["teacher"])}
    state = fill.fill(TrainState(jnp.int32(0), made.params, {}, other), made.method, config)
    jax.tree.map(np.testing.assert_array_equal, state.extra["teacher"], extra["teacher"])
    pictures = jnp.asarray(tiny.images(2, (16, 16)), jnp.float32) / 64 - 2
    features, saliency = jax.jit(look)(extra["teacher"], pictures)
    assert features.shape == (2, 4, 4, 6) and saliency.shape == (2, 4, 4)
    assert (np.asarray(saliency).sum((1, 2)) < 1).all() and (np.asarray(saliency) > 0).all()


def test_official_names_both_ways(made):
    tree = {"params": made.params, "batch_stats": made.extra["batch_stats"]}
    rules = layout.rules(3, (1,))
    arrays = to_torch(tree, rules)
    again = from_torch(
        {**arrays, "clip_model.x": np.zeros(1)}, rules, tree, allow_unused=layout.UNUSED
    )
    jax.tree.map(np.testing.assert_array_equal, again, tree)
    assert arrays["h_encoder.token_embed.0.second_conv.0.weight"].shape == (512, 512, 1)


def test_features_and_completed_clouds(made):
    run = lambda name: jax.jit(  # noqa: E731
        lambda p, e: made.method.predict[name](p, e, BATCH, draws())
    )(made.params, made.extra)
    found, completed = run("encode"), run("complete")
    np.testing.assert_array_equal(found["cls"], found["tokens"].max(1))
    assert found["cls"].shape == (3, 16) and completed["prediction"].shape == (3, 10, 4, 3)
    nearest = np.abs(np.asarray(completed["target"]) - np.asarray(completed["centers"])[:, :, None])
    np.testing.assert_allclose(nearest[:, :, 0], 0, atol=1e-6)
    assert (np.asarray(completed["hidden"]).sum(1) >= 4).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_points": 47}, "config.model.num_points = 47: the data has clouds of"),
        ({"num_groups": (20, 30, 5)}, "config.model.num_groups = .*must not rise"),
        ({"group_sizes": (6, 4)}, "config.model.group_sizes"),
        ({"group_sizes": (6, 40, 3)}, "config.model.group_sizes"),
        ({"mask_ratio": 0.1}, "config.model.mask_ratio = 0.1: must hide some of the 5"),
        ({"mask_ratio": 1.0}, "config.model.mask_ratio"),
        ({"encoder": {"heads": 3}}, "config.model.encoder.heads = 3"),
        ({"encoder": {"depths": (1, 1)}}, "config.model.encoder.depths"),
        ({"decoder": {"dims": (12, 12)}}, "must start with the encoder's last width 16"),
        ({"decoder": {"units": ()}}, "config.model.decoder.units"),
        ({"image_size": (16, 24)}, "config.model.image_size"),
        ({"mean": (0.5,)}, r"config.model.mean = \(0.5,\): needs 3 channels"),
        ({"teacher": {**SMALL["teacher"], "mean": (0.5,) * 3}}, "config.model.teacher.mean"),
        ({"drop_path": 1.0}, "config.model.drop_path"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(changes, message):
    for name in ("encoder", "decoder"):
        changes = {**changes, name: {**SMALL[name], **changes.get(name, {})}}
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_data_of_images_is_refused():
    with pytest.raises(UserError, match="trains on points"):
        build_method("views.i2p_mae", SMALL, tiny.batch(2))


def test_levels_of_copies_of_one_point():
    levels = point_levels(jnp.ones((1, 8, 3)), (4, 2), (3, 2))
    assert all(not np.asarray(level.offsets).any() for level in levels)
