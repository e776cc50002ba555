"""What a method is: the `Method` value, its `Phase`s, and how a method file is found and built."""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Hashable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from jax import Array
from ml_collections import ConfigDict

from maskjax.errors import UserError
from maskjax.losses import Term
from maskjax.masking import Draws
from maskjax.nn import lean, tract

Tree = Any
Batch = Mapping[str, Array]
Terms = Mapping[str, Term]


class Mean(NamedTuple):
    """A quantity that is averaged over the global batch: (sum, count); metrics and aux use it.

    Scalars are logged; arrays (batch statistics) go to `Method.after_update` only.
    """

    sum: Array
    count: Array | float


Aux = Mapping[str, Mean]


@dataclasses.dataclass(frozen=True)
class Phase:
    """One gradient step of a method; most have one, GANs and selectors have several.

    Attributes:
        fn: (params, extra, batch, draws, step, static) -> (terms, aux): named loss terms and
            named means; pure. `draws` gives every random number, `static` is hashable.
        wrt: path prefix of the parameters this phase trains; "" = all.
        optimizer: name of the optimizer that applies the gradient.
        every: the phase runs at steps divisible by this.
    """

    fn: Callable[[Tree, Tree, Batch, Draws, Array, Hashable], tuple[Terms, Aux]]
    wrt: str = ""
    optimizer: str = "main"
    every: int = 1


class Schedule(NamedTuple):
    """The length of the run, known when a method is built."""

    total_steps: int
    steps_per_epoch: float


def _keep_extra(params: Tree, extra: Tree, aux: Aux, step: Array) -> Tree:
    return extra


@dataclasses.dataclass(frozen=True)
class Method:
    """What `build` returns: pure functions only.

    Attributes:
        init: (key, batch) -> (params, extra); extra holds teachers, EMA, batch statistics, queues,
            codebook counts ({} if none).
        phases: run in order, each seeing the update of the one before.
        predict: {"encode", "reconstruct", ...: (params, extra, batch, draws) -> {name: Array}};
            every array has the batch in front; evaluators, export and pictures use these.
        after_update: (params, extra, aux, step) -> extra, after the last phase.
        load: {"extra/teacher": "model.teacher"}: part of the state -> group of the config (entries
            of `options.TEACHER`) that names the file; `train` fills it after the sharded init:
            methods never read files.
        weights: {name in weights files: part of the state}, where these are not just the
            parameters: {"params": "params/encoder", "batch_stats": "extra/batch_stats/encoder"};
            the tree of these names is what "geometry" describes a part of.
        groups: ((path regex, "frozen" | "no_decay" | "lr*0.1"), ...), first match wins.
        layers: path -> depth index, one per slice for stacked leaves, or None; for layer-wise
            learning-rate decay.
        static: step -> hashable, on the host: values that change shapes (ratio ramps); one
            executable per value.
        coupled: the loss couples examples, so that micro-batches would change it.
        together: so many consecutive examples form a group, which lies on one device and in one
            micro-batch.
        fresh: patterns of parameters that `config.init_from` may lack, or have in another shape,
            such as a new classifier: they keep their initial values. A method that has some starts
            from the encoder of any run or file, and leaves decoders out.
        describe: facts that an exported file carries: "geometry" (what `interop.Geometry` takes; of
            other networks what `nn.families.geometry_from` takes, with their "family"), "grid"
            (rows, columns) of the patches, mask settings, normalisation.
        step_flops: matmul FLOPs of one training step per image, forward and backward; 0 = unknown.
    """

    init: Callable[[Array, Batch], tuple[Tree, Tree]]
    phases: tuple[Phase, ...]
    predict: Mapping[str, Callable[[Tree, Tree, Batch, Draws], Mapping[str, Array]]]
    after_update: Callable[[Tree, Tree, Aux, Array], Tree] = _keep_extra
    load: Mapping[str, str] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    groups: tuple[tuple[str, str], ...] = ()
    layers: Callable[[str], int | tuple[int, ...] | None] = lambda path: None
    static: Callable[[int], Hashable] = lambda step: None
    coupled: bool = False
    together: int = 1
    fresh: tuple[str, ...] = ()
    describe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step_flops: float = 0.0


def method_names() -> tuple[str, ...]:
    """Names of the methods in this package: ("mim.mae", ...)."""
    package = importlib.import_module("maskjax.methods")
    prefix = "maskjax.methods."
    modules = pkgutil.walk_packages(package.__path__, prefix)
    return tuple(sorted(m.name.removeprefix(prefix) for m in modules if not m.ispkg))


def load_method(name: str) -> ModuleType:
    """The module of a method: `mim.mae`, or a dotted path into a user's own package.

    Raises:
        UserError: if there is no such module (lists the valid names), or it has no `build`.
    """
    # A path with anything else in it ("mim/mae") would import a second copy of the file.
    dotted = all(part.isidentifier() for part in name.split("."))
    for path in (f"maskjax.methods.{name}", name) if dotted else ():
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            # A method that exists but lacks one of its own imports must say so itself.
            if error.name is None or not (path == error.name or path.startswith(error.name + ".")):
                raise
            continue
        if hasattr(module, "build") and hasattr(module, "DEFAULTS"):
            return module
    names = method_names()
    near = difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(
        f"config.method: no method {name!r}.{hint} Methods: {', '.join(names)};"
        " or a dotted path to a module of your own with DEFAULTS and build"
    )


def build_method(
    name: str, model: Mapping[str, Any], example: Batch, schedule: Schedule | None = None
) -> Method:
    """Builds a method from its name and the entries of `config.model` that differ from DEFAULTS.

    Args:
        name: as `load_method` takes it.
        model: overrides of the method's DEFAULTS, nested as they are.
        example: a batch of arrays or `jax.ShapeDtypeStruct`s.
        schedule: length of the run; one step where it does not matter (evaluation, export).

    Raises:
        UserError: for an unknown method or key, or a value that `build` refuses.
    """
    module = load_method(name)
    cfg = model_config(module.DEFAULTS, model)
    method = module.build(cfg, example, schedule or Schedule(1, 1.0))
    return method if cfg.get("lean", True) else _plain(method)


def _plain(method: Method) -> Method:
    """The method with every function traced without lean layers."""
    phases = (dataclasses.replace(phase, fn=lean.plain(phase.fn)) for phase in method.phases)
    predict = {name: lean.plain(fn) for name, fn in method.predict.items()}
    changes = {name: lean.plain(getattr(method, name)) for name in ("init", "after_update")}
    return dataclasses.replace(method, phases=tuple(phases), predict=predict, **changes)


def with_tract(method: Method, strength: float) -> Method:
    """The method with TrAct's gradient in its first layers (see `nn.tract`).

    The inputs of the whole batch shape that gradient, so the method is `coupled`.

    Args:
        method: any.
        strength: lambda, positive.
    """

    used = []

    def wrapped(phase: Phase) -> Phase:
        def fn(*args):
            with tract.strength(strength) as use:
                result = phase.fn(*args)
            used.append(use.layers)
            if phase is method.phases[-1] and not any(used):
                raise UserError(
                    f"config.optim.tract = {strength}: this method has no first layer that takes it"
                )
            return result

        return dataclasses.replace(phase, fn=fn)

    return dataclasses.replace(method, phases=tuple(map(wrapped, method.phases)), coupled=True)


def model_config(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> ConfigDict:
    """DEFAULTS with the overrides merged in.

    Raises:
        UserError: for a key that DEFAULTS does not have.
    """
    cfg = ConfigDict(defaults, convert_dict=True)
    _merge(cfg, overrides, "config.model")
    return cfg


def _merge(cfg: ConfigDict, overrides: Mapping[str, Any], path: str):
    for key, value in overrides.items():
        if key not in cfg:
            near = difflib.get_close_matches(key, list(cfg), 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; keys: {', '.join(sorted(cfg))}"
            raise UserError(f"{path}.{key} does not exist{hint}")
        if isinstance(cfg[key], ConfigDict):
            if not isinstance(value, Mapping | ConfigDict):
                keys = ", ".join(sorted(cfg[key]))
                raise UserError(f"{path}.{key} = {value!r}: is a group with the keys {keys}")
            _merge(cfg[key], value, f"{path}.{key}")
        else:
            with cfg.ignore_type():
                cfg[key] = value


def require(condition: bool, path: str, value: Any, what: str):
    """Raises UserError `config.<path> = value: what` unless the condition holds."""
    if not condition:
        raise UserError(f"config.{path} = {value!r}: {what}")
