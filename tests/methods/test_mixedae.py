"""MixedAE: the invariants of mixing, homologous attention, and the two losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax import build as building
from maskjax import losses
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.losses import supervised_contrastive
from maskjax.masking import Draws, TokenSplit, attend, mixing, tokens
from maskjax.method import build_method
from maskjax.nn.attention import attention_weights

BATCH = tiny.batch(8)
IMAGE = jnp.asarray((BATCH["image"] / 255 - 0.45) / 0.22, jnp.float32)
NOISE = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 16)), jnp.float32)


def build(**model):
    return build_method("mim.mixedae", {**tiny.MODEL, **model}, BATCH)


def terms(method, params, image, noise):
    draws = Draws.replay({"mask": noise})
    return method.phases[0].fn(params, {}, {"image": image}, draws, 0, None)[0]


@pytest.fixture(scope="module")
def mixed():
    return build()


@pytest.fixture(scope="module")
def params(mixed):
    return tiny.params(mixed, BATCH)


@pytest.fixture(scope="module")
def reconstruct(mixed):
    def run(params, image, noise):
        draws = Draws.replay({"mask": noise})
        return mixed.predict["reconstruct"](params, {}, {"image": image}, draws)

    return jax.jit(run)


@pytest.fixture(scope="module")
def both(mixed):
    """(params, image, noise) -> the two losses."""

    def run(params, image, noise):
        found = terms(mixed, params, image, noise)
        return {name: losses.total({name: term}) for name, term in found.items()}

    return jax.jit(run)


def test_1_the_visible_sets_of_a_group_partition_the_places(reconstruct, params):
    seen = reconstruct(params, IMAGE, NOISE)
    visible = ~np.asarray(seen["hidden"]).reshape(2, 4, 16)
    assert (visible.sum(1) == 1).all()
    assert (visible.sum(2) == 4).all()
    owner = np.asarray(mixing.groups_mix(NOISE[::4], 16, num_images=4))
    np.testing.assert_array_equal(seen["owner"][::4], owner)
    np.testing.assert_array_equal(mixing.hidden_of(owner, 4), ~visible)


def test_2_a_place_depends_on_its_own_image_only(reconstruct, params):
    """The mixed image, and what every image is asked to predict, by changing one image."""
    other = IMAGE.at[1].set(-IMAGE[1])
    before, after = (reconstruct(params, image, NOISE) for image in (IMAGE, other))
    changed = np.asarray(before["mixed"][0] != after["mixed"][0]).any(-1)
    cells = changed.reshape(4, 2, 4, 2).any((1, 3)).reshape(-1)
    np.testing.assert_array_equal(cells, np.asarray(before["owner"][0]) == 1)
    # Another group sees nothing of it.
    np.testing.assert_array_equal(before["prediction"][4:], after["prediction"][4:])


def test_kin_is_the_share_of_nearest_tokens_of_the_same_image(mixed):
    kin = mixed.predict["reconstruct"].__self__._kin
    # 16 tokens, 4 an image: those of an image point the same way, or every way alike.
    apart = jnp.repeat(jnp.eye(4), 4, axis=0)
    front = jnp.ones((1, 4))
    assert kin(jnp.concatenate([front, apart])[None])[0] == 1
    spread = jnp.tile(jnp.eye(4), (4, 1))
    assert kin(jnp.concatenate([front, spread])[None])[0] == 0
    random = np.random.default_rng(0).normal(size=(200, 17, 8))
    assert float(kin(jnp.asarray(random)).mean()) == pytest.approx(3 / 15, abs=0.02)
    assert kin(3 * jnp.asarray(random)).mean() == kin(jnp.asarray(random)).mean()


def test_2_no_image_sees_its_hidden_pixels(mixed, params):
    def total(image):
        draws = Draws.replay({"mask": NOISE})
        seen = mixed.predict["reconstruct"](params, {}, {"image": image}, draws)
        return jnp.square(seen["prediction"]).sum(), seen["hidden"]

    gradient, hidden = jax.jit(jax.grad(total, has_aux=True))(IMAGE)
    cells = np.asarray(hidden).reshape(8, 4, 4).repeat(2, 1).repeat(2, 2)
    assert (np.asarray(gradient)[cells] == 0).all()
    assert (np.asarray(gradient)[~cells] != 0).any(-1).all()


@given(st.integers(0, 99), st.integers(1, 9), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_3_a_query_keeps_exactly_its_best_keys(seed, num_keep, num_prefix):
    scores = np.random.default_rng(seed).normal(size=(2, 9 + num_prefix, 9 + num_prefix))
    allow = np.asarray(attend.keep_largest(jnp.asarray(scores), num_keep, num_prefix=num_prefix))
    assert allow[:, :num_prefix].all()
    assert allow[..., :num_prefix].all()
    own, kept = scores[:, num_prefix:, num_prefix:], allow[:, num_prefix:, num_prefix:]
    assert (kept.sum(-1) == num_keep).all()
    lowest = np.where(kept, own, np.inf).min(-1)
    assert (np.where(kept, -np.inf, own).max(-1) < lowest).all()


def test_3_dropped_scores_have_no_weight_and_no_gradient():
    rng = np.random.default_rng(3)
    query, key = (jnp.asarray(rng.normal(size=(1, 1, 6, 4)), jnp.float32) for _ in range(2))
    allow = attend.keep_largest(query @ key.swapaxes(-1, -2), 2)
    weights = attention_weights(query, key, allow)
    assert ((weights > 0) == allow).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    pick = jnp.asarray(rng.normal(size=(6, 6)), jnp.float32)
    gradient = jax.grad(lambda bias: (attention_weights(query, key, allow, bias) * pick).sum())
    assert ((np.asarray(gradient(jnp.zeros((1, 1, 6, 6)))) != 0) == np.asarray(allow)).all()
    with pytest.raises(ValueError, match=r"num_keep must lie in 1\.\.6"):
        attend.keep_largest(jnp.zeros((6, 6)), 7)


def test_3_all_keys_is_plain_attention(params):
    """And so are layers that are not named."""
    plain, named = build(keep=16), build(homologous_layers=(1,), keep=2)
    every = build(keep=2)
    found = [
        float(losses.total(jax.jit(lambda p, m=m: terms(m, p, IMAGE, NOISE))(params)))
        for m in (plain, named, every)
    ]
    assert len(set(found)) == 3
    without = build(homologous_layers=(0, 1), keep=2)
    same = jax.jit(lambda p: terms(without, p, IMAGE, NOISE))(params)
    assert float(losses.total(same)) == pytest.approx(found[2], rel=1e-5)


def test_4_one_image_a_group_is_encoded_but_hides_nothing():
    method = build(group=1)
    with pytest.raises(UserError, match=r"config\.model\.group = 1: hides nothing"):
        jax.eval_shape(
            lambda p: terms(method, p, IMAGE, NOISE),
            jax.eval_shape(method.init, jax.random.key(0), BATCH)[0],
        )


def test_5_relabelling_the_images_of_a_group_changes_nothing(both, reconstruct, params):
    """Images, their shares of the noise and segment rows, moved together."""
    order = np.array([2, 0, 3, 1])
    image = IMAGE.at[:4].set(IMAGE[:4][order])
    rank = np.argsort(np.argsort(NOISE[0]))  # place -> rank; share i belongs to image i
    share, within = rank // 4, rank % 4
    moved = np.argsort(order)[share] * 4 + within
    noise = NOISE.at[:4].set(jnp.asarray(moved / 16, jnp.float32))
    rows = {**params, "segment_embed": params["segment_embed"][order]}
    noise = jnp.concatenate([noise[:4]] * 2)
    image, original = jnp.concatenate([image[:4]] * 2), jnp.concatenate([IMAGE[:4]] * 2)
    first = both(params, original, jnp.concatenate([NOISE[:4]] * 2))
    second = both(rows, image, noise)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=2e-5)
    pictures = reconstruct(params, original, jnp.concatenate([NOISE[:4]] * 2))["prediction"]
    again = reconstruct(rows, image, noise)["prediction"]
    np.testing.assert_allclose(pictures[:4][order], again[:4], rtol=1e-3, atol=1e-4)


def test_6_the_contrastive_loss_ignores_scale_and_names():
    rng = np.random.default_rng(4)
    z, owner = rng.normal(size=(2, 12, 5)), rng.integers(0, 3, (2, 12))
    loss = supervised_contrastive(z, owner, 0.25)
    scaled = supervised_contrastive(z * rng.uniform(1, 9, (2, 12, 1)), owner, 0.25)
    np.testing.assert_allclose(loss, scaled, rtol=1e-5)
    np.testing.assert_allclose(loss, supervised_contrastive(z, (owner + 1) % 3, 0.25), rtol=1e-6)
    equal = supervised_contrastive(np.ones((1, 16, 5)), np.arange(16)[None] % 4, 0.25)
    np.testing.assert_allclose(equal, np.log(15), rtol=1e-5)
    alone = supervised_contrastive(z[:, :3], np.arange(3)[None].repeat(2, 0), 0.25)
    np.testing.assert_array_equal(alone, 0)


def test_7_without_its_own_parts_the_decoder_is_maes(mixed, params):
    """One group of one image's patches: plain attention, no segments, the same visible tokens."""
    plain = build(group=4, keep=16, contrastive=0.0)
    # Four times the same image: its four shares are all its patches, so the encoder sees it whole.
    image = jnp.concatenate([jnp.repeat(IMAGE[:1], 4, 0)] * 2)
    weights = {**params, "segment_embed": jnp.zeros_like(params["segment_embed"])}
    found = jax.jit(
        lambda p: plain.predict["reconstruct"](
            p, {}, {"image": image}, Draws.replay({"mask": NOISE})
        )
    )(weights)
    whole = build_method("mim.mae", {**tiny.MODEL, "mask_ratio": 0.0}, BATCH)
    parts = {name: params[name] for name in ("encoder", "decoder")}
    latent = whole.predict["encode"](parts, {}, {"image": image[:1]}, None)
    split = TokenSplit(jnp.argsort(found["hidden"][0], stable=True)[None], (4,))
    visible = tokens.gather(latent["tokens"], split.visible_ids)
    decoder = mixed.phases[0].fn.__self__.model
    prediction, _ = decoder.apply(
        {"params": weights},
        jnp.concatenate([latent["cls"][:, None], visible], 1),
        split,
        method=lambda m, x, s: m.decoder(x, s),
    )
    hidden = np.asarray(found["prediction"][0])[np.asarray(split.hidden_ids[0])]
    np.testing.assert_allclose(prediction[0], hidden, rtol=1e-3, atol=1e-4)


def test_features_of_single_images_need_no_group(mixed, params):
    one = mixed.predict["encode"](params, {}, {"image": IMAGE[:1]}, None)
    all_of_them = mixed.predict["encode"](params, {}, {"image": IMAGE}, None)
    np.testing.assert_allclose(one["mean"][0], all_of_them["mean"][0], rtol=1e-4, atol=1e-5)
    odd = mixed.predict["reconstruct"](
        params, {}, {"image": IMAGE[:3]}, Draws.replay({"mask": NOISE[:3]})
    )
    assert odd["pixels"].shape == odd["mixed"].shape == (3, 8, 8, 3)


def test_a_group_never_straddles_devices():
    overrides = ["--config.model.group=4", "--config.data.global_batch=16"]
    config, _ = load_config("mim/mixedae:tiny", overrides)
    with pytest.raises(UserError, match=r"global_batch = 16: .* multiple of 32 .* groups of 4"):
        building.experiment(config, 100).step()


ERRORS = {
    r"config\.model\.group = 3: must divide the 16 patches": {"group": 3},
    r"config\.model\.group = 0": {"group": 0},
    r"config\.model\.keep = 17": {"keep": 17},
    r"config\.model\.homologous_layers = \(2,\): must lie in 0\.\.1": {"homologous_layers": (2,)},
    r"config\.model\.temperature = 0": {"temperature": 0.0},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])
