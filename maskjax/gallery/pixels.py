"""The drawings of pixel masks: holes, their shapes, and convolutions that respect them."""

from maskjax.gallery import shows
from maskjax.gallery.entry import Entry, hidden_tokens, visible_of

HOLES, SHAPES, LAYERS = "Holes", "Shapes of masks", "Convolution under masks"


def _hole(title: str, source: str, imports: str, code: str, ratio: float) -> Entry:
    options = {"hidden": lambda hole: hole, "num_keys": 512, "ratio": ratio}
    return Entry(HOLES, title, source, imports, code, shows.hole, **options)


def _tokens(title: str, source: str, imports: str, code: str, ratio: float) -> Entry:
    options = {"hidden": hidden_tokens, "ratio": ratio}
    return Entry(HOLES, title, source, imports, code, shows.split, **options)


BOX = "from maskjax.masking.holes import box"
CENTER = "from maskjax.masking.center import center_out"
OPENINGS = (
    _hole(
        "box",
        "inpainting",
        BOX,
        "box(key, (112, 112), area={ratio})",
        0.25,
    ),
    _hole(
        "free-form strokes",
        "Yu et al. 2019; a reconstruction, area exact",
        "from maskjax.masking.holes import irregular",
        "irregular(key, (112, 112), area={ratio})",
        0.25,
    ),
    _tokens(
        "from the centre",
        "ours, for inpainting",
        CENTER,
        "center_out(key, (14, 14), num_visible={visible}, max_shift=0.2)",
        0.4,
    ),
    _tokens(
        "from the border",
        "ours, for outpainting",
        CENTER,
        'center_out(key, (14, 14), num_visible={visible}, hide="border", shape="disc",\n'
        "           max_shift=0.1)",
        0.6,
    ),
)
STROKES = "from maskjax.masking.holes import irregular"
HOLE = "hole = irregular(key, (112, 112), area={ratio} / 2)\n"
STROKE = (
    "hole = irregular(key, (112, 112), area={ratio} / 8, num_strokes=(1, 1),\n"
    "                 num_turns=3)\n"
)
BOXES = "hole = box(key, (112, 112), area={ratio} / 4, num_boxes=3)\n"


def _shape(title: str, source: str, imports: str, code: str, hole: str = HOLE) -> Entry:
    imports = f"{BOX if 'box(' in hole else STROKES}\n{imports}"
    return Entry(SHAPES, title, source, imports, hole + code, shows.change, ratio=0.4)


MORPHOLOGY = (
    _shape(
        "dilate",
        "grey: before; blue: added",
        "from maskjax.masking.morphology import dilate",
        "hole, dilate(hole, 9)",
    ),
    _shape(
        "erode",
        "orange: taken away",
        "from maskjax.masking.morphology import erode",
        "hole, erode(hole, 7)",
    ),
    _shape(
        "outline",
        "grey: inner rim; blue: outer; orange: inside",
        "from maskjax.masking.morphology import outline",
        'hole, outline(hole, 7, side="both")',
    ),
    _shape(
        "fill holes",
        "blue: what an outline encloses",
        "from maskjax.masking.morphology import fill_holes, outline",
        "rim = outline(hole, 7)\nrim, fill_holes(rim)",
        BOXES,
    ),
    _shape(
        "box around a mask",
        "smallest, snapped to 16 pixels",
        "from maskjax.masking import boxes as box_ops",
        "around = box_ops.snap(box_ops.from_mask(hole), 16)\n"
        "hole, box_ops.to_mask(around, (112, 112))",
        STROKE,
    ),
    _shape(
        "mask pyramid",
        "one mask at every stride; here 8",
        "from maskjax.masking.pyramid import enlarge, pyramid",
        "coarse = pyramid(hole, (112, 112), (4, 8, 16))[8]\nhole, enlarge(coarse, 8)",
    ),
)
CELLS = "from maskjax.masking import random\nfrom maskjax.masking.patches import to_pixels\n"
VALID = (
    "hidden = random(key, (7, 7), num_visible={visible}).hidden()\n"
    "valid = ~to_pixels(hidden, (7, 7), (16, 16))[None]\n"
)


def _layer(title: str, source: str, imports: str, code: str) -> Entry:
    count = lambda ratio: visible_of(ratio) // 4  # noqa: E731
    imports, code = CELLS + imports, VALID + code
    return Entry(LAYERS, title, source, imports, code, shows.image, count=count, ratio=0.5)


WINDOW = "from maskjax.masking.windows import window"
CONVOLUTIONS = (
    _layer(
        "plain convolution",
        "for comparison: the mask dissolves",
        f"from maskjax.masking.conv import conv, hide\n{WINDOW}",
        'conv(hide(x, valid), blur, None, window(9, padding="same"))',
    ),
    _layer(
        "masked convolution",
        "SparK (Tian et al. 2023): the mask stays",
        f"from maskjax.masking.conv import masked_conv\n{WINDOW}",
        'masked_conv(x, valid, blur, window=window(9, padding="same"))',
    ),
    _layer(
        "partial convolution",
        "Liu et al. 2018: re-weighted, the mask shrinks",
        f"from maskjax.masking.conv import partial_conv\n{WINDOW}",
        'partial_conv(x, valid, blur, window=window(9, padding="same"))',
    ),
    _layer(
        "neighbour padding",
        "layer masking (Balasubramanian and Feizi 2023)",
        "from maskjax.masking.neighbour import neighbour_fill",
        "neighbour_fill(x, valid, num_passes=5)",
    ),
    _layer(
        "masked max pool",
        "hidden pixels do not take part",
        f"from maskjax.masking.pool import masked_max_pool\n{WINDOW}",
        'masked_max_pool(x, valid, window=window(4, stride=4), rule="any")',
    ),
    _layer(
        "densify",
        "SparK: a learned token in every gap",
        "from maskjax.masking.conv import densify",
        "densify(x, valid, x.mean((0, 1, 2)))",
    ),
)
ENTRIES = (*OPENINGS, *MORPHOLOGY, *CONVOLUTIONS)
