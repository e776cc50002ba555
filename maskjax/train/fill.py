"""Weights from files into a state that was born sharded: `config.init_from`, teachers of methods.

A method names its teachers in `Method.load`: {"extra/teacher": "model.teacher"} fills that part of
the state from the file of the config's group `model.teacher` (entries: `options.TEACHER`).
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from maskjax import options
from maskjax.errors import UserError
from maskjax.interop.layouts import TREES
from maskjax.interop.paths import unflatten
from maskjax.method import Method, Tree
from maskjax.nn.families import AnyGeometry, geometry_from
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.groups import map_with_name
from maskjax.train.sharding import replicated
from maskjax.train.state import TrainState

log = logging.getLogger(__name__)
RANDOM = "random"
# The resolved config of a run -> the geometry of its method, if it has one.
GeometryOfRun = Callable[[Mapping[str, Any]], AnyGeometry | None]


@dataclasses.dataclass(frozen=True)
class Order:
    """One part of the state that a file fills.

    Attributes:
        part: "params", "extra/teacher", ...; or {name in the file's tree: such a part}.
        entry: of the config, for messages.
        file: weights, or the folder of a run.
        format: of the file; "" = told by it.
        geometry: of the part; None for a method that has none, whose files have our own names, and
            for a format that follows from the part's own tree.
        missing: patterns of what the file may lack.
        unused: patterns of the file's keys that may be left over.
        encoder_only: heads and decoders in the file are left out.
        fresh: `Method.fresh`: the part starts from an encoder, see `interop.start`.
    """

    part: str | Mapping[str, str]
    entry: str
    file: str
    format: str
    geometry: AnyGeometry | None
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    encoder_only: bool = False
    fresh: tuple[str, ...] = ()


def own_geometry(method: Method) -> AnyGeometry | None:
    """The sizes that a weights file of this method needs to be understood, if it says them.

    Raises:
        UserError: if no weights format can hold them.
    """
    sizes = method.describe.get("geometry")
    return None if sizes is None else geometry_from(sizes)


def method_geometry(method: Method) -> AnyGeometry:
    """As `own_geometry`, for a method that must have one.

    Raises:
        UserError: if the method does not say them, or no weights format can hold them.
    """
    geometry = own_geometry(method)
    if geometry is None:
        raise UserError(
            "this method has no weights format of other libraries; format 'native' keeps its own "
            "names"
        )
    return geometry


def exported(method: Method, params: Tree, extra: Tree) -> Tree:
    """What weights files of this method hold: the parameters, or what `Method.weights` says."""
    state = {"params": params, "extra": extra}
    if not method.weights:
        return params
    return {name: _inside(state, part) for name, part in method.weights.items()}


def whole(method: Method) -> str | Mapping[str, str]:
    """`Order.part` of such files."""
    return method.weights or "params"


def orders(method: Method, config: ConfigDict) -> list[Order]:
    """What the config and the method want to be filled, in this order.

    Raises:
        UserError: for a teacher without a file.
    """
    found = []
    if config.init_from:
        allowed = tuple(config.init_missing), tuple(config.init_unused)
        # Files of a convnet hold running statistics too: they are read as `Method.weights` says.
        by_parts = not method.fresh or (method.weights and not _is_run(config.init_from))
        part, fresh = (whole(method), ()) if by_parts else ("params", method.fresh)
        order = (part, "init_from", config.init_from, "", own_geometry(method))
        found.append(Order(*order, *allowed, bool(method.fresh), fresh))
    for part, path in method.load.items():
        group: Any = config
        for key in path.split("."):
            group = group[key]
        if not group.file:
            raise UserError(
                f"config.{path}.file is empty: name the {path.rpartition('.')[2]}'s weights, or a"
                " run's folder; "
                f"{RANDOM!r} leaves it untrained, for tests"
            )
        if group.file != RANDOM:
            geometry = None
            if group.format not in TREES:
                geometry = options.teacher_geometry(group, path, config.model.image_size)
            order = Order(part, f"{path}.file", group.file, group.format, geometry)
            found.append(dataclasses.replace(order, encoder_only=True))
    return found


def no_geometry(resolved: Mapping[str, Any]) -> None:
    """The `GeometryOfRun` of callers that cannot build a method."""


def fill(
    state: TrainState, method: Method, config: ConfigDict, of_run: GeometryOfRun = no_geometry
) -> TrainState:
    """The state with every part filled, placed as it was.

    Args:
        state: as initialised.
        method: what is trained.
        config: the resolved config.
        of_run: asked for the geometry of a run that `config.init_from` or a teacher names.

    Raises:
        UserError: if a file does not fit, but for what `config.init_missing` and
            `config.init_unused` let be.
    """
    return put(state, orders(method, config), of_run)


def put(
    state: TrainState, parts: Iterable[Order], of_run: GeometryOfRun = no_geometry
) -> TrainState:
    """The state with these parts filled, placed as it was.

    Raises:
        UserError: if a file does not fit.
    """
    for order in parts:
        if isinstance(order.part, Mapping) and _is_run(order.file):
            state = _restore_all(order, state)
        else:
            new = _read(order, _part(state, order.part), of_run)
            state = placed(state, order.part, new)
            state = _with_statistics(order, state) if order.fresh else state
    return state


def check(
    abstract: TrainState, method: Method, config: ConfigDict, of_run: GeometryOfRun = no_geometry
):
    """Checks every file without touching a device; arguments and errors as of `fill`.

    Args:
        abstract: state of `jax.ShapeDtypeStruct`s.
        method, config, of_run: as of `fill`.
    """
    for order in orders(method, config):
        if order.fresh:
            _started(order, _part(abstract, order.part), of_run)
        elif not _is_run(order.file):
            zeros = lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)  # noqa: E731
            _import(order, jax.tree.map(zeros, _part(abstract, order.part)))


def _read(order: Order, old: Tree, of_run: GeometryOfRun) -> Tree:
    if order.fresh:
        start = _started(order, old, of_run)
        log.info("config.%s = %s: %s", order.entry, order.file, start)
        return map_with_name(
            lambda name, leaf: (
                jax.device_put(start.leaves[name], leaf.sharding) if name in start.leaves else leaf
            ),
            old,
        )
    if _is_run(order.file):
        return _restore_encoder(order, old, of_run) if order.encoder_only else _restore(order, old)
    loaded, report = _import(order, jax.device_get(old))
    log.info("config.%s = %s", order.entry, report)
    return jax.tree.map(lambda new, leaf: jax.device_put(new, leaf.sharding), loaded, old)


def _started(order: Order, old: Tree, of_run: GeometryOfRun) -> Any:
    """The `Start` of a model that begins with another one's encoder."""
    from maskjax.interop.start import start_from, start_from_file

    fresh = (*order.fresh, *order.missing)
    try:
        if _is_run(order.file):
            params, geometry = _encoder_of_run(order, old, of_run)
            return start_from(params, old, geometry, order.geometry, fresh, order.file)
        options = {"format": order.format or None, "unused": order.unused}
        return start_from_file(order.file, old, order.geometry, fresh, **options)
    except UserError as error:
        raise UserError(f"config.{order.entry}: {error}") from error


def _encoder_of_run(
    order: Order, old: Tree, of_run: GeometryOfRun
) -> tuple[Tree, AnyGeometry | None]:
    """The parameters of a run that are of use, on this host, and its geometry.

    Without decoders: those of the parts that `old` has too.
    """
    everywhere = _replicated(old)
    with Checkpoints(pathlib.Path(order.file) / "checkpoints", read_only=True) as checkpoints:
        stored = checkpoints.parameters()
        shared = {name: leaf for name, leaf in stored.items() if name.split("/")[0] in old}
        if not shared:
            raise UserError(f"{order.file} has no encoder: it has {', '.join(sorted(stored)[:5])}")
        place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)  # noqa: E731
        nested = unflatten({name: place(leaf) for name, leaf in shared.items()})
        params, _, meta = checkpoints.restore_params(None, nested)
        log.info("config.%s = %s, step %s", order.entry, order.file, checkpoints.latest_step())
    return jax.device_get(params), of_run(meta["config"])


def _replicated(tree: Tree) -> jax.sharding.Sharding | None:
    """Every device of the tree's mesh gets a whole copy; None where leaves lie on no mesh."""
    sharding = getattr(jax.tree.leaves(tree)[0], "sharding", None)
    return replicated(sharding.mesh) if isinstance(sharding, NamedSharding) else None


def _import(order: Order, like: Tree) -> tuple:
    from maskjax.interop.load import import_tree, import_weights

    try:
        if order.format in TREES:
            tree = import_tree(order.file, like, order.format)
            return tree, f"{order.file}, layout {order.format}"
        return import_weights(
            order.file,
            like,
            order.geometry,
            order.format or None,
            allow_missing=order.missing,
            allow_unused=order.unused,
            encoder_only=order.encoder_only,
        )
    except UserError as error:
        # The hints name the arguments of `import_weights`; here they are entries of the config.
        hint = str(error).replace("allow_missing=", "config.init_missing = ")
        hint = hint.replace("allow_unused=", "config.init_unused = ")
        raise UserError(f"config.{order.entry}: {hint}") from error


def _is_run(file: str) -> bool:
    return (pathlib.Path(file) / "checkpoints").is_dir()


def _restore(order: Order, old: Tree, extra: Tree | None = None) -> Tree:
    """The same parameters of a run's latest checkpoint, sharded as `old`; and `extra` if given."""
    place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)  # noqa: E731
    wanted, beside = jax.tree.map(place, old), jax.tree.map(place, extra)
    with Checkpoints(pathlib.Path(order.file) / "checkpoints", read_only=True) as checkpoints:
        try:
            params, found, _ = checkpoints.restore_params(None, wanted, extra=beside)
        except UserError as error:
            raise UserError(f"config.{order.entry}: {error}") from error
        log.info("config.%s = %s, step %s", order.entry, order.file, checkpoints.latest_step())
    return params if extra is None else (params, found)


def _restore_encoder(order: Order, old: Tree, of_run: GeometryOfRun) -> Tree:
    """A teacher from a run: as `_restore`, and only the first of its blocks where `old` has fewer.

    Raises:
        UserError: if the run trained an encoder of another geometry.
    """
    from maskjax.interop.load import agreed, encoder_of

    with Checkpoints(pathlib.Path(order.file) / "checkpoints", read_only=True) as checkpoints:
        theirs = of_run(checkpoints.meta()["config"])
        stored = checkpoints.parameters()
    if theirs is not None and order.geometry is not None:
        try:
            agreed(order.file, order.geometry, encoder_of(theirs, order.geometry))
        except UserError as error:
            raise UserError(f"config.{order.entry}: {error}") from error

    def deeper(name: str, leaf: jax.Array) -> jax.Array | jax.ShapeDtypeStruct:
        found = stored.get(name)
        stacked = "blocks/" in name and found is not None and found.shape[1:] == leaf.shape[1:]
        if not stacked or found.shape[0] <= leaf.shape[0]:
            return leaf
        # The axis of the layers is on no axis of the mesh, so the leaf's sharding fits both.
        return jax.ShapeDtypeStruct(found.shape, leaf.dtype, sharding=leaf.sharding)

    whole = _restore(order, map_with_name(deeper, old))
    first = lambda new, leaf: jax.device_put(new[: len(leaf)], leaf.sharding)  # noqa: E731
    return jax.tree.map(
        lambda new, leaf: new if new.shape == leaf.shape else first(new, leaf), whole, old
    )


def _with_statistics(order: Order, state: TrainState) -> TrainState:
    """The encoder's running statistics of a run, if the model has any."""
    path = "batch_stats/encoder"
    if not _is_run(order.file) or "encoder" not in state.extra.get("batch_stats", {}):
        return state
    old = {"batch_stats": {"encoder": _inside(state.extra, path)}}
    _, found = _restore(order, {}, old)
    return placed(state, f"extra/{path}", _inside(found, path))


def _restore_all(order: Order, state: TrainState) -> TrainState:
    """Parameters and `extra` of a run of the same method."""
    params, extra = _restore(order, state.params, state.extra)
    return dataclasses.replace(state, params=params, extra=extra)


def _part(state: TrainState, part: str | Mapping[str, str]) -> Tree:
    if isinstance(part, Mapping):
        return {name: _part(state, one) for name, one in part.items()}
    name, *keys = part.split("/")
    return _inside(getattr(state, name), "/".join(keys))


def _inside(tree: Tree, path: str) -> Tree:
    for key in filter(None, path.split("/")):
        tree = tree[key]
    return tree


def placed(state: TrainState, part: str | Mapping[str, str], new: Tree) -> TrainState:
    """The state with `new` in a part of it, or in several (see `Order`)."""
    if isinstance(part, Mapping):
        for name, one in part.items():
            state = placed(state, one, new[name])
        return state
    name, *keys = part.split("/")
    return dataclasses.replace(state, **{name: _with(getattr(state, name), keys, new)})


def _with(tree: Mapping[str, Tree], keys: list[str], new: Tree) -> Tree:
    if not keys:
        return new
    return {**tree, keys[0]: _with(tree[keys[0]], keys[1:], new)}
