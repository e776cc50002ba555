"""gallery.html: the drawings with sliders for hidden share and seed, in one file."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from maskjax.gallery.entry import IMPORTS, Entry
from maskjax.gallery.page_assets import SCRIPT, STYLE
from maskjax.gallery.scene import NAMES, Scene
from maskjax.gallery.shows import Picture
from maskjax.observe import report_style
from maskjax.observe.pictures import png_bytes

TITLE = "Masks on a photograph"
INTRO = (
    "Every mask generator and masked operation of maskjax.masking, by the call under it. Move the"
    " sliders: the hidden share sets num_visible (where a law rounds, to the nearest count that it"
    " has), the seed sets the key. All masks were drawn beforehand; nothing is loaded."
)


def drawn(entry: Entry, pictures: Sequence[Sequence[Picture]], texts: Sequence[str]) -> dict:
    """What the script needs of one entry.

    Args:
        entry: the entry.
        pictures: for each share, for each seed.
        texts: for each share, the code.
    """
    flat = [picture for row in pictures for picture in row]
    if flat[0].image is not None:
        found, codes = [jpeg(picture.image) for picture in flat], {}
    else:
        bits = next(b for b in (1, 2, 4) if len(flat[0].styles) <= 2**b)
        found = [pack(picture.cells, bits) for picture in flat]
        height, width = flat[0].cells.shape
        styles = [[s.base, *s.colour, s.opacity] for s in flat[0].styles]
        codes = {"bits": bits, "h": height, "w": width, "styles": styles, "smooth": flat[0].smooth}
    maps, at = _unique(found)
    return {**codes, "maps": maps, "at": at, "code": _unique(texts)}


def pack(cells: np.ndarray, bits: int) -> str:
    """uint8[h, w] below 2**bits -> base64 of the numbers in raster order, highest bits first."""
    planes = (cells.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return base64.b64encode(np.packbits(planes.astype(np.uint8))).decode()


def jpeg(image: np.ndarray, quality: int = 80) -> str:
    """uint8[H, W, 3] as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _unique(values: Sequence[str]) -> tuple[list[str], list[int]]:
    """Distinct values in order, and for each value which one it is."""
    order = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(order), [order[value] for value in values]


def page(
    entries: Sequence[Entry],
    drawings: Sequence[dict],
    smalls: Sequence[tuple[np.ndarray, str] | None],
    scene: Scene,
    ratios: Sequence[float],
    seeds: Sequence[int],
) -> str:
    """The whole HTML document.

    Args:
        entries: what is drawn.
        drawings: of each, from `drawn`, with the entry's own share in front of `ratios`.
        smalls: of each, the small picture uint8[h, w, 3] and its caption; None without one.
        scene: the pictures below.
        ratios, seeds: positions of the sliders.
    """
    families: dict[str, list[str]] = {}
    for number, (entry, small) in enumerate(zip(entries, smalls, strict=True)):
        families.setdefault(entry.family, []).append(_card(number, entry, small))
    sections = [
        report_style.section(name, f'<div class="cards">{"".join(cards)}</div>')
        for name, cards in families.items()
    ]
    lead = report_style.sentence(INTRO)
    need = "<noscript><p>The drawings need JavaScript; gallery.png beside shows them too.</p>"
    names = report_style.table(["name", "what it is"], [[n, t] for n, t in NAMES.items()])
    imports = f"<pre>{html.escape(IMPORTS)}</pre>"
    body = [
        f"<h1>{TITLE}</h1>{lead}{need}</noscript>",
        _controls(ratios, seeds),
        *sections,
        report_style.section("Before every call", imports, names),
    ]
    data = {
        "bases": {name: jpeg(image, 88) for name, image in scene.bases.items()},
        "ratios": list(ratios),
        "seeds": list(seeds),
        "entries": list(drawings),
    }
    return with_script(report_style.page(TITLE, "\n".join(body)), _script(data))


def with_script(document: str, script: str) -> str:
    """A page of `report_style` with the gallery's style and this one script, by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    changes = {
        "style-src": f"script-src 'sha256-{digest}'; style-src",
        "</style>": f"{STYLE}</style>",
        "</body>": f"<script>{script}</script>\n</body>",
    }
    for old, new in changes.items():
        if old not in document:
            raise AssertionError(f"the page of report_style has no {old}")
        document = document.replace(old, new, 1)
    return document


def _script(data: dict[str, Any]) -> str:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return f"const data = {text};\n{SCRIPT}"


def _controls(ratios: Sequence[float], seeds: Sequence[int]) -> str:
    shares = len(ratios)
    return (
        '<div class="controls"><label>hidden share <output id="share-text"></output>'
        f'<input id="share" type="range" min="0" max="{shares}" value="0" step="1"></label>'
        '<label>key <output id="seed-text"></output>'
        f'<input id="seed" type="range" min="0" max="{len(seeds) - 1}" value="0" step="1"></label>'
        '<button id="play" type="button" aria-pressed="false">Play seeds</button></div>'
    )


def _card(number: int, entry: Entry, small: tuple[np.ndarray, str] | None) -> str:
    text = html.escape
    aside = ""
    if small is not None:
        data = base64.b64encode(png_bytes(small[0])).decode()
        image = f'<img src="data:image/png;base64,{data}" alt="">'
        aside = f'<div class="small">{image}<span>{text(small[1])}</span></div>'
    return (
        f'<article class="card"><canvas id="c{number}" width="448" height="448" role="img"'
        f' aria-label="{text(entry.title)}"></canvas><h3>{text(entry.title)}</h3>'
        f'<p class="soft">{text(entry.source)}</p>{aside}'
        f'<pre><code id="t{number}"></code></pre></article>'
    )
