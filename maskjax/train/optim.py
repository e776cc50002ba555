"""From `config.optim` to an optax transformation and its schedule.

The order is the one of torch's AdamW with parameter groups: clip the gradient of the trained
parameters by its global norm; moments; decoupled weight decay; learning-rate multiplier (group and
depth); learning rate; and the EMA sees the result. So decay is `p -= lr * multiplier * wd * p`.
"""

import logging
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from maskjax.errors import UserError
from maskjax.train.ema import with_ema
from maskjax.train.groups import NO_DECAY, Layers, ParamRules, compile_regex, parse_groups
from maskjax.train.lamb import scale_by_lamb
from maskjax.train.lars import scale_by_lars
from maskjax.train.schedules import (
    Schedule,
    scaled_lr,
    warmup_constant,
    warmup_cosine,
    warmup_drops,
    warmup_linear,
)
from maskjax.train.spikes import skip_spikes

log = logging.getLogger(__name__)
PyTree = Any

DEFAULTS: dict[str, Any] = {
    "name": "adamw",  # adamw | lars | lamb | sgd
    "base_lr": 0.0,  # times global batch / lr_batch; give this one or lr
    "lr": 0.0,  # used as it is
    "lr_batch": 256,
    # cosine | linear | constant | step, each after the warm-up; cosine_through: the cosine runs
    # since step 0, under the warm-up
    "schedule": "cosine",
    "min_lr": 0.0,  # where cosine and linear end
    "warmup_lr": 0.0,  # where the warm-up starts
    "scale_ends": False,  # min_lr and warmup_lr too are times global batch / lr_batch
    "plan_epochs": 0.0,  # cosine and linear are planned for so many epochs; 0 = those of the run
    "drop_epochs": (),  # step: the rate is multiplied by drop_factor at each of these
    "drop_factor": 0.1,
    "warmup_steps": 0,  # one of these two
    "warmup_epochs": 0.0,
    "b1": 0.9,  # adamw, lamb
    "b2": 0.999,
    "eps": 1e-8,
    "momentum": 0.9,  # lars, sgd
    # bfloat16 halves the memory of the first moment (adamw, sgd). The second one stays float32: it
    # changes by less than bfloat16 can tell apart.
    "moment_dtype": "float32",
    "nesterov": False,  # sgd
    "trust_coefficient": 1e-3,  # lars
    "always_adapt": False,  # lamb: the trust ratio is also for what is not decayed
    "bias_correction": True,  # lamb
    "weight_decay": 0.0,
    "weight_decay_end": -1.0,  # a cosine from weight_decay to this; below 0 = constant
    "no_decay": NO_DECAY,  # regex of paths without weight decay; "" = decay everything
    "groups": (),  # ((regex, "frozen" | "no_decay" | "lr*0.1"), ...), asked before the method's own
    "clip_norm": 0.0,  # 0 = off
    # Updates are left out where the loss is this many standard deviations above its running mean
    # (`train.spikes`); 0 = never.
    "spike_sigmas": 0.0,
    "layer_decay": 0.0,  # 0 = off; needs a method with `layers`
    "ema": 0.0,  # decay of the parameter average; 0 = off
    "tract": 0.0,  # lambda of TrAct in the first layer (nn/tract.py), such as 0.1; 0 = off
}

_SCHEDULES = ("cosine", "cosine_through", "linear", "constant", "step")
# key -> (lowest, highest, whether highest itself is allowed)
_RANGES = {
    **dict.fromkeys(
        ("base_lr", "lr", "min_lr", "weight_decay", "clip_norm", "spike_sigmas", "tract"),
        (0, math.inf, False),
    ),
    **dict.fromkeys(
        ("warmup_lr", "warmup_steps", "warmup_epochs", "plan_epochs"), (0, math.inf, False)
    ),
    **dict.fromkeys(("eps", "trust_coefficient", "drop_factor"), (1e-30, math.inf, False)),
    "lr_batch": (1, math.inf, False),
    "weight_decay_end": (-1, math.inf, False),
    **dict.fromkeys(("b1", "b2", "momentum", "ema"), (0, 1, False)),
    "layer_decay": (0, 1, True),
}


def build_optimizer(
    optim_cfg: Any,
    *,
    total_steps: int,
    steps_per_epoch: float,
    global_batch: int,
    method_groups: Sequence[tuple[str, str]] = (),
    layers: Layers | None = None,
    scope: str = "",
) -> tuple[optax.GradientTransformation, Schedule]:
    """The optimizer of a run.

    Args:
        optim_cfg: ConfigDict or any object with attributes named as in `DEFAULTS`; missing ones
            take the default.
        total_steps: optimizer steps of the whole run; the schedule ends there.
        steps_per_epoch: optimizer steps in one pass over the data, for `warmup_epochs`; may be
            fractional.
        global_batch: examples in one optimizer step over all processes and micro-batches, for
            `base_lr`.
        method_groups: `Method.groups`.
        layers: `Method.layers`, path -> depth id(s) or None.
        scope: `Phase.wrt`, when the optimizer gets only that part of the parameters.

    Returns:
        (transformation, schedule): the transformation adds its updates with `optax.apply_updates`,
        keeps its moments in float32 (the first one in `moment_dtype`), and its `init` checks the
        regexes against the parameters; schedule: step -> learning rate.

    Raises:
        UserError: naming `config.optim.<key>`; from `init`, when a regex matches no parameter.
    """
    cfg = _validated(optim_cfg)
    rules = param_rules(cfg, method_groups, layers, scope)
    schedule = build_schedule(
        cfg, total_steps=total_steps, steps_per_epoch=steps_per_epoch, global_batch=global_batch
    )
    stages = [_core(cfg, rules, total_steps)]
    if any(g.action == "frozen" for g in rules.groups):
        # Inside this border frozen leaves do not exist: no moments, and no share in the global
        # norm.
        stages = [
            optax.partition({"trained": stages[0], "frozen": optax.set_to_zero()}, rules.labels)
        ]
    if rules.layer_decay or any(g.factor != 1 for g in rules.groups):
        stages.append(_scale_by_multipliers(rules))
    stages.append(optax.scale_by_learning_rate(schedule))
    tx = _checked_float32(optax.chain(*stages), rules)
    tx = skip_spikes(tx, cfg.spike_sigmas) if cfg.spike_sigmas else tx
    return (with_ema(tx, cfg.ema) if cfg.ema else tx), schedule


def build_schedule(
    optim_cfg: Any, *, total_steps: int, steps_per_epoch: float, global_batch: int
) -> Schedule:
    """step -> learning rate, as `build_optimizer` makes it; arguments as there."""
    cfg = _validated(optim_cfg)
    if total_steps <= 0 or steps_per_epoch <= 0 or global_batch <= 0:
        raise UserError(
            "config.train: needs total_steps, steps_per_epoch and global_batch above 0, got "
            f"{total_steps}, {steps_per_epoch} and {global_batch}"
        )
    peak = cfg.lr or scaled_lr(cfg.base_lr, global_batch, cfg.lr_batch)
    scale = global_batch / cfg.lr_batch if cfg.scale_ends else 1.0
    ends = {"min_lr": cfg.min_lr * scale, "warmup_lr": cfg.warmup_lr * scale}
    for key, rate in ends.items():
        if rate > peak:
            raise UserError(
                f"config.optim.{key}: {rate:g} is above the learning rate {peak:g}; lower it"
            )
    warmup = cfg.warmup_steps / steps_per_epoch if cfg.warmup_steps else cfg.warmup_epochs
    epochs = total_steps / steps_per_epoch
    if warmup >= epochs:
        log.warning(
            "config.optim: the warm-up (%g epochs) is not shorter than the run (%g): "
            "the learning rate never gets past it",
            warmup,
            epochs,
        )
    time = {"warmup": warmup, "per": steps_per_epoch, "start": ends["warmup_lr"]}
    if cfg.schedule == "step":
        drops = {"milestones": tuple(cfg.drop_epochs), "factor": cfg.drop_factor}
        return warmup_drops(peak, **drops, **time)
    time["total"] = max(cfg.plan_epochs, epochs)
    if cfg.schedule == "constant":
        return warmup_constant(peak, **time)
    if cfg.schedule == "linear":
        return warmup_linear(peak, floor=ends["min_lr"], **time)
    restart = cfg.schedule == "cosine"
    return warmup_cosine(peak, floor=ends["min_lr"], restart=restart, **time)


def param_rules(
    optim_cfg: Any,
    method_groups: Sequence[tuple[str, str]] = (),
    layers: Layers | None = None,
    scope: str = "",
) -> ParamRules:
    """The path rules of a run; `param_rules(...).table(params)` is the overview for the log.

    Raises:
        UserError: if a regex does not compile or an action is unknown.
    """
    cfg = _validated(optim_cfg)
    compile_regex(cfg.no_decay, "config.optim.no_decay")
    groups = parse_groups(cfg.groups, "config.optim.groups")
    groups += parse_groups(method_groups, "Method.groups")
    return ParamRules(groups, cfg.no_decay, cfg.layer_decay, layers, scope)


def _core(
    cfg: SimpleNamespace, rules: ParamRules, total_steps: int
) -> optax.GradientTransformation:
    """Clipping, moments and weight decay: gradient -> direction, before any learning rate."""
    clip = [optax.clip_by_global_norm(cfg.clip_norm)] if cfg.clip_norm else []
    amount = cfg.weight_decay
    if cfg.weight_decay_end >= 0:  # SparK's: over all steps, whatever the warm-up
        amount = warmup_cosine(amount, total=max(total_steps - 1, 1), floor=cfg.weight_decay_end)
    decay = optax.add_decayed_weights(amount, mask=rules.decay_mask)
    if cfg.name == "adamw":
        adam = optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps, mu_dtype=cfg.moment_dtype)
        return optax.chain(*clip, adam, decay)
    if cfg.name == "sgd":  # as torch.optim.SGD: coupled decay, then the momentum buffer
        return optax.chain(
            *clip,
            decay,
            optax.trace(cfg.momentum, cfg.nesterov, accumulator_dtype=cfg.moment_dtype),
        )
    if cfg.name == "lamb":
        options = {"always_adapt": cfg.always_adapt, "bias_correction": cfg.bias_correction}
        options |= {"weight_decay": amount, "decay_mask": rules.decay_mask}
        return optax.chain(*clip, scale_by_lamb(cfg.b1, cfg.b2, cfg.eps, **options))
    trust = scale_by_lars(
        weight_decay=amount,
        momentum=cfg.momentum,
        trust_coefficient=cfg.trust_coefficient,
        decay_mask=rules.decay_mask,
    )
    return optax.chain(*clip, trust)


def _scale_by_multipliers(rules: ParamRules) -> optax.GradientTransformation:
    """Multiply each update by its learning-rate multiplier; must see the whole tree."""

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree | None = None):
        return jax.tree.map(lambda u, m: u * m, updates, rules.multipliers(updates)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _checked_float32(
    tx: optax.GradientTransformation, rules: ParamRules
) -> optax.GradientTransformationExtraArgs:
    """`tx` on float32 copies of gradients and parameters; its `init` checks `rules`."""
    tx = optax.with_extra_args_support(tx)

    def cast(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.astype(jnp.float32), tree)

    def init(params: PyTree) -> optax.OptState:
        rules.check(params)
        rules.multipliers(params)  # raises where Method.layers does not fit
        return tx.init(cast(params))

    def update(updates: PyTree, state: optax.OptState, params: PyTree | None = None, **extra: Any):
        return tx.update(cast(updates), state, None if params is None else cast(params), **extra)

    return optax.GradientTransformationExtraArgs(init, update)


def _validated(optim_cfg: Any) -> SimpleNamespace:
    """`DEFAULTS` overlaid with `optim_cfg`, every value checked."""
    cfg = SimpleNamespace(
        **{key: getattr(optim_cfg, key, value) for key, value in DEFAULTS.items()}
    )
    for key, choices in (("name", ("adamw", "lars", "lamb", "sgd")), ("schedule", _SCHEDULES)):
        if getattr(cfg, key) not in choices:
            raise UserError(
                f"config.optim.{key}: unknown {getattr(cfg, key)!r}; choose {' | '.join(choices)}"
            )
    for key in ("always_adapt", "bias_correction"):
        if not isinstance(getattr(cfg, key), bool):
            value = getattr(cfg, key)
            raise UserError(f"config.optim.{key}: needs True or False, got {value!r}")
    if cfg.moment_dtype not in ("float32", "bfloat16"):
        raise UserError(
            f"config.optim.moment_dtype: unknown {cfg.moment_dtype!r}; choose float32 | bfloat16"
        )
    if cfg.moment_dtype != "float32" and cfg.name not in ("adamw", "sgd"):
        raise UserError(
            f"config.optim.moment_dtype: {cfg.moment_dtype} is for adamw and sgd, not {cfg.name}"
        )
    if not isinstance(cfg.no_decay, str):
        raise UserError(f'config.optim.no_decay: needs a regex or "", got {cfg.no_decay!r}')
    for key, (low, high, closed) in _RANGES.items():
        _check_number(f"config.optim.{key}", getattr(cfg, key), low, high, closed)
    if (cfg.lr > 0) == (cfg.base_lr > 0):
        raise UserError(
            "config.optim.lr and config.optim.base_lr: exactly one must be above 0 (base_lr is"
            f" multiplied by global batch / {cfg.lr_batch}), got {cfg.lr:g} and {cfg.base_lr:g}"
        )
    if cfg.schedule == "step" and not cfg.drop_epochs:
        raise UserError("config.optim.drop_epochs: schedule 'step' needs one epoch or more")
    for epoch in cfg.drop_epochs:
        _check_number("config.optim.drop_epochs", epoch, 0, math.inf, False)
    if cfg.warmup_steps and cfg.warmup_epochs:
        raise UserError(
            "config.optim.warmup_steps and config.optim.warmup_epochs: set one of them to 0, got "
            f"{cfg.warmup_steps:g} and {cfg.warmup_epochs:g}"
        )
    return cfg


def _check_number(name: str, value: Any, low: float, high: float, closed: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name}: needs a number, got {value!r}")
    if not (low <= value < high or (closed and value == high)):
        bound = f"{'at most' if closed else 'below'} {high:g}"
        raise UserError(f"{name}: must be at least {low:g} and {bound}, got {value!r}")
