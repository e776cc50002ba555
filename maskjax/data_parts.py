"""What a config says about its data: sources, transforms, and the shapes of a batch."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maskjax.data import source as sources
from maskjax.data.subset import select_ids
from maskjax.data.transforms import EvalTransform, TrainTransform
from maskjax.errors import UserError
from maskjax.method import Batch
from maskjax.options import pair


def example_batch(config: ConfigDict, size: int) -> Batch:
    """Shapes and dtypes of a training batch of `size` examples."""
    height, width = pair(config.model.image_size, "model.image_size")
    image = (size, height, width, config.model.channels)
    return {
        "image": jax.ShapeDtypeStruct(image, jnp.uint8),
        "position": jax.ShapeDtypeStruct((size, 2), jnp.uint32),
    }


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


def train_transform(config: ConfigDict) -> TrainTransform:
    """Augmentation of training images, as `config.data` says."""
    data = config.data
    return TrainTransform(
        pair(config.model.image_size, "model.image_size"),
        scale=tuple(data.crop_scale),
        ratio=tuple(data.crop_ratio),
        flip=data.flip,
        crop=data.crop,
        channels=config.model.channels,
    )


def eval_transform(config: ConfigDict) -> EvalTransform:
    """Resize and centre crop of evaluation images, as `config.data` says."""
    size = pair(config.model.image_size, "model.image_size")
    return EvalTransform(size, config.data.resize, channels=config.model.channels)


def check_example(config: ConfigDict, source: sources.Source):
    """Reads the first training image, so that unreadable data fails in a second.

    Raises:
        UserError: if it cannot be read as the model wants it.
    """
    example = eval_transform(config)(source[0])
    height, width = pair(config.model.image_size, "model.image_size")
    if example.shape != (height, width, config.model.channels):
        raise UserError(
            f"config.data.path = {data_spec(config)!r} has images of (height, width, channels)"
            f" {example.shape}; config.model wants {(height, width, config.model.channels)}"
        )


def eval_batches(
    config: ConfigDict, split: str, *, ids: bool = False
) -> Callable[[], Iterator[Batch]]:
    """A callable that gives a fresh evaluation iterator over the split, every image once.

    The batch is rounded up to the number of devices; `ids` adds the image ids.
    """
    from maskjax.data.evaluate import evaluation_batches

    source, transform = data_source(config, split), eval_transform(config)
    shards = jax.device_count()
    return lambda: evaluation_batches(
        source,
        transform,
        batch_size=-(-config.evaluate.batch // shards) * shards,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        ids=ids,
    )
