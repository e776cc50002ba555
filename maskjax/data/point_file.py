"""Point clouds in files: npz and npy arrays, meshes and clouds as off, ply, obj."""

import io
import re
import zlib

import numpy as np

from maskjax.data import files
from maskjax.data.random import host_rng
from maskjax.errors import UserError

ARRAYS = (".npz", ".npy")
MESHES = (".off", ".ply", ".obj", ".stl")
# Points that stand for a mesh: ShapeNet's clouds have as many.
SURFACE_POINTS = 8192
_KEYS = ("points", "pos", "xyz", "pc")
# ModelNet's files often lack the line break behind the first word.
_GLUED_OFF = re.compile(rb"\A(OFF)(?=[ \t]*\d)")


def is_cloud(name: str) -> bool:
    """Whether a file name ends like that of a point cloud or a mesh, in upper or lower case."""
    return name.lower().endswith(ARRAYS + MESHES)


def read_points(path: str, name: str) -> np.ndarray:
    """float32[N, 3] of a file.

    Arrays: [N, 3 or more], the first three columns; in an npz file under "points", "pos", "xyz" or
    "pc", or as the only array. Meshes: 8,192 points, uniform over the surface, which depend on
    ``name`` only. Files of points without faces are taken as they are.

    Raises:
        UserError: the file cannot be read, or holds no points; trimesh is not installed.
    """
    data = files.read(path)
    try:
        points = (
            _from_array(data) if path.lower().endswith(ARRAYS) else mesh_points(data, path, name)
        )
    except UserError:
        raise
    except Exception as error:
        # Broken files make the readers raise nearly anything.
        raise UserError(f"cannot read the points of {path}: {error}") from error
    if points.ndim != 2 or points.shape[1] < 3 or not len(points):
        raise UserError(f"{path}: wants points [N, 3], found {list(points.shape)}")
    return np.ascontiguousarray(points[:, :3], np.float32)


def _from_array(data: bytes) -> np.ndarray:
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    names = [key for key in _KEYS if key in loaded] or loaded.files
    if len(names) != 1:
        raise UserError(f"wants one array named {' or '.join(_KEYS)}, found {names}")
    return loaded[names[0]]


def mesh_points(data: bytes, path: str, name: str) -> np.ndarray:
    """Points of the content of a mesh file, see `read_points`.

    Args:
        data: of the file.
        path: whose ending tells the kind of file.
        name: which the choice of points depends on.
    """
    try:
        import trimesh
    except ImportError as error:
        raise UserError(f"reading {path} needs trimesh: pip install maskjax[points]") from error
    kind = path.rpartition(".")[2].lower()
    data = _GLUED_OFF.sub(rb"\1\n", data)
    shape = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
    if isinstance(shape, trimesh.Scene):
        shape = shape.to_mesh()
    if not len(getattr(shape, "faces", ())):
        return np.asarray(shape.vertices)
    rng = host_rng(0, "points/surface", zlib.crc32(name.encode()))
    return surface_points(np.asarray(shape.triangles), SURFACE_POINTS, rng)


def surface_points(triangles: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """float64[count, 3]: points that are uniform over the area of triangles float[F, 3, 3]."""
    origin, sides = triangles[:, 0], triangles[:, 1:] - triangles[:, :1]
    areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    faces = np.searchsorted(np.cumsum(areas) / areas.sum(), rng.random(count), side="right")
    faces = np.minimum(faces, len(areas) - 1)
    weights = rng.random((count, 2))
    # Points of the parallelogram's other half are turned into the triangle.
    weights = np.where(weights.sum(axis=1, keepdims=True) > 1, 1 - weights, weights)
    return origin[faces] + (weights[..., None] * sides[faces]).sum(axis=1)
