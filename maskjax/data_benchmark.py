"""What `maskjax data --benchmark` prints."""

from collections.abc import Iterator, Sequence

import jax
from ml_collections import ConfigDict

from maskjax import build, data_parts
from maskjax.data import benchmark as timing
from maskjax.data.pipeline import num_cores
from maskjax.data.source import Source
from maskjax.observe import flops
from maskjax.observe.progress import format_rate

# Larger batches take longer and are not faster.
_ROWS = 256
_SHARE_OF_PEAK = 0.4
_CHIPS = {
    "TPU v5e": "TPU v5 lite",
    "TPU v4": "TPU v4",
    "TPU v6e": "TPU v6",
    "A100": "A100",
    "H100": "H100",
}


def benchmark(
    config: ConfigDict,
    source: Source,
    *,
    workers: Sequence[int] | None = None,
    seconds: float = 3.0,
    need: float | None = None,
    with_model: bool = True,
) -> Iterator[str]:
    """Lines as they become known.

    Args:
        config: resolved.
        source: its training data.
        workers: numbers to try; None = by the number of cores.
        seconds: for each timing.
        need: images per second that this host has to feed; None = what its chips take of the model,
            if they are known.
        with_model: the config's model is meant: says what it needs.
    """
    cores, views = num_cores(), config.data.views
    rows = min(_ROWS, config.data.global_batch)
    rows = max(views, rows // views * views)
    yield f"{cores} cores, batches of {rows}, {views} view{'s' * (views != 1)} of each image"
    yield from _stages(config, source, rows, seconds)
    yield "\nwhole pipeline                images/s    first batch   memory of each worker"
    found = []
    for count, threads in _settings(workers, cores):
        one = timing.time_pipeline(
            source,
            data_parts.train_transform(config),
            workers=count,
            threads=threads,
            rows=rows,
            views=views,
            seconds=seconds,
        )
        found.append(one)
        yield _line(one)
    if with_model:
        known, text = _need(config, len(source))
        need = need or known
        yield text
    yield from timing.recommend(found, need, cores)


def _settings(workers: Sequence[int] | None, cores: int) -> list[tuple[int, int]]:
    return timing.settings(cores) if workers is None else [(count, 0) for count in workers]


def _stages(config: ConfigDict, source: Source, rows: int, seconds: float) -> Iterator[str]:
    yield "\nstage, in one thread          images/s    ms per image"
    for stage in timing.time_stages(
        source,
        data_parts.train_transform(config),
        lambda batch: jax.block_until_ready(jax.device_put(batch)),
        rows=rows,
        seconds=seconds,
        channels=config.model.get("channels"),
        decoding=data_parts.decoding(config),
    ):
        yield f"  {stage.name:<26}{format_rate(stage.rate):>10}{1000 / stage.rate:>16.3f}"


def _line(one: timing.Measured) -> str:
    bound = f"{one.ahead} rows, {one.ahead * one.row_bytes / 1e6:.0f} MB ahead"
    sizes = ", ".join(f"{size / 1e6:.0f}" for size in one.memory)
    memory = f"{sizes} MB ({bound})" if sizes else f"({bound})"
    return f"  {one.name:<26}{format_rate(one.rate):>10}{one.startup:>13.1f} s   {memory}"


def _need(config: ConfigDict, num_examples: int) -> tuple[float | None, str]:
    """What the chips of this host take (None if unknown), and a line about usual ones."""
    work = build.experiment(config, num_examples * config.data.views).method.step_flops
    if not work:
        return None, ""
    dtype = config.model.get("dtype", "float32")

    def images(kind: str) -> float | None:
        peak = flops.peak_flops(kind, dtype)
        return None if peak is None else _SHARE_OF_PEAK * peak / work

    rates = {name: images(kind) for name, kind in _CHIPS.items()}
    text = ", ".join(f"{name} {format_rate(rate)}" for name, rate in rates.items() if rate)
    here = images(jax.local_devices()[0].device_kind)
    known = None if here is None else here * jax.local_device_count()
    return known, f"\nthis model at {_SHARE_OF_PEAK:.0%} of a chip's peak takes images/s: {text}"
