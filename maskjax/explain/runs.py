"""The classifiers of a run, one for each way of hiding pixels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from maskjax.errors import UserError
from maskjax.explain.lime import Classifier
from maskjax.masking import Draws
from maskjax.method import Method, Tree

PREFIX = "classify/"


def maskings(method: Method) -> tuple[str, ...]:
    """Ways of hiding pixels that a method's networks know: "layer", "grey", ..."""
    return tuple(name.removeprefix(PREFIX) for name in method.predict if name.startswith(PREFIX))


def classifiers(
    method: Method, params: Tree, extra: Tree, names: Sequence[str], *, features: bool = False
) -> dict[str, Classifier]:
    """{name: (images uint8[B, H, W, C], visible bool[B, H, W]) -> probabilities [B, K]}.

    Args:
        method, params, extra: of a run.
        names: of `maskings`.
        features: the functions give what the probabilities are made of, [B, D], instead.

    Raises:
        UserError: for a name that the method does not know.
    """
    known = maskings(method)
    if not known:
        raise UserError(
            "this run's method cannot classify a part of an image; train one with"
            " --config=explain/layer_masking:demo, or import weights into one"
        )
    for name in names:
        if name not in known:
            raise UserError(f"masking {name!r}: this run's network knows {', '.join(known)}")

    def made(name: str) -> Classifier:
        @jax.jit
        def run(params: Tree, images: jax.Array, visible: jax.Array) -> jax.Array:
            batch = {"image": images, "visible": visible}
            found = method.predict[PREFIX + name](params, extra, batch, Draws.replay({}))
            return found["features"] if features else jax.nn.softmax(found["logits"])

        return lambda images, visible: np.asarray(
            run(params, jnp.asarray(images), jnp.asarray(visible))
        )

    return {name: made(name) for name in names}
