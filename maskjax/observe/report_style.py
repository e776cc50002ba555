"""The page around the report: CSS for light, dark and phones; nothing is loaded from anywhere."""

import html

# The policy makes browsers refuse what a self-contained file must not do.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_CSS = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1b1f24;
  --soft: #626b76; --rule: #e3e5e8; --line: #1d6fb8; --good: #1d6fb8; --mid: #9fb6cc;
  --low: #c9ced5; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --card: #1c2024; --ink: #e7eaed; --soft: #9aa4af; --rule: #2f353b;
    --line: #6cb2f0; --good: #6cb2f0; --mid: #4a6a8a; --low: #454c54; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 920px; margin: 0 auto; padding: 2.2rem 1.1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; font-weight: 600; }
p { margin: .4rem 0; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.tiles { display: grid; gap: .8rem; margin: 1.4rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); }
.tile, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 1rem 1.1rem; margin: 0; }
.tile .value { font-size: 1.9rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tile .value small { font-size: 1.05rem; font-weight: 400; color: var(--soft); }
figure { margin: .8rem 0; } figure img { display: block; max-width: 100%; height: auto;
  margin: 0 auto; border-radius: 4px; } figcaption { margin-top: .6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; font-size: .9rem; }
td:not(:last-child) { white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: .88rem; }
.bar { display: grid; grid-template-columns: 10.5rem 1fr 3.8rem; gap: .6rem; align-items: center;
  font-size: .9rem; margin: .25rem 0; font-variant-numeric: tabular-nums; }
.bar i { display: block; height: .7rem; border-radius: 3px; background: var(--low);
  min-width: 2px; }
.bar i.before { background: var(--mid); } .bar i.after { background: var(--good); }
.bar b { font-weight: 600; text-align: right; white-space: nowrap; }
.track { background: var(--rule); border-radius: 3px; }
svg.chart { display: block; width: 100%; height: auto; font-size: 13px; }
svg text { fill: var(--soft); } svg .grid { stroke: var(--rule); }
svg polyline { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round; }
svg polyline.faint { stroke-width: 1; opacity: .35; } svg circle { fill: var(--line); }
details { border-top: 1px solid var(--rule); padding: .6rem 0; } summary { cursor: pointer;
  font-weight: 600; } pre { overflow-x: auto; font-size: .82rem; line-height: 1.45; }
@media (max-width: 520px) { .bar { grid-template-columns: 6.4rem 1fr 3.8rem; }
  h1 { font-size: 1.4rem; } svg.chart { font-size: 19px; }
  figure img.large { max-width: none; width: 760px; } }
@media print { body { background: none; } details { break-inside: avoid; } }
"""


def page(title: str, body: str) -> str:
    """A whole HTML document; the title is escaped here, the body is not."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading (escaped here) and what stands under it (HTML)."""
    return f"<section>\n<h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def sentence(text: str) -> str:
    """A quiet paragraph of plain text."""
    return f'<p class="soft">{html.escape(text)}</p>'


def folded(title: str, body: str) -> str:
    """A part that opens on a click; title escaped here, body HTML."""
    return f"<details><summary>{html.escape(title)}</summary>\n{body}\n</details>"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of plain texts that scrolls sideways on narrow screens."""
    cells = "".join(f"<th>{html.escape(text)}</th>" for text in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'
