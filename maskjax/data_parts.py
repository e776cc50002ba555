"""What a config says about its data: sources, transforms, and the shapes of a batch."""

import contextlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from maskjax import data_kinds
from maskjax.data import colour, randaugment
from maskjax.data import source as sources
from maskjax.data.decode import Decoding
from maskjax.data.erasing import RandomErasing
from maskjax.data.examples import (
    IN_A_ROW,
    Bad,
    ExampleError,
    listing,
    read_example,
    transformed,
)
from maskjax.data.fields import Shapes, as_fields
from maskjax.data.photo import Photo
from maskjax.data.subset import select_ids
from maskjax.data.three_augment import ThreeAugment
from maskjax.data.transforms import EvalTransform, TrainTransform
from maskjax.data.wrap import kind_of
from maskjax.errors import UserError
from maskjax.method import Batch
from maskjax.options import pair


def example_batch(config: ConfigDict, size: int) -> Batch:
    """Shapes and dtypes of a training batch of `size` examples."""
    batch = {
        name: jax.ShapeDtypeStruct((size, *shape), dtype)
        for name, (shape, dtype) in example_fields(config).items()
    }
    return {**batch, "position": jax.ShapeDtypeStruct((size, 2), jnp.uint32)}


def example_fields(config: ConfigDict) -> Shapes:
    """{field: (shape, dtype)} of one example of the config's data, from the config alone."""
    if data_kind(config) == "image":
        size = pair(config.model.image_size, "model.image_size")
        fields = {"image": ((*size, config.model.channels), np.dtype(np.uint8))}
    else:
        fields = train_transform(config).fields()
    # The iterators add labels wherever the data has them; a model with classes needs them.
    return fields | ({"label": ((), np.dtype(np.int32))} if config.model.get("num_classes") else {})


def data_kind(config: ConfigDict) -> str:
    """What the examples of the config's data are; see `data.source.KINDS`."""
    return sources.kind_of_spec(data_spec(config))


def data_source(config: ConfigDict, split: str) -> sources.Source:
    """The training or test data of the config: split "train" or "test".

    The training data is cut down to the examples that `config.data.subset` names, if it does.
    """
    training = split == "train"
    name = config.data.train_split if training else config.data.test_split
    source = sources.resolve(data_spec(config), name)
    return select_ids(source, config.data.subset) if training and config.data.subset else source


def data_spec(config: ConfigDict) -> str:
    """What `config.data.path` says, or the mixture of `config.data.mixture`."""
    lines = tuple(config.data.mixture)
    parts = [line for line in lines if not line.startswith("labels=")]
    labels = [line for line in lines if line.startswith("labels=")]
    return f"mix:{' | '.join([' + '.join(parts), *labels])}" if lines else config.data.path


def train_transform(config: ConfigDict) -> Callable:
    """Augmentation of training examples, as `config.data` says.

    Raises:
        UserError: naming the entry that is wrong, or that the method's model lacks.
    """
    data, kind = config.data, data_kind(config)
    if kind != "image":
        return data_kinds.train_transform(config, kind, data_spec(config), _photo(config))
    mean = tuple(config.model.get("mean") or (0.5,) * config.model.channels)
    std = tuple(config.model.get("std") or (0.25,) * config.model.channels)
    with _naming("crop_scale, crop_ratio, interpolation, resample, reducing_gap"):
        return TrainTransform(
            pair(config.model.image_size, "model.image_size"),
            scale=tuple(data.crop_scale),
            ratio=tuple(data.crop_ratio),
            flip=data.flip,
            crop=data.crop,
            channels=config.model.channels,
            interpolation=data.interpolation,
            resample=data.resample,
            reducing_gap=data.reducing_gap,
            decoding=decoding(config),
            stages=_stages(config, tuple(round(255 * value) for value in mean)),
            erasing=_erasing(config, mean, std),
        )


def _stages(config: ConfigDict, fill: tuple[int, ...]) -> tuple[colour.Stage, ...]:
    """What `config.data` does to the colours, in the order of timm's recipes."""
    data = config.data
    stages: list[colour.Stage] = []
    with _naming("randaugment"):
        if data.randaugment:
            stages.append(randaugment.parse(data.randaugment, fill))
    if data.three_augment:
        stages.append(ThreeAugment())
    with _naming("color_jitter"):
        if any(data.color_jitter):
            if len(data.color_jitter) != 4:
                raise UserError("wants (brightness, contrast, saturation, hue)")
            stages.append(colour.ColorJitter(*data.color_jitter, prob=data.color_jitter_prob))
    with _naming("greyscale"):
        if data.greyscale:
            stages.append(colour.Greyscale(data.greyscale))
    with _naming("blur"):
        if data.blur:
            stages.append(colour.Blur(data.blur))
    return tuple(stages)


def _erasing(config: ConfigDict, mean: tuple, std: tuple) -> RandomErasing | None:
    with _naming("erase"):
        return RandomErasing(config.data.erase, mean, std) if config.data.erase else None


def decoding(config: ConfigDict) -> Decoding:
    """How encoded images are read, as `config.data` says; raises likewise."""
    with _naming("decoder, max_pixels"):
        return Decoding(config.data.decoder, config.data.max_pixels)


@contextlib.contextmanager
def _naming(keys: str) -> Iterator[None]:
    """Puts the entries of `config.data` that an error may come from in front of it."""
    try:
        yield
    except UserError as error:
        known = str(error).startswith("config.")
        raise error if known else UserError(f"config.data.{keys}: {error}") from error


def eval_transform(config: ConfigDict) -> Callable:
    """Resize and centre crop of evaluation examples, as `config.data` says; raises likewise."""
    kind = data_kind(config)
    if kind != "image":
        return data_kinds.eval_transform(config, kind, data_spec(config), _photo(config))
    size = pair(config.model.image_size, "model.image_size")
    return EvalTransform(
        size,
        config.data.resize,
        # What only OpenCV can do becomes the antialiased filter nearest to it.
        "box" if config.data.interpolation == "area" else config.data.interpolation,
        channels=config.model.channels,
        decoding=decoding(config),
    )


def _photo(config: ConfigDict) -> Photo:
    """How the pictures inside of other kinds of examples are read and changed."""
    data, channels = config.data, config.model.get("channels") or 3
    mean = tuple(config.model.get("mean") or (0.5,) * channels)
    stages = _stages(config, tuple(round(255 * value) for value in mean))
    with _naming("interpolation, resample"):
        return Photo(channels, data.interpolation, data.resample, decoding(config), stages)


def check_example(config: ConfigDict, source: sources.Source):
    """Reads the first training example, so that unreadable data fails in a second.

    Where bad examples are skipped it is the first usable one.

    Raises:
        UserError: if it cannot be read as the model wants it.
    """
    where, kind = f"config.data.path = {data_spec(config)!r}", data_kind(config)
    if (found := kind_of(source)) != kind:
        raise UserError(f"{where} holds examples of kind {found!r}, it should be {kind!r}")
    made, wanted = as_fields(_first_example(config, source)), example_fields(config)
    if wanted.pop("label", None):
        _check_labels(config, source, where)
    for name, (shape, dtype) in wanted.items():
        value = made[name]
        if (value.shape, value.dtype) != (shape, dtype):
            raise UserError(
                f"{where} has {name} of (height, width, channels) {value.shape}, {value.dtype};"
                f" config.model wants {shape}, {dtype}"
            )


def _check_labels(config: ConfigDict, source: sources.Source, where: str):
    """Raises UserError unless the data has labels, of as many classes as the model or fewer."""
    if "label" not in source[0]:
        raise UserError(f"{where} has no labels, and config.method = {config.method!r} learns them")
    names, classes = source.class_names, config.model.num_classes
    if names is not None and len(names) > classes:
        raise UserError(f"config.model.num_classes = {classes}: {where} has {len(names)} classes")


def _first_example(config: ConfigDict, source: sources.Source):
    transform, bad = eval_transform(config), []
    count = min(len(source), IN_A_ROW)
    for number in range(count):
        try:
            return transformed(transform, read_example(source, number))
        except ExampleError as error:
            if config.data.on_error == "error" or count == 1:
                raise
            bad.append(Bad(number, error.name, str(error)))
    raise UserError(
        f"config.data.path = {data_spec(config)!r}: the first {len(bad)} training examples cannot"
        f" be used:\n{listing(bad)}"
    )


def eval_batches(
    config: ConfigDict, split: str, *, ids: bool = False
) -> Callable[[], Iterator[Batch]]:
    """A callable that gives a fresh evaluation iterator over the split, every image once.

    The batch is rounded up to the number of devices; `ids` adds the image ids. Unusable examples of
    the training split are treated as in training, so that a run which skips them can score itself.
    """
    from maskjax.data.evaluate import evaluation_batches

    source, transform = data_source(config, split), eval_transform(config)
    policy = config.data if split == "train" else config.evaluate
    shards = jax.device_count()
    return lambda: evaluation_batches(
        source,
        transform,
        batch_size=-(-config.evaluate.batch // shards) * shards,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        ids=ids,
        on_error=policy.on_error,
        bad_share=config.data.bad_share,
    )
