"""What a config says about examples that are not single images: their transforms."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from maskjax.data.crops import MultiScaleView, RandomView
from maskjax.data.modalities import ModalitiesEval, ModalitiesTrain, Modality
from maskjax.data.pairs import PairEval, PairTrain
from maskjax.data.photo import Photo
from maskjax.data.points import PointsEval, PointsTrain
from maskjax.data.video import Clip, VideoEval, VideoTrain
from maskjax.errors import UserError
from maskjax.method import require
from maskjax.options import pair

# Entries of `data` that would take effect on single images only, or would move pixels of one
# picture away from those of the others.
_NOT_FOR = {
    "pair": ("randaugment", "erase"),
    "video": ("erase",),
    "modalities": (
        *("randaugment", "three_augment", "color_jitter", "greyscale", "blur", "erase"),
    ),
}
_NOT_FOR["points"] = _NOT_FOR["modalities"]


def train_transform(config: ConfigDict, kind: str, spec: str, photo: Photo) -> Callable:
    """Augmentation of training examples of a kind.

    Args:
        config: resolved.
        kind: of `data.source.KINDS`, but "image".
        spec: where the data is, for messages.
        photo: how pictures are read and changed.

    Raises:
        UserError: naming an entry that is out of range, has no effect, or that the model lacks.
    """
    data, sizes = config.data, _Sizes(config, kind, spec)
    for key in _NOT_FOR[kind]:
        value = data[key]
        used = any(value) if isinstance(value, tuple) else bool(value)
        require(not used, f"data.{key}", value, f"cannot be used with examples of kind {kind!r}")
    if kind == "points":
        points = data.points
        return PointsTrain(
            sizes.count("num_points"), tuple(points.scale), points.shift, points.normalize
        )
    view = RandomView(
        sizes.image(), tuple(data.crop_scale), tuple(data.crop_ratio), data.flip, data.crop
    )
    if kind == "modalities":
        return ModalitiesTrain(_modalities(config), view, photo, data.depth_scale)
    sizes.count("channels")
    if kind == "pair":
        return PairTrain(view, photo, data.pairs.shared_crop)
    if data.video.scales:
        view = MultiScaleView(sizes.image(), tuple(data.video.scales), data.flip)
    return VideoTrain(_clip(config, sizes), view, photo)


def eval_transform(config: ConfigDict, kind: str, spec: str, photo: Photo) -> Callable:
    """Resize and centre crop of evaluation examples of a kind; arguments as `train_transform`."""
    data, sizes, photo = config.data, _Sizes(config, kind, spec), photo.for_evaluation()
    if kind == "points":
        return PointsEval(sizes.count("num_points"), data.points.normalize)
    size = sizes.image()
    fits = not data.resize or data.resize >= min(size)
    require(fits, "data.resize", data.resize, f"must be 0 or at least {min(size)}")
    if kind == "modalities":
        return ModalitiesEval(_modalities(config), size, photo, data.resize, data.depth_scale)
    sizes.count("channels")
    if kind == "pair":
        return PairEval(size, photo, data.resize)
    return VideoEval(_clip(config, sizes), size, photo, data.resize)


class _Sizes:
    """The entries of `config.model` that the shapes of examples come from."""

    def __init__(self, config: ConfigDict, kind: str, spec: str):
        self.model = config.model
        self.problem = (
            f"config.data.path = {spec!r} holds examples of kind {kind!r}, whose batches need"
            " config.model.{key}; config.method = "
            f"{config.method!r} has no such entry: it does not train on them"
        )

    def count(self, key: str) -> int:
        value = self._entry(key)
        require(isinstance(value, int) and value > 0, f"model.{key}", value, "must be positive")
        return value

    def image(self) -> tuple[int, int]:
        return pair(self._entry("image_size"), "model.image_size")

    def _entry(self, key: str) -> Any:
        if key not in self.model:
            raise UserError(self.problem.replace("{key}", key))
        return self.model[key]


def _modalities(config: ConfigDict) -> tuple[Modality, ...]:
    return tuple(Modality.read(text) for text in config.data.modalities)


def _clip(config: ConfigDict, sizes: _Sizes) -> Clip:
    video = config.data.video
    return Clip(sizes.count("num_frames"), video.stride, video.sampling)
