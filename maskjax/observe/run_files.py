"""What a run directory says about the run: config.json, overrides.json, run.json."""

import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from maskjax.errors import UserError
from maskjax.observe.files import encode, read_json, write_json

CONFIG, OVERRIDES, FACTS = "config.json", "overrides.json", "run.json"
_ABSENT = "(absent)"


def write_config(
    workdir: str | os.PathLike, resolved: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Writes config.json (the resolved config, sorted) and overrides.json, each atomically.

    Args:
        workdir: folder of the run; made if missing.
        resolved: nested mapping of the whole config.
        overrides: {dotted key: value} of what the command line changed.
    """
    write_json(pathlib.Path(workdir) / CONFIG, resolved)
    write_json(pathlib.Path(workdir) / OVERRIDES, overrides)


def write_facts(workdir: str | os.PathLike, facts: Mapping[str, Any]) -> None:
    """Merges facts of the run into run.json, such as {"device": "8 x TPU v5 lite"}.

    The report shows "device"; versions and the like are kept for whoever reads the file.
    """
    write_json(pathlib.Path(workdir) / FACTS, {**read_facts(workdir), **facts})


def read_facts(workdir: str | os.PathLike) -> dict[str, Any]:
    """What `write_facts` wrote, {} if nothing yet."""
    path = pathlib.Path(workdir) / FACTS
    return read_json(path) if path.is_file() else {}


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """The resolved config of a run; tuples come back as lists.

    Raises:
        UserError: if the folder holds no config.json, or a broken one.
    """
    path = pathlib.Path(workdir) / CONFIG
    if not path.is_file():
        raise UserError(f"--workdir={workdir}: no {CONFIG} there, so it is not the folder of a run")
    config = read_json(path)
    if not isinstance(config, dict) or "method" not in config:
        raise UserError(f"{path}: is not the config of a run; checkpoints/<step>/meta holds a copy")
    return config


def check_same_config(
    workdir: str | os.PathLike, resolved: Mapping[str, Any], ignore: Collection[str] = ()
) -> None:
    """Refuses to go on in a folder that belongs to a run with another config.

    Args:
        workdir: folder of the run; one without a config.json passes.
        resolved: the config to go on with.
        ignore: dotted keys that may differ; a section's name stands for all of it.

    Raises:
        UserError: listing every other difference as "key: old -> new".
    """
    if not (pathlib.Path(workdir) / CONFIG).is_file():
        return
    changes = differences(read_config(workdir), resolved)
    lines = [
        f"  {key}: {old!r} -> {new!r}"
        for key, (old, new) in changes.items()
        if not any(key == free or key.startswith(f"{free}.") for free in ignore)
    ]
    if lines:
        raise UserError(
            f"--workdir={workdir} holds a run with another config:\n" + "\n".join(lines) + "\n"
            "Take another folder, or the config of that run to go on with it."
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (old value, new value)} where two nested configs differ, sorted by key.

    Tuples equal lists and 1 equals 1.0, as they do after a round trip through JSON.
    """
    before, after = _flat(encode(old)), _flat(encode(new))
    return {
        key: (before.get(key, _ABSENT), after.get(key, _ABSENT))
        for key in sorted(before.keys() | after.keys())
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
