"""MTO on SimMIM (our reconstruction): off it is SimMIM, on it adds its terms and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import Schedule, build_method

BATCH = tiny.batch(4)
MODEL = {
    "image_size": (8, 8),
    "patch_size": 2,
    "mask_cell": 2,
    "drop_path": 0.0,
    "encoder": {"dim": 16, "depth": 4, "heads": 2, "mlp_ratio": 2.0},
}
OFF = {"sparsity": 0.0, "singularity": 0.0, "restoration": 0.0, "beta": 0.0}


def build(**mto):
    model = {**MODEL, "mto": {"on": True, **mto}} if mto else MODEL
    return build_method("mim.simmim", model, BATCH, Schedule(100, 10.0))


def terms(method, params, step=100):
    def run(params):
        draws = Draws.keyed(jax.random.key(0), BATCH["position"])
        return method.phases[0].fn(params, {}, BATCH, draws, jnp.int32(step), None)[0]

    return jax.jit(run)(params)


@pytest.fixture(scope="module")
def params():
    return tiny.params(build(), BATCH)


def test_1_with_all_weights_zero_it_is_the_host(params):
    plain, off = terms(build(), params), terms(build(**OFF), params)
    assert set(off) == {"reconstruction"}
    np.testing.assert_array_equal(plain["reconstruction"].sum, off["reconstruction"].sum)
    shapes = lambda m: jax.tree.map(  # noqa: E731
        jnp.shape, jax.eval_shape(m.init, jax.random.key(0), BATCH)[0]
    )
    assert shapes(build()) == shapes(build(beta=4.0))


def test_the_terms_come_on_top_and_recalibration_changes_the_host(params):
    plain = terms(build(), params)["reconstruction"].sum
    still = terms(build(**{**OFF, "singularity": 0.1, "sparsity": 0.01}), params)
    assert set(still) == {"reconstruction", "mto_singularity", "mto_sparsity"}
    np.testing.assert_allclose(still["reconstruction"].sum, plain, rtol=1e-5)
    moved = terms(build(**{**OFF, "beta": 4.0}), params)
    assert not np.isclose(moved["reconstruction"].sum, plain, rtol=1e-5)
    every = terms(build(beta=4.0), params)
    assert len(every) == 4
    # Tokens of 4 images: 10 of 16 are hidden; early 1 layer, late 2, all 4.
    weights = {name: float(term.weight) for name, term in every.items()}
    assert weights["mto_singularity"] == 4 * 10
    assert weights["mto_restoration"] == 2 * 4 * 10
    assert weights["mto_sparsity"] == 4 * 4 * 6


def test_remat_and_scan_keep_the_terms(params):
    base = terms(build(beta=4.0), params)
    for options in ({"remat": "full"}, {"scan": "on"}):
        model = {**MODEL, **options, "mto": {"on": True}}
        method = build_method("mim.simmim", model, BATCH, Schedule(100, 10.0))
        for name, term in terms(method, params).items():
            np.testing.assert_allclose(term.sum, base[name].sum, rtol=1e-4)


def test_a_swin_has_no_place_for_it_and_the_config_says_half_the_epochs():
    model = {"image_size": (192, 192), "patch_size": 4, "backbone": "swin", "mto": {"on": True}}
    example = {"image": jax.ShapeDtypeStruct((1, 192, 192, 3), np.uint8)}
    with pytest.raises(UserError, match=r"config\.model\.mto\.on = True: needs model\.backbone"):
        build_method("mim.simmim", model, example)
    host, _ = load_config("mim/simmim:b16")
    config, _ = load_config("mim/mto:b16")
    assert config.train.epochs == host.train.epochs / 2
    assert config.model.mto.on
    assert not host.model.mto.on
