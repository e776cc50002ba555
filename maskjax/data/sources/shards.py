"""Which files make up a split of a sharded data set, and options behind a ``#``."""

import glob

from maskjax.data import files
from maskjax.data.sources.checks import SPLITS, match_split, split_names
from maskjax.errors import UserError

CLASSES_FILE = "classes.txt"


def parse(kind: str, argument: str, options: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """``PATTERN#key=value,key=value`` -> (pattern, {key: value}).

    Raises:
        UserError: no pattern, or an option that is not among ``options``.
    """
    pattern, _, rest = argument.partition("#")
    chosen = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in options or not value:
            raise UserError(
                f"{kind}:{argument}: {part!r} is no option; write {pattern}#"
                + ",".join(f"{name}=..." for name in options)
            )
        chosen[key] = value
    if not pattern:
        raise UserError(f"{kind}: wants the path of files, such as {kind}:/data/train-*")
    return pattern, chosen


def find(kind: str, pattern: str, split: str, suffixes: tuple[str, ...]) -> list[files.Entry]:
    """The files of a split, sorted.

    ``{split}`` in the pattern stands for the name of the split. A directory holds its splits as
    folders (DIR/train/*.tar) or in the names of the files (DIR/*train*.tar, also in DIR/data), else
    its files are every split. So are those of a pattern without ``{split}``, unless their names
    say that they belong to another one.

    Args:
        kind: for messages.
        pattern: see ``files.expand``.
        split: "train", ...; "all" takes whatever a directory or a pattern holds.
        suffixes: of the files that are looked for in a directory: ".tar".

    Raises:
        UserError: nothing is there; there is no such split, and the message lists those there are.
    """
    if "{split}" in pattern:
        return files.expand(pattern.replace("{split}", split))
    where = files.absolute(pattern)
    if not glob.has_magic(where) and "{" not in where and files.is_dir(where):
        return _in_directory(kind, where, split, suffixes)
    found = files.expand(pattern)
    others = split_names(map(_telling_name, found), also=split)
    if others and split != "all" and match_split(split, others) is None:
        raise UserError(
            f"{kind}:{pattern} has no split {split!r}: the names of its files say"
            f" {', '.join(others)}. Write {{split}} in the place of it, or name the split"
        )
    return found


def class_names(folder: str) -> tuple[str, ...] | None:
    """The lines of classes.txt in the folder of some shards; None without such a file."""
    path = files.join(folder, CLASSES_FILE)
    if not files.is_file(path):
        return None
    return tuple(files.read(path).decode().splitlines())


def _in_directory(
    kind: str, folder: str, split: str, suffixes: tuple[str, ...]
) -> list[files.Entry]:
    names, folders = files.scan(folder)
    shards = [name for name in names if _has(name, suffixes)]
    if not shards and "data" in folders and not split_names(folders):
        return _in_directory(kind, files.join(folder, "data"), split, suffixes)
    if shards:
        splits = split_names(shards, also=split)
        if not splits or split == "all":
            return _entries(folder, shards)
        chosen = match_split(split, splits)
        if chosen:
            return _entries(
                folder, [name for name in shards if chosen in split_names([name], also=split)]
            )
    else:
        splits = tuple(
            name
            for name in folders
            if any(_has(file, suffixes) for file in files.scan(files.join(folder, name))[0])
        )
        chosen = match_split(split, splits)
        if chosen:
            below = files.join(folder, chosen)
            return _entries(below, [n for n in files.scan(below)[0] if _has(n, suffixes)])
    if not splits:
        raise UserError(
            f"{kind}:{folder} holds no {' or '.join(suffixes)} file, neither directly nor in"
            f" folders of splits; it holds {files.summary(folder)}"
        )
    raise UserError(f"{kind}:{folder} has no split {split!r}; it has: {', '.join(splits)}")


def _telling_name(file: files.Entry) -> str:
    """The name of a file, with that of its folder when that is the name of a split."""
    *_, folder, name = ("", *file.path.split("/"))
    return f"{folder}/{name}" if folder in SPLITS else name


def _has(name: str, suffixes: tuple[str, ...]) -> bool:
    # Shards of TFDS are called NAME.array_record-00000-of-00001.
    return any(name.lower().endswith(end) or f"{end}-" in name.lower() for end in suffixes)


def _entries(folder: str, names: list[str]) -> list[files.Entry]:
    found = files.entries([files.join(folder, name) for name in names])
    return [file for file in found if file is not None]
