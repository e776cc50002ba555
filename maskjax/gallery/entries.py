"""The table of drawings, in the order in which they stand on the sheet and the page."""

from maskjax.gallery import attention, pixels, tokens
from maskjax.gallery.entry import Entry

# Every row of ten on the sheet is one to three whole families.
ENTRIES: tuple[Entry, ...] = (
    *(*tokens.SPATIAL, *tokens.COLOURED),
    *(*tokens.GUIDED, *tokens.IN_TURN, *tokens.REGIONS),
    *(*pixels.HOLES, *pixels.SHAPES),
    *(*pixels.LAYERS, *tokens.SEVERAL),
    *attention.ATTENTION,
)
