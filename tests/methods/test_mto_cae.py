"""MTO on CAE's regressor (our reconstruction): the two losses that mask tokens alone can have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import Schedule, build_method

BATCH = {**tiny.batch(3), "token_ids": np.arange(48, dtype=np.int32).reshape(3, 16) % 11}
MODEL = {
    **tiny.MODEL,
    "regressor_depth": 4,
    "drop_path": 0.0,
    "mask": {"law": "random"},
    "tokenizer": {"field": "token_ids", "vocab": 11},
}
NOISE = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 16)), jnp.float32)


def build(model=None, **mto):
    model = {**MODEL, **(model or {}), **({"mto": {"on": True, **mto}} if mto else {})}
    return build_method("mim.cae", model, BATCH, Schedule(100, 10.0))


@pytest.fixture(scope="module")
def params():
    return tiny.params(build(), BATCH)


def terms(method, params, step=100):
    def run(params):
        draws = Draws.replay({"mask": NOISE})
        return method.phases[0].fn(params, {"tokenizer": {}}, BATCH, draws, jnp.int32(step), None)[
            0
        ]

    return jax.jit(run)(params)


def by_hand(x, sources, attention):
    """Sums of both losses in each layer, from the sheet: [depth, B] each."""
    norm = lambda t: (t - t.mean(-1, keepdims=True)) / t.std(-1, keepdims=True)  # noqa: E731
    unit = lambda t: norm(t) / np.linalg.norm(norm(t), axis=-1, keepdims=True)  # noqa: E731
    cosine = np.einsum("lbid,bjd->lbij", unit(x), unit(sources))
    share = np.exp(cosine / 0.1)
    share /= share.sum(-1, keepdims=True)
    num = sources.shape[1]
    even = -(share * np.log(share)).sum(-1) / np.log(num)
    singular = (1 - even + np.maximum(cosine, 0).mean(-1)).sum(-1)
    own = attention[..., :num] / attention[..., :num].sum(-1, keepdims=True)
    restored = (-(own * np.log(own)).sum(-1) / np.log(num)).mean(2).sum(-1)
    return singular, restored


def test_the_terms_are_those_of_the_sheet(params):
    method = build(restoration=0.02)
    found = terms(method, params)
    cae = method.phases[0].fn.__self__

    def probes(sources, places):
        return {
            "x": lambda seen, _: seen["block"] + places,
            "sources": lambda seen, _: sources,
            "attention": lambda seen, _: seen["attention"],
        }

    def run(params):
        split = cae.mask.sample(Draws.replay({"mask": NOISE}))
        visible, _ = cae._patches(BATCH, split)
        return cae.model.apply({"params": params}, visible, split, None, probes)[3]

    seen = {name: np.asarray(x, np.float64) for name, x in jax.jit(run)(params).items()}
    singular, restored = by_hand(seen["x"], seen["sources"][0], seen["attention"])
    # Four layers: the first is early, the last two are late; 8 mask tokens in 3 images.
    assert set(found) == {"tokens", "alignment", "mto_singularity", "mto_restoration"}
    one, two = found["mto_singularity"], found["mto_restoration"]
    np.testing.assert_allclose(one.sum, singular[0].sum(), rtol=1e-4)
    np.testing.assert_allclose(two.sum, restored[2:].sum(), rtol=1e-4)
    assert (float(one.weight), float(two.weight)) == (24, 48)
    assert (float(one.coefficient), float(two.coefficient)) == pytest.approx((0.1, 0.02))
    early = terms(method, params, step=1)["mto_singularity"].coefficient
    assert float(early) == pytest.approx(0.1 / 5)


def test_off_it_is_the_host(params):
    plain, off = terms(build(), params), terms(build(singularity=0.0, restoration=0.0), params)
    assert set(plain) == set(off) == {"tokens", "alignment"}
    on = terms(build(singularity=0.1), params)
    for name, term in plain.items():
        np.testing.assert_array_equal(term.sum, off[name].sum)
        np.testing.assert_allclose(term.sum, on[name].sum, rtol=1e-5)


def test_visible_features_keep_still_under_singularity_but_not_under_restoration(params):
    method = build(singularity=0.1)

    def gradient(name, params):
        def value(params):
            draws = Draws.replay({"mask": NOISE})
            extra = {"tokenizer": {}}
            found, _ = method.phases[0].fn(params, extra, BATCH, draws, jnp.int32(9), None)
            return found[name].sum

        return jax.jit(jax.grad(value))(params)

    size = lambda tree: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))  # noqa: E731
    assert size(gradient("mto_restoration", params)["encoder"]) > 0
    # What mask tokens take from the memory comes through attention; without it, nothing is left.
    blocks = {**params["regressor"]["blocks"]}
    blocks["ls1"] = jax.tree.map(jnp.zeros_like, blocks["ls1"])
    apart = {**params, "regressor": {**params["regressor"], "blocks": blocks}}
    found = gradient("mto_singularity", apart)
    assert size(found["encoder"]) == size(found["project"]) == 0
    assert size(found["mask_token"]) > 0


def test_what_has_nothing_to_act_on_is_refused_and_the_config_is_half_as_long():
    with pytest.raises(UserError, match=r"config\.model\.mto\.beta = 4\.0: must be 0: the regr"):
        build(beta=4.0)
    with pytest.raises(UserError, match=r"config\.model\.mto\.sparsity = 0\.1"):
        build(sparsity=0.1)
    host, _ = load_config("mim/cae:b16")
    config, _ = load_config("mim/mto:cae_b16")
    assert config.train.epochs == host.train.epochs / 2
    assert (config.method, config.model.mto.on) == ("mim.cae", True)
