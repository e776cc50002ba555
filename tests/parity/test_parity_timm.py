"""Live parity with timm's VisionTransformer: both poolings, and MAE's encoder as timm loads it."""

import numpy as np
import pytest

reason = "live parity needs PyTorch and timm, which needs torchvision"
torch = pytest.importorskip("torch", reason=reason)
pytest.importorskip("torchvision", reason=reason)
timm = pytest.importorskip("timm", reason=reason)

import golden  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from maskjax.interop import Geometry, export_weights, from_torch  # noqa: E402
from maskjax.interop.layouts import LAYOUTS  # noqa: E402
from maskjax.interop.shapes import param_tree  # noqa: E402
from maskjax.masking import Draws, patchify  # noqa: E402
from maskjax.method import build_method  # noqa: E402
from maskjax.nn.vit import Classifier, Size  # noqa: E402

SIZE = Size(24, 2, 3, 2.5)
SHAPE = {"image_size": (16, 24), "patch_size": 4, "channels": 2}
SIZES = {"dim": SIZE.dim, "depth": SIZE.depth, "heads": SIZE.heads, "mlp_hidden": SIZE.mlp_hidden}
IMAGES = np.random.default_rng(0).normal(size=(3, 2, 16, 24)).astype(np.float32)
LAST = jnp.asarray(np.moveaxis(IMAGES, 1, -1))


def random_like(tree, seed=0):
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda leaf: draw(0, 0.2, leaf.shape).astype(np.float32), tree)


def assert_close(key, ours, theirs):
    row = golden.compare(key, ours, theirs.detach().numpy())
    assert row.ok, row


@pytest.mark.parametrize("pool, theirs", [("gap", "avg"), ("cls", "token")])
def test_classifier_with_weights_of_timm(pool, theirs):
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=SHAPE["image_size"],
        patch_size=4,
        in_chans=2,
        num_classes=5,
        global_pool=theirs,
        embed_dim=SIZE.dim,
        depth=SIZE.depth,
        num_heads=SIZE.heads,
        mlp_ratio=SIZE.mlp_ratio,
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    geometry = Geometry(**SHAPE, **SIZES, position="learned", pool=pool, num_classes=5)
    arrays = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    params = from_torch(arrays, LAYOUTS["timm"](geometry), param_tree(geometry))
    ours = Classifier(SIZE, geometry.grid, 5, pool)
    features, logits = jax.jit(ours.apply)({"params": params}, patchify(LAST, (4, 4)))
    images = torch.from_numpy(IMAGES)
    assert_close("logits", logits, model(images))
    tokens = model.forward_features(images)
    assert_close("features", features, model.forward_head(tokens, pre_logits=True))


def test_encoder_of_mae_loads_in_timm(tmp_path):
    """By the very lines that the export prints."""
    entries = {
        **SHAPE,
        "mean": (0.5, 0.5),
        "std": (0.5, 0.5),
        "encoder": {"dim": 24, "depth": 2, "heads": 3, "mlp_ratio": 2.5},
        "decoder": {"dim": 8, "depth": 1, "heads": 2, "mlp_ratio": 2.0},
    }
    method = build_method("mim.mae", entries, {"image": LAST})
    shapes, _ = jax.eval_shape(method.init, jax.random.key(0), {"image": LAST})
    params = random_like(shapes)
    geometry = Geometry(**method.describe["geometry"])
    report = export_weights(params, geometry, {}, "timm", tmp_path / "encoder.safetensors")
    scope = {}
    exec(report.snippet, scope)
    theirs = scope["model"].eval().forward_features(torch.from_numpy(IMAGES))
    encode = method.predict["encode"]
    found = jax.jit(lambda p, x: encode(p, {}, {"image": x}, Draws.replay({})))(params, LAST)
    assert_close("cls", found["cls"], theirs[:, 0])
    assert_close("tokens", found["tokens"], theirs[:, 1:])
