"""A small head trained on cached frozen features by a protocol of the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from maskjax.errors import UserError
from maskjax.evaluate.protocols import Protocol
from maskjax.nn.classifier import ClassifierHead
from maskjax.train.optim import build_optimizer

_LEAST = 20


def trained_probe(
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
    protocol: Protocol,
    *,
    seed: int = 0,
) -> tuple[float, int]:
    """Trains the protocol's head on `train`; (accuracy on `test` in 0..1, the batch size).

    Every image is seen once an epoch in a new order, but for a rest that fills no batch; see
    `Protocol.batch_for`. The test rows choose nothing.

    Args:
        train: float[n, D], n >= 20.
        train_label: int[n], two classes or more.
        test: float[m, D].
        test_label: int[m].
        protocol: how; its pool has been taken already.
        seed: of first weights and order.

    Raises:
        UserError: for too few rows or classes.
    """
    if len(train) < _LEAST or len(np.unique(train_label)) < 2 or not len(test):
        raise UserError(
            f"a trained probe needs at least {_LEAST} training images of two classes and one test"
            f" image; there are {len(train)} and {len(test)}"
        )
    classes = int(max(train_label.max(), test_label.max())) + 1
    batch = protocol.batch_for(len(train))
    run = _compiled(protocol, classes, batch)
    arrays = (np.float32(train), np.int32(train_label), np.float32(test))
    predicted = np.asarray(run(jax.random.key(seed), *arrays))
    return float((predicted == test_label).mean()), batch


@functools.lru_cache(maxsize=8)
def _compiled(protocol: Protocol, classes: int, batch: int):
    """(key, rows [n, D], labels [n], test [m, D]) -> int32[m], the classes named."""
    form = (protocol.batch_norm, protocol.hidden, protocol.std)
    head = ClassifierHead(classes, 1, "cls", *form)

    def run(key: Array, rows: Array, labels: Array, test: Array) -> Array:
        steps = len(rows) // batch
        total = max(1, round(protocol.epochs * steps))
        optimizer = _optimizer(protocol, batch, total, steps)
        variables = head.init(key, rows[:1, None])
        params, stats = variables["params"], variables.get("batch_stats", {})

        def loss(params, stats, ids):
            variables = {"params": params, "batch_stats": stats}
            (_, logits), moved = head.apply(
                variables, rows[ids][:, None], train=True, mutable=["batch_stats"]
            )
            values = optax.softmax_cross_entropy_with_integer_labels(logits, labels[ids])
            return values.mean(), moved.get("batch_stats", {})

        def body(carry, step):
            params, stats, state = carry
            order = jax.random.permutation(jax.random.fold_in(key, step // steps), len(rows))
            ids = jax.lax.dynamic_slice_in_dim(order, step % steps * batch, batch)
            grads, stats = jax.grad(loss, has_aux=True)(params, stats, ids)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), stats, state), None

        carry = (params, stats, optimizer.init(params))
        (params, stats, _), _ = jax.lax.scan(body, carry, jnp.arange(total))
        variables = {"params": params, "batch_stats": stats}
        return head.apply(variables, test[:, None])[1].argmax(-1)

    return jax.jit(run)


def _optimizer(
    protocol: Protocol, batch: int, total: int, steps: int
) -> optax.GradientTransformation:
    from types import SimpleNamespace

    entries = SimpleNamespace(
        name=protocol.optimizer,
        lr=protocol.lr,
        warmup_epochs=float(protocol.warmup),
        weight_decay=protocol.weight_decay,
    )
    length = {"total_steps": total, "steps_per_epoch": steps, "global_batch": batch}
    return build_optimizer(entries, **length)[0]
