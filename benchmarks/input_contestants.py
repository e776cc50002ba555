"""One contestant of `input.py` in a process of its own, on one core.

Its task: {"name": "maskjax/pillow", "data": DIR, "batch": 64, "core": 1}; see `rounds.py`. A unit
of work is one batch of 224 x 224 images, read from files.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any

from rounds import serve

SIZE = 224
# What MAE's pretraining does: RandomResizedCrop(0.2 .. 1, bicubic) and a flip.
SCALE = (0.2, 1.0)
WARM_UP_BATCHES = 4
# name -> how config.data would say it
OURS: dict[str, dict[str, Any]] = {
    "maskjax/decoder=pillow": {"decoder": "pillow"},
    "maskjax": {},
    "maskjax/simd": {"resample": "simd"},
    "maskjax/opencv": {"resample": "opencv"},
    "maskjax/opencv-bilinear": {"resample": "opencv", "interpolation": "bilinear"},
    "maskjax/simd/2-views": {"resample": "simd", "views": 2},
    "maskjax/simd/4-views": {"resample": "simd", "views": 4},
    "maskjax/simd/288px": {"resample": "simd", "prepared": True},
    "maskjax/simd/288px/2-views": {"resample": "simd", "prepared": True, "views": 2},
}
THEIRS = ("torchvision", "torchvision/PIL")
# Steps of the pipeline alone, on what the step before made.
PARTS = (
    "part/read",
    "part/decode=pillow",
    "part/decode=simplejpeg",
    "part/resize=pillow",
    "part/resize=simd",
    "part/resize=opencv",
    "part/flip",
    "part/batch",
)

# (number of batches) -> None
Run = Callable[[int], None]


def batches_of(iterator: Iterator[Any], size: int) -> Run:
    """Takes batches from an endless iterator and looks at their size."""

    def run(count: int):
        for _ in range(count):
            found = len(next(iterator))
            if found != size:
                raise SystemExit(f"a batch of {found} instead of {size}")

    return run


def ours(task: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    """The training iterator on image files, with one thread in this process."""
    import grain
    import PIL
    import simplejpeg

    import maskjax
    from maskjax.data import source
    from maskjax.data.decode import Decoding
    from maskjax.data.train import train_iterator
    from maskjax.data.transforms import TrainTransform

    settings = dict(OURS[task["name"]])
    folder = task["prepared"] if settings.pop("prepared", False) else task["data"]
    views = settings.pop("views", 1)
    decoding = Decoding(settings.pop("decoder", "simplejpeg"))
    transform = TrainTransform((SIZE, SIZE), SCALE, decoding=decoding, **settings)
    batches = train_iterator(
        source.resolve(f"folder:{folder}", "train"),
        transform,
        seed=0,
        global_batch=task["batch"],
        threads=1,
        views=views,
    )
    versions = {"maskjax": maskjax.__version__, "grain": grain.__version__}
    versions |= {"Pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__}
    return batches_of((batch["image"] for batch in batches), task["batch"]), versions


def part(task: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    """One step alone; a unit of work is as many images as a batch has."""
    import itertools

    import numpy as np

    from maskjax.data import boxes, source
    from maskjax.data.decode import Decoding, decode
    from maskjax.data.geometric import flip_horizontally
    from maskjax.data.random import host_rng
    from maskjax.data.resize import crop_and_resize

    files = source.resolve(f"folder:{task['data']}", "train")
    count = min(256, len(files))
    data = [files[number]["image"] for number in range(count)]
    pixels = [decode(image, 3) for image in data]
    rngs = [host_rng(0, "augment", number) for number in range(count)]
    cuts = [
        boxes.random_resized_crop_box(rng, *image.shape[:2], SCALE)
        for rng, image in zip(rngs, pixels, strict=True)
    ]
    small = [crop_and_resize(*pair, (SIZE, SIZE)) for pair in zip(pixels, cuts, strict=True)]
    _, step, setting = task["name"].replace("=", "/").ljust(20, "/").split("/")[:3]

    def one(number: int):
        if step == "read":
            return files[number]
        if step == "decode":
            return decode(data[number], 3, "?", Decoding(setting))
        if step == "resize":
            box = cuts[number]
            return crop_and_resize(pixels[number], box, (SIZE, SIZE), "bicubic", setting)
        return flip_horizontally(small[number])

    numbers = itertools.cycle(range(count))

    def run(batches: int):
        for _ in range(batches):
            if step == "batch":
                np.stack([small[next(numbers)] for _ in range(task["batch"])])
                continue
            for _ in range(task["batch"]):
                one(next(numbers))

    return run, {}


def torchvision_mae(task: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    """ImageFolder and the transform of MAE's pretraining in a DataLoader of this process.

    With "/PIL" the transform ends before ToTensor and Normalize, and pictures are stacked as
    uint8: what is left is what maskjax does on the host (it normalises on the device).
    """
    import numpy as np
    import torch

    torchvision = import_torchvision()
    from torchvision import datasets, transforms

    torch.set_num_threads(1)
    steps = [
        transforms.RandomResizedCrop(SIZE, scale=SCALE, interpolation=3),
        transforms.RandomHorizontalFlip(),
    ]
    collate = None
    if task["name"].endswith("/PIL"):

        def collate(rows: list) -> tuple:
            return np.stack([np.asarray(picture) for picture, _ in rows]), [y for _, y in rows]

    else:
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(f"{task['data']}/train", transforms.Compose(steps)),
        batch_size=task["batch"],
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
    )

    def endless() -> Iterator[Any]:
        while True:
            for images, _ in loader:
                yield images

    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    return batches_of(endless(), task["batch"]), versions


def import_torchvision():
    """torchvision, also a build whose compiled operators do not fit the torch that is installed.

    The wheels of the package index are built for CUDA; beside a torch for CPUs their operators
    (NMS and others) cannot be loaded, and importing stops where their shapes are declared. The
    transforms of PIL pictures use none of them, so they are declared here without being defined.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.declared = library  # Kept alive with the module.
    return torchvision


def prepare(task: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    """A warm contestant."""
    make = part if task["name"] in PARTS else ours if task["name"] in OURS else torchvision_mae
    run, versions = make(task)
    run(WARM_UP_BATCHES)
    return run, versions


def photographs(count: int, height: int, width: int, quality: int) -> Iterator[bytes]:
    """JPEG files: crops of the embedded photographs, enlarged or reduced to the size.

    Args:
        count: how many; they go through the photographs in turn.
        height, width: of the files, in pixels.
        quality: of the JPEG encoder.
    """
    from PIL import Image

    from maskjax.data.random import host_rng
    from maskjax.data.sources.photos import NAMES, photo

    for number in range(count):
        picture = Image.fromarray(photo(NAMES[number % len(NAMES)]))
        rng = host_rng(0, "benchmark/photographs", number)
        fit = min(picture.width / width, picture.height / height) * rng.uniform(0.8, 1)
        left = rng.uniform(0, picture.width - fit * width)
        top = rng.uniform(0, picture.height - fit * height)
        box = (left, top, left + fit * width, top + fit * height)
        data = io.BytesIO()
        resized = picture.resize((width, height), Image.Resampling.BICUBIC, box)
        resized.save(data, "JPEG", quality=quality)
        yield data.getvalue()


if __name__ == "__main__":
    serve(prepare)
