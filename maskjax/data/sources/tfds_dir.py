"""Where a prepared TFDS data set is, and its few small files that describe it."""

import hashlib
import json
import os
import re
from typing import Any

from maskjax.data import cache, files
from maskjax.errors import UserError

INFO, FEATURES = "dataset_info.json", "features.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_METADATA = (".json", ".txt")


def locate(argument: str) -> str:
    """The directory with dataset_info.json that NAME@DIR, NAME or DIR stands for.

    NAME is that of TFDS, with a config and a version if wanted: imagenet2012_subset/1pct:5.0.0.
    Without a version it is the highest that is there; without DIR, $TFDS_DATA_DIR or
    ~/tensorflow_datasets.

    Raises:
        UserError: nothing is prepared there; the message names the directory that was looked at.
    """
    if "/" in argument.partition("@")[0] and _is_path(argument):
        return _below(files.absolute(argument), None, f"tfds:{argument}")
    name, _, folder = argument.partition("@")
    root = files.absolute(folder or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    base, _, version = name.partition(":")
    if not files.is_dir(root):
        raise UserError(f"tfds:{argument}: there is no directory {root}{_prepare(base, root)}")
    if files.is_file(files.join(root, INFO)) and read_info(root).get("name") == base.split("/")[0]:
        return root
    return _below(files.join(root, base), version or None, f"tfds:{argument}", base, root)


def read_info(folder: str) -> dict[str, Any]:
    """dataset_info.json of a directory, parsed."""
    path = files.join(folder, INFO)
    try:
        return json.loads(files.read(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def local_metadata(folder: str) -> str:
    """A local directory with the .json and .txt files of a data set; itself for a local one.

    TFDS reads them through its own paths, which know fewer kinds of stores.
    """
    if not files.is_remote(folder):
        return folder
    key = hashlib.sha256(folder.encode()).hexdigest()[:24]
    copy = cache.folder() / "tfds" / key
    for name in files.scan(folder)[0]:
        if name.endswith(_METADATA) and not cache.write(
            copy / name, files.read(files.join(folder, name))
        ):
            raise UserError(f"cannot copy {files.join(folder, name)} to {copy}: set MASKJAX_CACHE")
    return str(copy)


def _is_path(argument: str) -> bool:
    return argument.startswith(("/", "~", ".")) or files.is_remote(argument.partition("@")[0])


def _below(base: str, version: str | None, what: str, name: str = "", root: str = "") -> str:
    """The data set in a directory: there, in the folder of a version, or of its one config."""
    if not files.is_dir(base):
        raise UserError(f"{what}: there is no directory {base}{_prepare(name, root)}")
    if version is None and files.is_file(files.join(base, INFO)):
        return base
    folders = files.scan(base)[1]
    if chosen := _version(base, folders, version):
        return chosen
    configs = {name: _version(files.join(base, name), None, version) for name in folders}
    configs = {name: found for name, found in configs.items() if found}
    if len(configs) > 1:
        raise UserError(f"{what}: {base} holds several data sets, name one: {', '.join(configs)}")
    if configs:
        return next(iter(configs.values()))
    raise UserError(
        f"{what}: no prepared data set{f' of version {version}' if version else ''} in {base} or"
        f" its folders (looked for {INFO}); it holds {files.summary(base)}{_prepare(name, root)}"
    )


def _version(base: str, folders: list[str] | None, version: str | None) -> str | None:
    there = [name for name in folders or files.scan(base)[1] if _VERSION.fullmatch(name)]
    for name in sorted(there, key=lambda name: [*map(int, name.split("."))], reverse=True):
        found = files.join(base, name)
        if version in (None, name) and files.is_file(files.join(found, INFO)):
            return found
    return None


def _prepare(name: str, root: str) -> str:
    if not name:
        return ""
    return f". Prepare it once with: tfds build {name} --data_dir={root} --file_format=array_record"
