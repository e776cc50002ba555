"""What the adapters of MAE's goldens share: the method on a file's inputs, by the training path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax import losses
from maskjax.interop.convert import from_torch
from maskjax.interop.layouts import LAYOUTS
from maskjax.masking import Draws
from maskjax.method import Method, Tree, build_method
from maskjax.nn.geometry import Geometry


class Inputs(NamedTuple):
    """Everything a run of the method needs, from one golden file."""

    model: dict[str, Any]
    params: Tree
    images: Array
    noise: Array

    def method(self, **changes: Any) -> Method:
        """MAE with the file's configuration, but for the changes."""
        return build_method("mim.mae", {**self.model, **changes}, {"image": self.images})

    @property
    def geometry(self) -> Geometry:
        """The sizes that the import tables need."""
        return geometry_of(self.method())


def size(dim: int, depth: int, heads: int, mlp_ratio: float) -> dict[str, Any]:
    """Entries of `config.model.encoder` or `.decoder`."""
    return {"dim": dim, "depth": depth, "heads": heads, "mlp_ratio": mlp_ratio}


def pixels(channels: int) -> dict[str, Any]:
    """Channel entries of `config.model`; the files hold images that are standardised already."""
    return {"channels": channels, "mean": (0.5,) * channels, "std": (0.5,) * channels}


def model_of(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a file of official MAE as entries of `config.model`."""
    m = cfg["model"]
    encoder = (m["embed_dim"], m["depth"], m["num_heads"], m["mlp_ratio"])
    decoder = (m["decoder_embed_dim"], m["decoder_depth"], m["decoder_num_heads"], m["mlp_ratio"])
    return {
        **pixels(cfg["in_chans"]),
        "image_size": m["img_size"],
        "patch_size": m["patch_size"],
        "encoder": size(*encoder),
        "decoder": size(*decoder),
        "mask_ratio": cfg["mask_ratio"],
        "norm_eps": cfg["norm_eps"],
    }


def channels_last(images: np.ndarray) -> Array:
    """[B, C, H, W] -> [B, H, W, C]."""
    return jnp.moveaxis(jnp.asarray(images), 1, -1)


def params_of(given: Mapping[str, np.ndarray], prefix: str = "param/") -> dict[str, np.ndarray]:
    """The file's weights by their torch keys; "param/teacher/" = of that network only."""
    return {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}


def read_params(
    given: Mapping[str, np.ndarray], model: dict[str, Any], images: Array, layout: str, **allow: Any
) -> Tree:
    """The method's parameters, filled by the import table."""
    batch = {"image": images}
    method = build_method("mim.mae", model, batch)
    shapes, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return from_torch(params_of(given), LAYOUTS[layout](geometry_of(method)), like, **allow)


def geometry_of(method: Method) -> Geometry:
    """The sizes that the import tables need."""
    return Geometry(**method.describe["geometry"])


def loss(inputs: Inputs, *, norm_pix: bool) -> Array:
    """Loss of the training phase: shuffled order, inside jit."""
    return jax.jit(_objective(inputs, norm_pix))(inputs.params, inputs.images, inputs.noise)


def loss_and_gradient(inputs: Inputs, *, norm_pix: bool) -> tuple[Array, Tree]:
    """The same with its gradient by the parameters."""
    objective = jax.value_and_grad(_objective(inputs, norm_pix))
    return jax.jit(objective)(inputs.params, inputs.images, inputs.noise)


def _objective(inputs: Inputs, norm_pix: bool) -> Callable[[Tree, Array, Array], Array]:
    method = inputs.method(norm_pix=norm_pix)
    (phase,) = method.phases

    def objective(params: Tree, images: Array, noise: Array) -> Array:
        draws, step = Draws.replay({"mask": noise}), jnp.int32(0)
        terms, _ = phase.fn(params, {}, {"image": images}, draws, step, method.static(0))
        return losses.total(terms)

    return objective


def predict(
    inputs: Inputs, name: str, wanted: Sequence[str] = (), **changes: Any
) -> dict[str, Array]:
    """What is wanted of one of the method's predictions (default: all), inside jit."""
    fn = inputs.method(**changes).predict[name]

    def run(params: Tree, images: Array, noise: Array) -> dict[str, Array]:
        found = fn(params, {}, {"image": images}, Draws.replay({"mask": noise}))
        return {key: found[key] for key in wanted or found}

    return jax.jit(run)(inputs.params, inputs.images, inputs.noise)
