"""Serialised tf.Example records -> image, label and id, by the features that TFDS describes."""

from typing import Any

import numpy as np

from maskjax.data.sources.checks import require_package
from maskjax.data.sources.tfds_dir import FEATURES, local_metadata
from maskjax.errors import UserError

_IDS = ("file_name", "filename", "image/filename", "id")


def load(folder: str) -> Any:
    """The features that features.json and the files beside it describe.

    Raises:
        UserError: TFDS is not installed, or it cannot read them.
    """
    require_package("tensorflow_datasets", f"{folder}/{FEATURES}", "maskjax[tfds]")
    import tensorflow_datasets as tfds

    try:
        return tfds.features.FeatureConnector.from_config(local_metadata(folder))
    except Exception as error:
        # Whatever TFDS raises here is about the content of these files.
        raise UserError(f"TFDS cannot read {folder}/{FEATURES}: {error}") from error


class FeatureDecoder:
    """record -> {"image": bytes of the file, or an array; "label": int, "id": str, if there}.

    Args:
        features: ``tfds.features.FeaturesDict``.
        where: names it in messages.
        image, label: keys; None: "image", or the only Image; "label", or the only ClassLabel.
    """

    def __init__(self, features: Any, where: str, image: str | None, label: str | None):
        import tensorflow_datasets as tfds

        kinds = tfds.features
        self.image = _key(features, where, image, "image", kinds.Image)
        self.label = _key(features, where, label, "label", kinds.ClassLabel, kinds.Scalar)
        if self.image is None:
            found = ", ".join(features)
            raise UserError(
                f"{where} has no image among its features ({found}); write #image=FEATURE"
            )
        self.id = next((key for key in _IDS if key in features and not features[key].shape), None)
        wanted = {key: features[key] for key in (self.image, self.label, self.id) if key}
        # Fewer features are parsed, and whatever cannot be decoded without TensorFlow is left out.
        self._features = kinds.FeaturesDict(wanted)
        self._decoders = (
            {self.image: tfds.decode.SkipDecoding()}
            if isinstance(wanted[self.image], kinds.Image)
            else None
        )
        names = getattr(features[self.label], "names", None) if self.label else None
        self.class_names = tuple(names) if names else None

    def __call__(self, record: bytes) -> dict[str, Any]:
        try:
            row = self._features.deserialize_example_np(record, decoders=self._decoders)
        except Exception as error:
            # Damaged protobufs, lacking features: TFDS has many ways to say it.
            raise UserError(f"cannot be parsed as the features say: {error}") from error
        example = {"image": row[self.image]}
        if self.label:
            example["label"] = int(row[self.label])
        if self.id:
            name = row[self.id]
            example["id"] = name.decode() if isinstance(name, bytes) else str(name)
        return example


def _key(features: Any, where: str, chosen: str | None, usual: str, *kinds: type) -> str | None:
    if chosen is not None and chosen not in features:
        raise UserError(f"{where} has no feature {chosen!r}; it has: {', '.join(features)}")
    if chosen is not None:
        return chosen
    if usual in features and _fits(features[usual], kinds):
        return usual
    found = [key for key in features if isinstance(features[key], kinds[0])]
    if len(found) > 1:
        raise UserError(
            f"{where} has several features that could be the {usual}: {', '.join(found)}; write"
            f" #{usual}=FEATURE"
        )
    return found[0] if found else None


def _fits(feature: Any, kinds: tuple[type, ...]) -> bool:
    integer = not feature.shape and np.issubdtype(feature.np_dtype, np.integer)
    return isinstance(feature, kinds) and (integer or len(kinds) == 1)
