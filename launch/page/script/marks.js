// Colours and patterns, shared by legends and drawings.

// Each kind: its name, its colour in page.css, and a pattern for people who cannot tell the colours.
const CELLS = {
  q: ["queued", "--queued", "plain"],
  r: ["running", "--blue", "slanted"],
  x: ["tried again", "--red", "crossed"],
  d: ["running twice", "--purple", "upright"],
  D: ["done", "--green", "plain"],
};
// In the timeline also its height, as a share of the lane.
const ACTIVITIES = {
  k: ["kernel blocks", "--blue", "plain", 1],
  g: ["gradients", "--red", "plain", 0.7],
  e: ["evaluation", "--green", "plain", 0.45],
  w: ["rows sent ahead", "--sky", "plain", 0.3],
  v: ["copies and failures", "--grey", "crossed", 1],
  ".": ["idle", "--grey", "plain", 0.12],
};

let palette = {};
function colour(name) {
  palette[name] ??= getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return palette[name];
}

function marked(context, mark) {
  const key = `${mark} pattern`;
  if (palette[key]) return palette[key];
  const tile = make("canvas", { width: 6, height: 6 });
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour("--paper");
  pen.lineWidth = 1.2;
  const paths = { slanted: "M0 6L6 0M-1 1L1-1M5 7L7 5", crossed: "M0 0L6 6M0 6L6 0", upright: "M3 0V6" };
  pen.stroke(new Path2D(paths[mark]));
  return (palette[key] = context.createPattern(tile, "repeat"));
}

function fill(context, [, name, mark], x, y, width, height) {
  context.fillStyle = colour(name);
  context.fillRect(x, y, width, height);
  if (mark === "plain") return;
  context.fillStyle = marked(context, mark);
  context.fillRect(x, y, width, height);
}

// Resizes a canvas to the width of its parent; its coordinates are CSS pixels.
function prepared(canvas, height) {
  canvas.hidden = false;
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.parentElement.clientWidth;
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) {
    [canvas.width, canvas.height] = [across, down];
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return [context, width];
}

function legend(list, kinds, words) {
  if (!list.children.length) {
    for (const _ of Object.values(kinds)) {
      const swatch = make("canvas", { width: 14, height: 14 });
      swatch.setAttribute("aria-hidden", "true");
      list.append(make("li", {}, swatch, make("span")));
    }
  }
  Object.entries(kinds).forEach(([key, kind], index) => {
    const [swatch, text] = list.children[index].children;
    if (swatch.dataset.theme !== colour("--paper")) {
      swatch.dataset.theme = colour("--paper");
      const context = swatch.getContext("2d");
      context.clearRect(0, 0, 14, 14);
      const height = Math.max(2, 14 * (kind[3] ?? 1));
      fill(context, kind, 0, 14 - height, 14, height);
    }
    show(text, words(key, kind[0]));
  });
}
