"""The drawings of pixel masks: holes, their shapes, and convolutions that respect them."""

from typing import Any

from maskjax.gallery import shows
from maskjax.gallery.entry import Entry, hidden_tokens, visible_of


def _hole(title: str, source: str, code: str, **options: Any) -> Entry:
    of_pixels = {"show": shows.hole, "hidden": lambda hole: hole, "num_keys": 512}
    return Entry("Holes", title, source, code, **{**of_pixels, **options})


OF_TOKENS = {"show": shows.split, "hidden": hidden_tokens, "num_keys": 2048}
HOLES = (
    _hole(
        "box",
        "inpainting",
        "masking.box(key, (112, 112), area={ratio})",
        ratio=0.25,
    ),
    _hole(
        "free-form strokes",
        "Yu et al. 2019; a reconstruction, area exact",
        "masking.irregular(key, (112, 112), area={ratio})",
        ratio=0.25,
    ),
    _hole(
        "from the centre",
        "ours, for inpainting",
        "masking.center_out(key, (14, 14), num_visible={visible}, max_shift=0.2)",
        ratio=0.4,
        **OF_TOKENS,
    ),
    _hole(
        "from the border",
        "ours, for outpainting",
        'masking.center_out(key, (14, 14), num_visible={visible}, hide="border", shape="disc", '
        "max_shift=0.1)",
        ratio=0.6,
        **OF_TOKENS,
    ),
)
STROKES = "hole = masking.irregular(key, (112, 112), area={ratio} / 2)\n"
STROKE = (
    "hole = masking.irregular(key, (112, 112), area={ratio} / 8, num_strokes=(1, 1), num_turns=3)\n"
)
BOXES = "hole = masking.box(key, (112, 112), area={ratio} / 4, num_boxes=3)\n"


def _shape(title: str, source: str, code: str, hole: str = STROKES) -> Entry:
    return Entry("Shapes of masks", title, source, hole + code, shows.change, ratio=0.4)


SHAPES = (
    _shape("dilate", "grey: before; blue: added", "hole, morphology.dilate(hole, 9)"),
    _shape("erode", "orange: taken away", "hole, morphology.erode(hole, 7)"),
    _shape(
        "outline",
        "grey: inner rim; blue: outer; orange: inside",
        'hole, morphology.outline(hole, 7, side="both")',
    ),
    _shape(
        "fill holes",
        "blue: what an outline encloses",
        "rim = morphology.outline(hole, 7)\nrim, morphology.fill_holes(rim)",
        BOXES,
    ),
    _shape(
        "box around a mask",
        "smallest, snapped to 16 pixels",
        "corners = boxes.snap(boxes.from_mask(hole), 16)\nhole, boxes.to_mask(corners, (112, 112))",
        STROKE,
    ),
    _shape(
        "mask pyramid",
        "one mask at every stride; here 8",
        "coarse = pyramid.pyramid(hole, (112, 112), (4, 8, 16))\n"
        "hole, pyramid.enlarge(coarse[8], 8)",
    ),
)
VALID = (
    "hidden = masking.random(key, (7, 7), num_visible={visible}).hidden()\n"
    "valid = ~patches.to_pixels(hidden, (7, 7), (16, 16))[None]\n"
)
PLACE = 'place = window(9, padding="same")\n'


def _layer(title: str, source: str, code: str) -> Entry:
    options = {"count": lambda ratio: visible_of(ratio) // 4, "ratio": 0.5}
    return Entry("Convolution under masks", title, source, VALID + code, shows.image, **options)


LAYERS = (
    _layer(
        "plain convolution",
        "for comparison: the mask dissolves",
        f"{PLACE}conv.conv(conv.hide(x, valid), blur, None, place)",
    ),
    _layer(
        "masked convolution",
        "SparK (Tian et al. 2023): the mask stays",
        f"{PLACE}conv.masked_conv(x, valid, blur, window=place)",
    ),
    _layer(
        "partial convolution",
        "Liu et al. 2018: re-weighted, the mask shrinks",
        f"{PLACE}conv.partial_conv(x, valid, blur, window=place)",
    ),
    _layer(
        "neighbour padding",
        "layer masking (Balasubramanian and Feizi 2023)",
        "neighbour.neighbour_fill(x, valid, num_passes=5)",
    ),
    _layer(
        "masked max pool",
        "hidden pixels do not take part",
        'pool.masked_max_pool(x, valid, window=window(4, stride=4), rule="any")',
    ),
    _layer(
        "densify",
        "SparK: a learned token in every gap",
        "conv.densify(x, valid, x.mean((0, 1, 2)))",
    ),
)
