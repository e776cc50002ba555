"""Sizes as plain values that travel in the header of a weights file."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from maskjax.errors import UserError

PREFIX = "geometry."
FAMILY = "family"


class Described:
    """What the geometries of all families can do; a base of frozen dataclasses.

    Attributes:
        FAMILY: Name of the kind of network; "" for ViTs, whose headers do not say it.
    """

    FAMILY: ClassVar[str] = ""

    def to_metadata(self) -> dict[str, str]:
        """As strings for a file header: ``{"geometry.dim": "768", ...}``, each value in JSON."""
        family = {FAMILY: self.FAMILY} if self.FAMILY else {}
        values = family | dataclasses.asdict(self)
        return {PREFIX + name: json.dumps(value) for name, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self | None:
        """Undo :meth:`to_metadata`; None when the metadata holds no geometry.

        Fields that a newer maskjax wrote and this one does not know are ignored.

        Raises:
            UserError: A field is missing or is not JSON.
        """
        try:
            found = header_values(metadata)
            known = {field.name for field in dataclasses.fields(cls)}
            values = {name: value for name, value in found.items() if name in known}
            return cls(**values) if found else None
        except (TypeError, json.JSONDecodeError) as error:
            raise UserError(
                f"the geometry in the file's metadata cannot be read: {error}"
            ) from None

    def differences(self, other: Any, fields: Iterable[str]) -> tuple[str, ...]:
        """Which of ``fields`` differ, as "name: mine, other's"."""
        values = ((name, getattr(self, name), getattr(other, name)) for name in fields)
        return tuple(f"{name}: {mine}, {theirs}" for name, mine, theirs in values if mine != theirs)


def header_values(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The values of a header's geometry, its family among them.

    Raises:
        json.JSONDecodeError: One is not JSON.
    """
    found = {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}
    return {name: json.loads(value) for name, value in found.items()}
