"""The table of drawings, in the order in which they stand on the sheet and the page."""

from maskjax.gallery import attention, pixels, tokens
from maskjax.gallery.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *tokens.ENTRIES,
    *pixels.ENTRIES,
    *tokens.MANY,
    *attention.ENTRIES,
)


def families() -> dict[str, list[Entry]]:
    """The entries by family, in order."""
    found: dict[str, list[Entry]] = {}
    for entry in ENTRIES:
        found.setdefault(entry.family, []).append(entry)
    return found
