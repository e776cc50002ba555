"""Reading one example of a source, and what is said and done when that fails."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from maskjax.data.source import Source
from maskjax.data.wrap import ConcatSource, SubsetSource
from maskjax.errors import UserError

ON_ERROR = ("error", "skip")
# So many unusable examples are forgiven whatever share they are; beyond that it is a question of
# their share.
FORGIVEN = 30
# So many unusable examples in a row are no accident: a folder or a shard is gone.
IN_A_ROW = 20

T = TypeVar("T")


class Bad(NamedTuple):
    """An example that could not be used.

    Attributes:
        position: of the row that wanted it: in the training stream, or in an evaluation source.
        id: its id, or "example N" where the source cannot tell without reading it.
        reason: one line.
    """

    position: int
    id: str
    reason: str


class ExampleError(UserError):
    """One example of a source cannot be used; others may be fine.

    Args:
        name: the id of the example.
        reason: why; the message is the reason, with the id in front unless it says it.
    """

    def __init__(self, reason: str, name: str = ""):
        called = name if name.startswith("example ") else f"example {name!r}"
        super().__init__(reason if name in reason else f"{called}: {reason}")
        self.name = name


class Tally:
    """The examples that were passed over so far, and the limit to their number.

    Args:
        share: of bad examples, beyond the first ``FORGIVEN``.
        what: the examples, for the message.
        key: the config entry that sets the share.

    Attributes:
        bad: in the order in which they were met.
        seen: good and bad examples.
    """

    def __init__(self, share: float, what: str, key: str):
        self.bad: list[Bad] = []
        self.seen = 0
        self._share, self._what, self._key = share, what, key

    def add(self, good: int, bad: Sequence[Bad]) -> None:
        """Counts more examples.

        Raises:
            UserError: too many are; names the first of them.
        """
        self.seen += good + len(bad)
        self.bad += bad
        if len(self.bad) > FORGIVEN + self._share * self.seen:
            raise UserError(
                f"{len(self.bad)} of the {self.seen} {self._what} read here cannot be used, more"
                f" than {FORGIVEN} and a share of {self._share:g} ({self._key}); the first of"
                f" them:\n{listing(self.bad)}"
            )

    def count(self, position: int) -> int:
        """How many were passed over for rows before a position."""
        return sum(one.position < position for one in self.bad)


def require_on_error(value: str, key: str) -> None:
    """Raises UserError unless ``value`` is one of ``ON_ERROR``."""
    if value not in ON_ERROR:
        raise UserError(f"{key} = {value!r}: must be one of {', '.join(ON_ERROR)}")


def read_example(source: Source, number: int) -> dict[str, Any]:
    """``source[number]``, checked.

    Raises:
        ExampleError: it cannot be read, has no id, or its label is none.
    """
    try:
        example = source[number]
    except UserError as error:
        raise ExampleError(str(error), name_of(source, number)) from error
    except MemoryError:
        raise
    except Exception as error:
        # Damaged records make readers raise nearly anything: struct.error, KeyError, zlib.error...
        reason = f"cannot be read: {type(error).__name__}: {error}"
        raise ExampleError(reason, name_of(source, number)) from error
    if not isinstance(example, Mapping) or not isinstance(example.get("id"), str):
        raise ExampleError("is no dict with a str 'id'", f"example {number}")
    if "label" in example:
        _check_label(example["label"], source.class_names, example["id"])
    return example


def transformed(transform: Callable[..., T], example: dict[str, Any], *args: Any) -> T:
    """``transform(example, *args)``.

    Raises:
        ExampleError: what the transform says about this example, as a UserError or OSError.
        RuntimeError: anything else that it raises is its own fault; names the example.
    """
    try:
        return transform(example, *args)
    except (UserError, OSError) as error:
        raise ExampleError(str(error), example["id"]) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Plain text, since what is raised in a worker has to survive pickling.
        what = f"the transform failed on example {example['id']!r}: {type(error).__name__}: {error}"
        raised = RuntimeError(what)
        raised.add_note(traceback.format_exc())
        raise raised from error


def name_of(source: Source, number: int) -> str:
    """The id of an example that cannot be read, or "example N"; reads no example."""
    if isinstance(source, SubsetSource):
        return name_of(source.source, int(source.numbers[number]))
    if isinstance(source, ConcatSource):
        part = int(np.searchsorted(source.starts, number, side="right")) - 1
        return source.prefixes[part] + name_of(
            source.parts[part], number - int(source.starts[part])
        )
    return source.ids()[number] if hasattr(source, "ids") else f"example {number}"


def listing(bad: Sequence[Bad], limit: int = 3) -> str:
    """The first few reasons, one a line."""
    lines = [f"  {one.reason}" for one in bad[:limit]]
    more = [f"  and {len(bad) - limit} more"] if len(bad) > limit else []
    return "\n".join(lines + more)


def _check_label(label: Any, class_names: Sequence[str] | None, name: str) -> None:
    if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
        raise ExampleError(f"the label is no whole number: {label!r}", name)
    if class_names is not None and not 0 <= label < len(class_names):
        count = len(class_names)
        reason = f"the label is {label}, outside of 0 .. {count - 1} ({count} classes)"
        raise ExampleError(reason, name)
    if not -(2**31) <= label < 2**31:
        raise ExampleError(f"the label is {label}, beyond 32 bits", name)
