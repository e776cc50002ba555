"""A leak of tensorstore that every save would add to, kept small.

`tensorstore.KvStore.Spec(...).to_json()` never frees what it returns (0.1.77 to 0.1.86 at least):

    spec = tensorstore.KvStore.Spec({"driver": "file", "path": "/tmp/"})
    before = sys.getallocatedblocks()
    for _ in range(1000):
        spec.to_json()
    print(sys.getallocatedblocks() - before)  # 4000

Orbax asks for it once for each array of each save, always of the same folder: 0.15 MiB a save for a
state of 110 arrays. Here the last answers are remembered instead.
"""

import functools
import json
from typing import Any

import tensorstore


@functools.lru_cache(maxsize=16)
def _resolved(spec: str) -> str:
    return json.dumps(tensorstore.KvStore.Spec(json.loads(spec)).to_json())


class _Spec:
    """Stands for `tensorstore.KvStore.Spec`: `KvStore.open` takes whatever has `to_json`."""

    def __init__(self, spec: dict[str, Any]):
        self._spec = json.dumps(spec, sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        return json.loads(_resolved(self._spec))


class _KvStore:
    Spec = _Spec

    def __getattr__(self, name: str) -> Any:
        return getattr(tensorstore.KvStore, name)


class _Tensorstore:
    KvStore = _KvStore()

    def __getattr__(self, name: str) -> Any:
        return getattr(tensorstore, name)


def contain():
    """Lets Orbax's `tensorstore_utils` see a tensorstore whose `KvStore.Spec` remembers.

    That module is not public: where another Orbax has none, nothing happens.
    """
    try:
        from orbax.checkpoint._src.serialization import tensorstore_utils
    except ImportError:
        return
    if getattr(tensorstore_utils, "ts", None) is tensorstore:
        tensorstore_utils.ts = _Tensorstore()
