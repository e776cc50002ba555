"""Style and script of gallery.html."""

STYLE = """
main { max-width: 1300px; }
h2 { border-top: 3px solid var(--line); padding-top: .6rem; }
.cards { display: grid; gap: 1.1rem; grid-template-columns: repeat(auto-fill, minmax(206px, 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: .7rem; min-width: 0; display: flex; flex-direction: column; }
.card canvas { width: 100%; aspect-ratio: 1; display: block; border-radius: 4px; }
.card h3 { margin: .6rem 0 0; } .card .soft { margin: 0; font-size: .82rem; line-height: 1.4; }
.card pre { margin: .6rem 0 0; padding: .5rem; background: var(--paper); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .7rem; flex-grow: 1; }
.small { display: flex; gap: .6rem; align-items: center; margin-top: .5rem; font-size: .78rem;
  line-height: 1.35; color: var(--soft); font-variant-numeric: tabular-nums; }
.small img { width: 52px; height: 52px; image-rendering: pixelated; border-radius: 3px; }
.controls { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .6rem 1.6rem;
  align-items: end; background: var(--paper); padding: .7rem 0; margin: .8rem 0;
  border-bottom: 1px solid var(--rule); font-size: .88rem; }
.controls label { flex: 1 1 220px; } .controls output { font-weight: 650; }
.controls input { display: block; width: 100%; height: 1.7rem; accent-color: var(--line); }
.controls button { font: inherit; padding: .35rem .9rem; border: 1px solid var(--rule);
  border-radius: 6px; background: var(--card); color: inherit; cursor: pointer; }
.controls button[aria-pressed="true"] { background: var(--line); color: var(--paper); }
@media (max-width: 520px) { main { padding: 1.2rem .7rem 3rem; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .6rem; }
  .card { padding: .45rem; } .card pre { font-size: .66rem; padding: .4rem; }
  .controls label { flex-basis: 130px; } }
@media print { .controls { display: none; } .card { break-inside: avoid; } }
"""

SCRIPT = """
const pictures = {}, scratch = document.createElement("canvas"), shown = [];
const $ = (id) => document.getElementById(id);

function load(source) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = failed;
    image.src = source;
  });
}

function unpack(text, bits, count) {
  const bytes = atob(text), each = 8 / bits, cells = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const shift = 8 - bits * (i % each + 1);
    cells[i] = (bytes.charCodeAt(Math.floor(i / each)) >> shift) & (2 ** bits - 1);
  }
  return cells;
}

function drawBases(context, side, entry, cells) {
  const { w, h, styles } = entry;
  if (new Set(styles.map((style) => style[0])).size === 1) {
    context.drawImage(pictures[styles[0][0]], 0, 0, side, side);
    return;
  }
  const edge = (i, n) => Math.round(i * side / n);
  cells.forEach((value, i) => {
    const picture = pictures[styles[value][0]], x = i % w, y = Math.floor(i / w);
    if (!picture) return;
    const sw = picture.width / w, sh = picture.height / h, left = edge(x, w), top = edge(y, h);
    context.drawImage(picture, x * sw, y * sh, sw, sh,
      left, top, edge(x + 1, w) - left, edge(y + 1, h) - top);
  });
}

function drawMap(context, side, entry, text) {
  const { w, h, styles } = entry, cells = unpack(text, entry.bits, w * h);
  const layer = new ImageData(w, h);
  cells.forEach((value, i) => {
    const [, red, green, blue, opacity] = styles[value];
    layer.data.set([red, green, blue, Math.round(255 * opacity)], 4 * i);
  });
  scratch.width = w;
  scratch.height = h;
  scratch.getContext("2d").putImageData(layer, 0, 0);
  context.clearRect(0, 0, side, side);
  context.imageSmoothingEnabled = true;
  drawBases(context, side, entry, cells);
  context.imageSmoothingEnabled = entry.smooth;
  context.drawImage(scratch, 0, 0, side, side);
}

async function draw(number, map) {
  if (shown[number] === map) return;
  shown[number] = map;
  const entry = data.entries[number], canvas = $("c" + number), side = canvas.width;
  const context = canvas.getContext("2d");
  if (entry.styles) {
    drawMap(context, side, entry, entry.maps[map]);
  } else {
    const image = await load(entry.maps[map]);
    if (shown[number] === map) context.drawImage(image, 0, 0, side, side);
  }
}

function update() {
  const share = +$("share").value, seed = +$("seed").value;
  const ratio = share ? data.ratios[share - 1] : null;
  $("share-text").textContent = share ? Math.round(100 * ratio) + " %" : "each its own";
  $("seed-text").textContent = "jax.random.key(" + data.seeds[seed] + ")";
  data.entries.forEach((entry, number) => {
    draw(number, entry.at[share * data.seeds.length + seed]);
    const [texts, which] = entry.code;
    if ($("t" + number).textContent !== texts[which[share]]) {
      $("t" + number).textContent = texts[which[share]];
    }
  });
}

let timer = null;
function play() {
  timer = timer ? clearInterval(timer) : setInterval(() => {
    $("seed").value = (+$("seed").value + 1) % data.seeds.length;
    update();
  }, 900);
  $("play").setAttribute("aria-pressed", String(Boolean(timer)));
}

async function start() {
  for (const [name, source] of Object.entries(data.bases)) pictures[name] = await load(source);
  $("share").addEventListener("input", update);
  $("seed").addEventListener("input", update);
  $("play").addEventListener("click", play);
  update();
  document.body.dataset.drawn = shown.length;
}
start();
"""
