"""Experiment files: finding them, their default entries, and overrides from the command line."""

import difflib
import importlib.util
import pathlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from maskjax.errors import UserError

# Entries of `data` that say how images are read, cropped and changed.
AUGMENTATION = {
    "crop": True,  # random resized crop; False = resize + centre crop only
    "crop_scale": (0.2, 1.0),  # share of the image's area
    "crop_ratio": (3 / 4, 4 / 3),
    "flip": True,
    "resize": 0,  # short side in evaluation before the centre crop; 0 = the image size
    "interpolation": "bicubic",  # or nearest, box, bilinear, lanczos; area with opencv
    "resample": "pillow",  # in training; simd: same filters, faster; opencv: no antialias
    "decoder": "simplejpeg",  # of JPEG; pillow is slower and takes damaged files
    "reducing_gap": 2.0,  # large JPEGs are decoded at 1/2 .. 1/8 down to this; 0 = never
    "max_pixels": 89_478_485,  # height x width above which a file is refused
    "randaugment": "",  # such as "m9-mstd0.5-inc1"
    "three_augment": False,  # greyscale, solarize or blur (DeiT III)
    "color_jitter": (0.0, 0.0, 0.0, 0.0),  # brightness, contrast, saturation, hue
    "color_jitter_prob": 1.0,
    "greyscale": 0.0,  # share of the images that lose their colour
    "blur": 0.0,  # share of the images that are blurred
    "erase": 0.0,  # share of the images with a box of noise (random erasing)
}


# What else the data of each kind needs (see `data.source.KINDS`).
KINDS = {
    "pairs": {"shared_crop": False},  # one crop for both views of a pair
    "modalities": ("rgb", "depth", "semseg"),  # NAME[=TYPE][/STRIDE]; see docs/data.md
    "depth_scale": 1.0,  # depth is multiplied by this
    "video": {
        "stride": 4,  # frames from one to the next
        "sampling": "dense",  # or segments: a frame from each of num_frames equal parts
        "scales": (),  # crops as VideoMAE has them, of these shares of the short side
    },
    "points": {
        "scale": (2 / 3, 3 / 2),  # range of the random factor of each axis
        "shift": 0.2,  # largest random distance along each axis
        "normalize": True,  # to mean 0 and radius 1
    },
}

DATA = {
    "path": "photo_crops",  # see maskjax.data.source
    "mixture": (),  # instead of path: ("0.7*folder:/a", "0.3*folder:/b"); see docs/data.md
    "train_split": "train",  # also a slice: train[:1%], train[100:200], train[50%:]
    "test_split": "test",
    "subset": "",  # text file of ids or file names: training uses these only
    "global_batch": 64,  # examples per step, over all devices and micro-batches
    "views": 1,  # rows in a row that show the same example, each augmented on its own
    **AUGMENTATION,
    **KINDS,
    "workers": 0,  # processes for decoding and augmentation; 0 = threads
    "on_error": "skip",  # unusable training examples: skip (count, list) or error
    "bad_share": 0.05,  # of skipped examples, above which the run ends
    "timeout": 1800.0,  # seconds without a batch, after which the run ends; 0 = never
}

# When a process of the run leaves, to be started again; seconds.
PROCESSES = {
    "hang": 1800.0,  # without progress; 0 = never
    "data_ready": 0.0,  # all must have the next batch within these; 0 = no such wait
}


def default_config(method: str) -> ConfigDict:
    """Every entry that an experiment has, with its default; `model` is the method's DEFAULTS."""
    from maskjax.method import load_method
    from maskjax.train import optim

    sections = {
        "method": method,
        "seed": 0,
        "model": dict(load_method(method).DEFAULTS),
        "data": dict(DATA),
        "optim": dict(optim.DEFAULTS),
        "train": {
            "steps": 0,  # one of these two
            "epochs": 0.0,
            "accumulate": 1,  # micro-batches per step
            "log_every": 50,
            # Steps in a row without a finite loss and gradient that are left out before the run
            # ends; 0 = the first one that is seen ends it.
            "max_skipped": 10,
        },
        "checkpoint": {
            "every": 1000,  # steps; the last step is always saved
            "keep_last": 2,
            "keep_every": 0,  # also keeps steps divisible by this; 0 = none
            "keep_best": (),  # also keeps the best by (metric, "min" | "max")
            "mirror": "",  # gs://, s3:// ...: finished checkpoints are copied there too
        },
        # Devices per axis; -1 = all that are left.
        "mesh": {"replica": 1, "data": -1, "fsdp": 1, "tensor": 1},
        "evaluate": {
            "evaluators": ("knn", "linear_probe", "rank", "reconstruction", "held_out"),
            "during": (),  # evaluators that also run while training
            "every": 0,  # steps between them; 0 = never
            "batch": 128,
            "pool": "mean",  # mean of patch tokens, or cls
            "protocol": "",  # name of the protocol, which a classifier's scores carry
            "on_error": "error",  # unusable test examples: error, or skip (leave out, warn)
        },
        "tensorboard": True,
        "wandb": "",  # project of Weights & Biases, if wanted (pip install 'maskjax[wandb]')
        "mlflow": "",  # experiment of MLflow, if wanted (pip install 'maskjax[mlflow]')
        # Steps recorded into WORKDIR/profile, counted from where the process starts; 0 = none.
        "profile": {"start": 10, "steps": 0},
        "processes": dict(PROCESSES),
        "init_from": "",  # safetensors or npz file in any known layout: weights only
        "init_missing": (),  # what that file may lack, such as ("decoder/*",)
        "init_unused": (),  # keys of it that may be left over, such as ("head.*",)
    }
    return ConfigDict(sections, convert_dict=True)


# These may differ between a run and its resumption: they do not change what is computed.
FREE_KEYS = (
    "data.workers",
    "data.on_error",
    "data.bad_share",
    "data.timeout",
    "train.log_every",
    "train.accumulate",
    "train.max_skipped",
    "checkpoint",
    "mesh",
    "evaluate",
    "tensorboard",
    "wandb",
    "mlflow",
    "profile",
    "processes",
)


def load_config(spec: str, overrides: Sequence[str] = ()) -> tuple[ConfigDict, dict[str, Any]]:
    """The experiment at `FILE[:ARG]`, with overrides applied and locked.

    Args:
        spec: a Python file with `get_config(arg)`, or the name of an installed one such as
            `mim/mae:b16`, with an argument that selects a variant.
        overrides: `--config.key=value`, as on the command line.

    Returns:
        The config, and {key: value} of what was overridden.

    Raises:
        UserError: if there is no such file or variant, the file is wrong, or an override names a
            key that does not exist or a value of the wrong type.
    """
    from absl import flags
    from ml_collections import config_flags

    config = _get_config(find_config(spec))
    _check_entries(config, spec)
    for override in overrides:
        _check_key(config, override)
    values = flags.FlagValues()
    argv = ["maskjax", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    config.lock()
    return config, dict(config_flags.get_override_values(values["config"]))


def _get_config(path_and_arg: str) -> ConfigDict:
    path, _, arg = path_and_arg.partition(":")
    module_spec = importlib.util.spec_from_file_location("maskjax_experiment", path)
    if module_spec is None:
        raise UserError(f"--config={path}: is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(f"--config={path}: has no function get_config(arg)")
        return module.get_config(arg) if arg else module.get_config()
    except UserError:
        raise
    except Exception as error:  # whatever the user's own code raises
        where = f"--config={path}{_line_in(path, error)}"
        raise UserError(f"{where}: {type(error).__name__}: {error}") from error


def _line_in(path: str, error: Exception) -> str:
    """Where in the file at `path` an error came from, as ", line N"; "" if it did not."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    here = pathlib.Path(path).resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename).resolve() == here]
    return f", line {lines[-1]}" if lines else ""


def _check_entries(config: Any, spec: str):
    """Raises UserError unless `config` has the sections of `default_config` and no other entries.

    A typo in a file would else be an entry that nobody reads. The method checks `model`.
    """
    if not isinstance(config, ConfigDict) or "method" not in config:
        raise UserError(
            f"--config={spec}: get_config must return maskjax.configs.common.experiment(METHOD),"
            " with its entries changed"
        )
    known = default_config(config.method)
    lacking = [name for name in known if name not in config]
    if lacking:
        raise UserError(f"--config={spec}: the config lacks {', '.join(lacking)}")
    for keys in _paths(config):
        if keys[0] != "model":
            _entry(known, keys, f"--config={spec}: config.")


def _paths(config: ConfigDict) -> Iterator[list[str]]:
    for name, value in config.items():
        yield [name]
        if isinstance(value, ConfigDict):
            yield from ([name, *keys] for keys in _paths(value))


def _check_key(config: ConfigDict, override: str):
    """Raises UserError if `--config.a.b=value` names no entry of the config."""
    name, equals, _ = override.removeprefix("--").partition("=")
    if not equals:
        raise UserError(f"{override}: write overrides as --config.key=value")
    node = _entry(config, name.split(".")[1:], "--config.")
    if isinstance(node, ConfigDict):
        raise UserError(f"--{name} is a section; its entries: {', '.join(node)}")


def _entry(config: ConfigDict, keys: Sequence[str], prefix: str) -> Any:
    """The entry at a path; raises UserError with the nearest key if there is none."""
    node: Any = config
    for depth, key in enumerate(keys):
        if not isinstance(node, ConfigDict) or key not in node:
            there = list(node) if isinstance(node, ConfigDict) else []
            near = difflib.get_close_matches(key, there, 1)
            others = f"; there are: {', '.join(there)}" if there else ""
            hint = f"; did you mean {near[0]!r}?" if near else others
            raise UserError(f"{prefix}{'.'.join(keys[: depth + 1])} does not exist{hint}")
        node = node[key]
    return node


def find_config(spec: str) -> str:
    """`FILE[:ARG]` with the path of the file, for a file or the name of an installed experiment.

    Raises:
        UserError: naming the places that were looked at.
    """
    name, _, arg = spec.partition(":")
    suffix = f":{arg}" if arg else ""
    if pathlib.Path(name).is_file():
        return f"{name}{suffix}"
    relative = pathlib.Path(name.removeprefix("configs/"))
    installed = config_folder() / (relative.with_suffix(".py") if relative.name else relative)
    if installed.is_file():
        return f"{installed}{suffix}"
    known = sorted(str(p.relative_to(config_folder())) for p in config_folder().glob("*/*.py"))
    raise UserError(
        f"--config={spec}: no file {name!r}, and no installed experiment of that name;"
        f" installed: {', '.join(k for k in known if '__init__' not in k)}"
    )


def config_folder() -> pathlib.Path:
    """Where the experiment files are: inside the installed package, or at the top of a clone."""
    found = importlib.util.find_spec("maskjax.configs")
    if found and found.submodule_search_locations:
        return pathlib.Path(next(iter(found.submodule_search_locations)))
    return pathlib.Path(__file__).parent.parent / "configs"


def restored_config(resolved: dict[str, Any]) -> ConfigDict:
    """A ConfigDict from what a run saved (`config.json`); lists become tuples again.

    Entries that did not exist when the run was made get their defaults.
    """
    from maskjax.observe.files import with_tuples

    config = ConfigDict(with_tuples(resolved), convert_dict=True)
    for name, section in default_config(config.method).items():
        if name not in config:
            config[name] = section
        elif isinstance(section, ConfigDict) and name != "model":
            for key in set(section) - set(config.get(name, ())):
                config[name][key] = section[key]
    return config
