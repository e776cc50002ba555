"""``video:DIR`` or ``video:FILE.csv``: videos as files (mp4, avi, ...) or as folders of frames."""

from typing import Any

from maskjax.data import files
from maskjax.data.sources import tree
from maskjax.data.sources.formats import is_image
from maskjax.data.sources.listed import ListedSource
from maskjax.data.sources.table import read_table
from maskjax.data.video_file import EncodedVideo, FrameFolder

KIND = "video"
EXTENSIONS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v")


def build(argument: str, split: str) -> "VideoSource":
    """DIR/<split>/<class>/VIDEO, DIR/<split>/VIDEO, or a table with the columns file, label, split.

    A VIDEO is a file, or a folder of images, in the order of the numbers in their names. The paths
    in a table are relative to the folder it lies in; see ``sources.table``.
    """
    root = files.absolute(argument) if argument else ""
    if root.lower().endswith(".csv"):
        table = read_table(root, ("file",), split)
        folder = root.rpartition("/")[0]
        return VideoSource(folder, table.columns["file"], table.labels, table.class_names)
    folder = tree.split_folder(f"video:{argument}", root, split)
    siblings = tree.sibling_folders(root, split)
    items = tree.find(folder, siblings, "videos", is_video, is_image)
    prefix = folder.removeprefix(root).lstrip("/")
    names = [f"{prefix}/{name}".lstrip("/") for name in items.names]
    return VideoSource(root, names, items.labels, items.class_names)


def is_video(name: str) -> bool:
    """Whether a file name ends like that of a video, in upper or lower case."""
    return name.lower().endswith(EXTENSIONS)


class VideoSource(ListedSource):
    """Handles of videos by path; nothing is opened before frames are asked for."""

    kind = KIND

    def content(self, index: int) -> dict[str, Any]:
        """{"video": a handle with count() and read(frames)}."""
        path = files.join(self.root, self.names[index])
        return {"video": EncodedVideo(path) if is_video(path) else FrameFolder(path)}
