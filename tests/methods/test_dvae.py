"""The discrete VAE: its two terms, its schedules, and what it gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import Schedule, build_method

BATCH = tiny.batch(4)
MODEL = {
    "image_size": (8, 8),
    "vocab": 5,
    "width": 8,
    "groups": 2,
    "blocks": 1,
    "kl_weight": 2.0,
    "kl_steps": 10,
    "temperature_steps": 10,
}


def build(**model):
    return build_method("generate.dvae", {**MODEL, **model}, BATCH, Schedule(20, 1.0))


@pytest.fixture(scope="module")
def dvae():
    return build(marginal_weight=3.0)


@pytest.fixture(scope="module")
def params(dvae):
    return tiny.params(dvae, BATCH)


@pytest.fixture(scope="module")
def loss(dvae):
    def run(params, step, noise):
        draws = Draws.replay({"tokens": noise})
        return dvae.phases[0].fn(params, {}, BATCH, draws, step, None)

    return jax.jit(run)


NOISE = jnp.asarray(np.random.default_rng(0).gumbel(size=(4, 4, 4, 5)), jnp.float32)


def test_the_terms_are_those_of_the_formula(dvae, loss, params):
    tokenizer = dvae.phases[0].fn.__self__.tokenizer
    image = 0.8 * jnp.float32(BATCH["image"]) / 255 + 0.1
    logits, _ = tokenizer.encoder.apply({"params": params["encoder"]}, image)
    relaxed = jax.nn.softmax((logits + NOISE) / 0.0625)
    location, log_scale = tokenizer.decoder.apply({"params": params["decoder"]}, relaxed)
    scale, logit = jnp.exp(log_scale), jnp.log(image / (1 - image))
    density = jnp.exp(-jnp.abs(logit - location) / scale) / (2 * scale * image * (1 - image))
    shares = np.asarray(jax.nn.softmax(logits))
    mean = shares.mean((0, 1, 2))
    expected = {
        "likelihood": (-jnp.log(density)).mean(),
        "divergence": (shares * np.log(5 * shares)).sum() / image.size,
        "marginal": (mean * np.log(5 * mean)).sum() * 4 * 16 / image.size,
    }
    terms, _ = loss(params, jnp.int32(10), NOISE)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        found = losses.total({name: terms[name]._replace(coefficient=1.0)})
        assert float(found) == pytest.approx(float(value), rel=1e-4), name
    # The mean divergence is what tokens tell of images plus that of the mean distribution.
    assert 0 <= expected["marginal"] <= expected["divergence"]


def test_temperature_and_weight_follow_half_a_cosine(loss, params):
    found = []
    for step in (0, 5, 10, 15):
        terms, aux = loss(params, jnp.int32(step), NOISE)
        temperature = aux["temperature"].sum / aux["temperature"].count
        found.append((float(temperature), float(terms["divergence"].coefficient)))
    np.testing.assert_allclose(
        found, [(1, 0), (0.53125, 1), (0.0625, 2), (0.0625, 2)], rtol=1e-5, atol=1e-6
    )


def test_both_networks_learn(loss, params):
    gradient = jax.jit(jax.grad(lambda p: losses.total(loss(p, jnp.int32(5), NOISE)[0])))(params)
    for part in ("encoder", "decoder"):
        assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradient[part]))


def test_reconstructions_come_from_the_most_likely_tokens(dvae, params):
    found, ids, tokens = jax.jit(
        lambda p: (
            dvae.predict["reconstruct"](p, {}, BATCH, None),
            dvae.predict["tokens"](p, {}, BATCH, None)["ids"],
            dvae.predict["encode"](p, {}, BATCH, None)["tokens"],
        )
    )(params)
    assert ids.shape == (4, 16) and tokens.shape == (4, 16, 16)
    assert found["pixels"].shape == BATCH["image"].shape and found["hidden"].all()
    np.testing.assert_allclose(found["original"], BATCH["image"] / 255, atol=1e-5)
    tokenizer = dvae.phases[0].fn.__self__.tokenizer
    np.testing.assert_allclose(found["pixels"], tokenizer.decode(params, ids), atol=1e-5)


def test_only_the_marginal_couples_examples(dvae):
    assert dvae.coupled
    assert not build().coupled


ERRORS = {
    r"config\.model\.image_size = \(8, 8\): .* multiples of 16": {"groups": 5},
    r"config\.model\.temperature = \(1\.0, 0\.0\): must be two positive": {
        "temperature": (1.0, 0.0)
    },
    r"config\.model\.kl_weight = -1\.0: must not be negative": {"kl_weight": -1.0},
    r"config\.model\.vocab = 0: must be a positive int": {"vocab": 0},
    r"config\.model\.dtype = 'int8'": {"dtype": "int8"},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])
