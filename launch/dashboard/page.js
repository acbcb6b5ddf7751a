"use strict";
// The page of one run. It shows what the server sends, or what the file that it is in holds. What
// comes of a run enters the page as text or as a drawing, never as markup.

const element = (id) => document.getElementById(id);
const make = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};
// Only what has changed touches the page: focus, selection and scroll stay, and layout is spared.
const show = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};
const attribute = (node, name, value) => {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
};

// --- Values as words ---

const NONE = "–";
const known = (value) => value !== null && value !== undefined;
const number = (value) => (known(value) ? Math.round(value).toLocaleString("en") : NONE);
const amount = (value) =>
  value >= 1e8 ? `${Number((value / 1e9).toPrecision(3))} billion` : number(value);
const plural = (count, thing) => `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
const loss = (value) => (known(value) ? String(Number(value.toPrecision(6))) : NONE);

function bytes(value) {
  if (!known(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit && value < 99.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 59.5) return `${Math.round(Math.max(0, seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (seconds < 600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function clock(unix) {
  const date = new Date(unix * 1000);
  const time = date.toLocaleTimeString("en-GB");
  const today = date.toDateString() === new Date().toDateString();
  return today ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

function score(value, digits = 1) {
  if (!known(value)) return NONE;
  const percent = latest.measure.factor === 100;
  return percent ? `${(100 * value).toFixed(digits)} %` : value.toFixed(digits + 2);
}

// --- Colours and marks, which mean the same in legends and in drawings ---

// Each kind: its words, its colour (of page.css) and its mark, for whoever tells no colours.
const CELLS = {
  q: ["queued", "--queued", "plain"],
  r: ["running", "--blue", "slanted"],
  x: ["tried again", "--red", "crossed"],
  d: ["running twice", "--purple", "upright"],
  D: ["done", "--green", "plain"],
};
// Of the timeline also how high: 1 is the whole lane.
const ACTIVITIES = {
  k: ["kernel blocks", "--blue", "plain", 1],
  g: ["gradients", "--red", "plain", 0.7],
  e: ["evaluation", "--green", "plain", 0.45],
  w: ["rows made ahead", "--sky", "plain", 0.3],
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
  const lines = {
    slanted: [
      [0, 6, 6, 0],
      [-1, 1, 1, -1],
      [5, 7, 7, 5],
    ],
    crossed: [
      [0, 0, 6, 6],
      [0, 6, 6, 0],
    ],
    upright: [[3, 0, 3, 6]],
  };
  for (const [x0, y0, x1, y1] of lines[mark]) {
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
  }
  pen.stroke();
  return (palette[key] = context.createPattern(tile, "repeat"));
}

function fill(context, [, name, mark], x, y, width, height) {
  context.fillStyle = colour(name);
  context.fillRect(x, y, width, height);
  if (mark === "plain") return;
  context.fillStyle = marked(context, mark);
  context.fillRect(x, y, width, height);
}

// A canvas as wide as its place, with coordinates in CSS pixels.
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
    for (const kind of Object.values(kinds)) {
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

// --- The head of the page and its numbers ---

let latest = null; // the newest state
let records = []; // all evaluations
let heard = 0; // when `latest` came, by performance.now()
const served = element("ended") === null;
const ENDED = ["finished", "interrupted", "failed"];
const serverNow = () =>
  latest.now +
  (served && !ENDED.includes(latest.run.state) ? (performance.now() - heard) / 1000 : 0);

function drawHead() {
  const { run, progress } = latest;
  const images = plural(run.support_size, "image");
  const title = `${run.dataset}, ${run.architecture}, ${images}, ${run.algorithm}`;
  show(element("title"), title);
  const address = served ? `, served at ${location.host}` : "";
  show(element("where"), `${run.workdir} on ${run.host}, process ${run.pid}${address}`);
  show(element("state"), run.state);
  attribute(element("state"), "data-state", run.state);
  const [at, all] = known(progress.steps)
    ? [progress.step ?? 0, progress.steps]
    : [progress.rows ?? 0, progress.rows_total];
  const unit = known(progress.steps) ? "step" : (progress.rows_of ?? "rows");
  show(element("step"), all ? `${unit} ${number(at)} of ${number(all)}` : "");
  const left = run.state === "running" && known(progress.seconds_left);
  show(element("left"), left ? `${duration(progress.seconds_left)} left` : "");
  const share = run.state === "finished" ? 1 : all ? at / all : 0;
  element("bar").value = share;
  const progressed = run.state === "running" ? `${Math.floor(100 * share)} %` : run.state;
  document.title = `${progressed}, ${title}`;
  element("message").hidden = !run.message;
  show(element("message"), run.message ?? "");
  show(element("version"), latest.kipper);
  announce("state", `The run is ${run.state}.`);
}

function drawNumbers() {
  const { progress, measure } = latest;
  const put = (id, value, note = "") => {
    show(element(id), value);
    show(element(`${id}-note`), note);
  };
  const evaluated = records.at(-1);
  show(element("score").previousElementSibling, `test ${measureName()}`);
  put(
    "score",
    score(evaluated?.[`test_${measure.key}`]),
    [
      evaluated ? `step ${number(evaluated.step)}` : "",
      known(latest.natural) ? `natural ${score(latest.natural)}` : "",
    ]
      .filter(Boolean)
      .join(", "),
  );
  put(
    "loss",
    loss(progress.loss ?? evaluated?.loss),
    known(progress.step) ? `step ${number(progress.step)}` : "",
  );
  put("seconds", duration(progress.seconds), `begun ${clock(latest.run.started)}`);
  put(
    "pairs",
    amount(progress.kernel_pairs),
    [
      known(progress.blocks) ? plural(progress.blocks, "block") : "",
      progress.vjp_pairs ? `${amount(progress.vjp_pairs)} gradients` : "",
    ]
      .filter(Boolean)
      .join(", "),
  );
  put("rate", number(progress.pairs_per_second));
  const [sent, received] = [progress.bytes_sent, progress.bytes_received];
  const either = known(sent) || known(received);
  put(
    "bytes",
    either ? bytes((sent ?? 0) + (received ?? 0)) : NONE,
    either ? `${bytes(sent)} out, ${bytes(received)} in` : "",
  );
  put(
    "deaths",
    number(latest.deaths),
    `${plural(latest.workers.filter((w) => w.state !== "lost").length, "worker")} there`,
  );
  const { retries, duplicates, verified } = latest.scheduler;
  put(
    "retries",
    number(retries),
    [
      known(duplicates) ? `${number(duplicates)} copies` : "",
      known(verified) ? `${number(verified)} compared` : "",
    ]
      .filter(Boolean)
      .join(", "),
  );
}

const measureName = () => (latest.measure.name ?? "score").split(" (")[0];

let shownImage = null;
function drawImages() {
  const images = latest.images;
  const url = images && (served ? images.url : embedded);
  element("images").hidden = !url;
  element("no-images").hidden = Boolean(url);
  if (!url || url === shownImage) return;
  shownImage = url;
  const step = known(images.step) ? `step ${number(images.step)}` : "the solution";
  const picture = element("images").querySelector("img");
  picture.src = url;
  picture.alt = `${images.count} distilled images of ${step}`;
  show(element("images-step"), `${step[0].toUpperCase()}${step.slice(1)}.`);
  const labels = images.labels_learned ? " Labels are learned too." : "";
  const classes = images.classes.length ? `Classes: ${images.classes.join(", ")}.` : "";
  show(element("images-classes"), classes + labels);
}

// --- Curves ---

// Round numbers within a range, about so many of them.
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const pitch = power * [1, 2, 5, 10].find((each) => each * power >= raw);
  const found = [];
  for (let at = Math.ceil(low / pitch - 1e-9); at * pitch <= high * (1 + 1e-9); at++)
    found.push(at * pitch + 0);
  return found;
}

function logarithmicTicks(low, high) {
  const found = [];
  const factors = high < 50 * low ? [1, 2, 5] : [1];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const each of factors) {
      const at = each * 10 ** power;
      if (at >= low * 0.999 && at <= high * 1.001) found.push(at);
    }
  }
  return found;
}

const LEFT = 52,
  RIGHT = 14,
  TOP = 8,
  BOTTOM = 34,
  HEIGHT = 220;
let selected = null; // index of the evaluation read out, or null for the newest

class Plot {
  // `curves` makes a list of {name, of(record), className} of the newest state, `text` words of a
  // value, `heading` those above the plot.
  constructor(id, curves, text, heading) {
    Object.assign(this, { curves, text, heading });
    this.root = element(id);
    this.slider = this.root.querySelector("[role=slider]");
    this.svg = this.root.querySelector("svg");
    this.readout = this.root.querySelector(".readout");
    this.slider.addEventListener("pointermove", (event) => this.point(event));
    this.slider.addEventListener("pointerdown", (event) => this.point(event));
    this.slider.addEventListener("pointerleave", () => select(null));
    this.slider.addEventListener("focus", () => selected === null && select(records.length - 1));
    this.slider.addEventListener("blur", () => select(null));
    this.slider.addEventListener("keydown", (event) => this.key(event));
  }

  draw() {
    if (!records.length) return;
    const width = this.slider.clientWidth;
    const curves = this.curves().filter(({ of }) => records.some((record) => known(of(record))));
    const values = curves.flatMap(({ of }) => records.map(of)).filter(known);
    const [least, most] = [
      values.reduce((a, b) => Math.min(a, b)),
      values.reduce((a, b) => Math.max(a, b)),
    ];
    const logarithmic = this.root.id === "loss-plot" && least > 0 && most >= 5 * least;
    const scale = logarithmic ? Math.log10 : (value) => value;
    const margin = 0.06 * (scale(most) - scale(least)) || Math.abs(scale(most)) / 10 || 1;
    const [low, high] = [scale(least) - margin, scale(most) + margin];
    const steps = records.map((record) => record.step);
    let [first, last] = [steps[0], steps.at(-1)];
    if (first === last) [first, last] = [first - 1, last + 1];
    this.x = (step) => LEFT + ((step - first) / (last - first)) * (width - LEFT - RIGHT);
    const y = (value) => TOP + ((high - scale(value)) / (high - low)) * (HEIGHT - TOP - BOTTOM);

    show(this.root.querySelector("h3"), this.heading(logarithmic));
    attribute(this.svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
    const parts = [];
    const heights = logarithmic ? logarithmicTicks(10 ** low, 10 ** high) : ticks(low, high, 5);
    for (const at of heights) {
      parts.push(
        drawn("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(at), y2: y(at) }),
      );
      parts.push(
        drawn("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, this.text(at, true)),
      );
    }
    const whole = ticks(first, last, Math.max(2, width / 110)).filter((at) => Number.isInteger(at));
    for (const at of whole) {
      parts.push(
        drawn(
          "text",
          { x: this.x(at), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" },
          number(at),
        ),
      );
    }
    parts.push(
      drawn(
        "text",
        { x: width - RIGHT, y: HEIGHT - 3, "text-anchor": "end", class: "muted" },
        "step",
      ),
    );
    for (const { of, className, level } of curves) {
      const points = records.filter((record) => known(of(record)));
      const ends = level
        ? [
            [first, of(points[0])],
            [last, of(points[0])],
          ]
        : points.map((record) => [record.step, of(record)]);
      const path = ends.map(([step, value]) => `${this.x(step).toFixed(1)},${y(value).toFixed(1)}`);
      parts.push(drawn("polyline", { class: `curve ${className}`, points: path.join(" ") }));
      if (points.length > 40 || level) continue;
      for (const at of path) {
        const [cx, cy] = at.split(",");
        parts.push(drawn("circle", { class: `dot ${className}`, cx, cy, r: 2.5 }));
      }
    }
    this.cursor = drawn("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM });
    this.svg.replaceChildren(...parts, this.cursor);
    this.shown = curves;
    this.drawLegend();
    attribute(this.slider, "aria-valuemax", records.length - 1);
    this.select();
  }

  drawLegend() {
    const list = this.root.querySelector(".legend");
    const names = this.shown.map(({ name }) => name).join();
    if (list.dataset.names === names) return;
    list.dataset.names = names;
    list.replaceChildren(
      ...this.shown.map(({ name, className }) => {
        const svg = drawn("svg", { width: 26, height: 10, "aria-hidden": "true" });
        svg.append(drawn("line", { class: `curve ${className}`, x1: 0, x2: 26, y1: 5, y2: 5 }));
        return make("li", {}, svg, make("span", { textContent: name }));
      }),
    );
  }

  // Reads the selected evaluation out, and marks it.
  select() {
    if (!this.shown) return;
    const index = selected ?? records.length - 1;
    const record = records[index];
    const values = this.shown.map(({ name, of }) =>
      known(of(record)) ? `${name} ${this.text(of(record))}` : "",
    );
    const words = `step ${number(record.step)}: ${values.filter(Boolean).join(", ")}`;
    show(this.readout, words);
    attribute(this.slider, "aria-valuenow", index);
    attribute(this.slider, "aria-valuetext", words);
    for (const end of ["x1", "x2"]) attribute(this.cursor, end, this.x(record.step));
    this.cursor.style.visibility = selected === null ? "hidden" : "visible";
  }

  point(event) {
    if (!this.shown) return;
    const at = event.clientX - this.slider.getBoundingClientRect().left;
    const gaps = records.map((record) => Math.abs(this.x(record.step) - at));
    select(gaps.indexOf(Math.min(...gaps)));
  }

  key(event) {
    const moves = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(event.key in moves) || !records.length) return;
    event.preventDefault();
    const from = selected ?? records.length - 1;
    select(Math.min(records.length - 1, Math.max(0, from + moves[event.key])));
  }
}

function drawn(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const plots = [
  new Plot(
    "score-plot",
    () => [
      ...["test", "validation", "train"].map((part) => ({
        name: part,
        className: part,
        of: (record) => record[`${part}_${latest.measure.key}`],
      })),
      { name: "natural images", className: "natural", level: true, of: () => latest.natural },
    ],
    (value, short) => (short ? score(value, 0) : score(value)),
    () => measureName(),
  ),
  new Plot(
    "loss-plot",
    () => [{ name: "loss", className: "test", of: (record) => record.loss }],
    (value) => String(Number(value.toPrecision(4))),
    (logarithmic) => (logarithmic ? "loss (logarithmic)" : "loss"),
  ),
];

function select(index) {
  selected = index;
  for (const plot of plots) plot.select();
}

let tabled = null; // the list of records that the table holds
function drawPoints() {
  if (!element("points").open) return;
  const columns = [
    "step",
    "loss",
    ...["train", "validation", "test"].map((part) => `${part}_${latest.measure.key}`),
    "seconds",
  ].filter((key) => records.some((record) => key in record));
  const words = (key, value) =>
    key.endsWith(latest.measure.key)
      ? score(value, 2)
      : key === "loss"
        ? loss(value)
        : key === "step"
          ? number(value)
          : (value?.toFixed(1) ?? NONE);
  const [head, body] = [
    element("points").querySelector("thead tr"),
    element("points").querySelector("tbody"),
  ];
  if (tabled !== records[0] || head.children.length !== columns.length) {
    tabled = records[0];
    head.replaceChildren(
      ...columns.map((key) =>
        make("th", { scope: "col", textContent: key.replace("_", " ").replace("r2", "R²") }),
      ),
    );
    body.replaceChildren();
  }
  body.append(
    ...records
      .slice(body.children.length)
      .map((record) =>
        make(
          "tr",
          {},
          ...columns.map((key) => make("td", { textContent: words(key, record[key]) })),
        ),
      ),
  );
}

// --- The kernel matrix ---

const GAP = 14,
  BAND = 20;
let mapped = ""; // what the canvas shows, to draw it only when that changes
let cells = []; // [x, y, width, height, index] in CSS pixels, for the pointer

function drawMatrix() {
  const matrix = latest.matrix;
  const canvas = element("matrix");
  if (!matrix || !matrix.cells.length) return;
  const counts = {};
  for (const letter of matrix.states) counts[letter] = (counts[letter] ?? 0) + 1;
  legend(element("matrix-legend"), CELLS, (key, words) => `${words} ${number(counts[key] ?? 0)}`);
  const what = matrix.kind === "gradient" ? "Gradient blocks" : "Kernel blocks";
  const words = `${what}: ${number(counts.D ?? 0)} of ${number(matrix.cells.length)} done.`;
  show(element("matrix-words"), words);
  const width = canvas.parentElement.clientWidth;
  const content = [
    width,
    colour("--paper"),
    matrix.kind,
    matrix.support,
    matrix.targets,
    matrix.states,
    matrix.cells.join(" "),
  ].join();
  if (content === mapped) return;
  mapped = content;

  const { support, targets } = matrix;
  const [square, wide] = [
    matrix.cells.some((cell) => cell[2] < support),
    matrix.cells.some((cell) => cell[2] >= support),
  ];
  const height = Math.round(wide ? Math.max(90, Math.min(230, 0.3 * width)) : Math.min(260, width));
  const [context] = prepared(canvas, BAND + height);
  const start = square ? height + GAP : 0; // where K_ts begins
  const x = (column) =>
    column <= support && square
      ? (column / support) * height
      : start + ((column - support) / targets) * (width - start);
  const y = (row) => BAND + (row / support) * height;
  context.fillStyle = colour("--muted");
  if (square) context.fillText(`K_ss ${number(support)} × ${number(support)}`, 0, 12);
  if (wide) context.fillText(`K_ts ${number(support)} × ${number(targets)}`, start, 12);
  context.strokeStyle = colour("--line");
  if (square) context.strokeRect(0.5, BAND + 0.5, height - 1, height - 1);
  cells = matrix.cells.map(([row0, row1, column0, column1], index) => {
    const left =
      column0 >= support ? start + ((column0 - support) / targets) * (width - start) : x(column0);
    return [left, y(row0), x(column1) - left, y(row1) - y(row0), index];
  });
  for (const [left, top, across, down, index] of cells) {
    const seam = Math.min(across, down) > 4 ? 1 : 0;
    fill(
      context,
      CELLS[matrix.states[index]] ?? CELLS.q,
      left,
      top,
      Math.max(0.5, across - seam),
      Math.max(0.5, down - seam),
    );
  }
  attribute(canvas, "aria-label", words);
}

element("matrix").addEventListener("pointermove", (event) => {
  const hit = cells.find(
    ([x, y, width, height]) =>
      event.offsetX >= x &&
      event.offsetX < x + width &&
      event.offsetY >= y &&
      event.offsetY < y + height,
  );
  if (!hit || !latest.matrix) return show(element("matrix-readout"), "");
  const [row0, row1, column0, column1] = latest.matrix.cells[hit[4]] ?? [];
  const { support } = latest.matrix;
  const columns =
    column0 >= support
      ? `targets ${column0 - support}–${column1 - support - 1}`
      : `support ${column0}–${column1 - 1}`;
  show(
    element("matrix-readout"),
    `support ${row0}–${row1 - 1} × ${columns}: ${CELLS[latest.matrix.states[hit[4]]]?.[0]}`,
  );
});
element("matrix").addEventListener("pointerleave", () => show(element("matrix-readout"), ""));

// --- The timeline ---

const AXIS = 18;
let lane = null; // geometry of the drawn lanes: {left, pitch, width}

function drawTimeline() {
  const { bin, lanes } = latest.timeline;
  const canvas = element("timeline");
  if (!lanes.length) return;
  legend(element("timeline-legend"), ACTIVITIES, (_, words) => words);
  const all = latest.workers.length;
  show(
    element("timeline-words"),
    lanes.length < all
      ? `${number(lanes.length)} of ${number(all)} workers.`
      : "A lane a worker; blank where it was not there.",
  );
  const pitch = lanes.length <= 12 ? 24 : lanes.length <= 24 ? 18 : 13;
  const [context, width] = prepared(canvas, AXIS + lanes.length * pitch);
  if (pitch < 14) context.font = context.font.replace("12px", "11px");
  const longest = Math.max(...lanes.map(({ worker }) => context.measureText(worker).width));
  const left = Math.min(longest + 10, 130, 0.3 * width);
  lane = { left, pitch, width };
  const bins = Math.max(...lanes.map((each) => each.bins.length));
  const across = (width - left) / bins;
  context.fillStyle = colour("--muted");
  for (const [share, align] of [
    [0, "left"],
    [0.5, "center"],
    [1, "right"],
  ]) {
    context.textAlign = align;
    const ago = Math.round((1 - share) * bins * bin);
    const words = ago ? `−${ago} s` : served ? "now" : "end";
    context.fillText(words, left + share * (width - left), 12);
  }
  context.textAlign = "left";
  lanes.forEach(({ worker, bins: letters }, index) => {
    const top = AXIS + index * pitch;
    context.fillStyle = colour("--ink");
    context.fillText(shortened(context, worker, left - 8), 0, top + pitch / 2 + 4);
    for (let from = 0, to; from < letters.length; from = to) {
      for (to = from + 1; letters[to] === letters[from]; to++);
      const kind = ACTIVITIES[letters[from]];
      if (!kind) continue;
      const height = Math.max(2, (pitch - 3) * kind[3]);
      fill(
        context,
        kind,
        left + from * across,
        top + pitch - 2 - height,
        (to - from) * across,
        height,
      );
    }
  });
  const scrolls = element("lanes").scrollHeight > element("lanes").clientHeight;
  if (scrolls) attribute(element("lanes"), "tabindex", 0);
  else element("lanes").removeAttribute("tabindex");
}

function shortened(context, words, width) {
  if (context.measureText(words).width <= width) return words;
  let most = words.length;
  while (most > 1 && context.measureText(`${words.slice(0, most)}…`).width > width) most--;
  return `${words.slice(0, most)}…`;
}

element("timeline").addEventListener("pointermove", (event) => {
  const { bin, lanes } = latest.timeline;
  const at = lanes[Math.floor((event.offsetY - AXIS) / lane.pitch)];
  const index =
    at && Math.floor(((event.offsetX - lane.left) / (lane.width - lane.left)) * at.bins.length);
  const letter = at?.bins[index];
  if (letter === undefined) return show(element("timeline-readout"), "");
  const when = `${Math.round((at.bins.length - index) * bin)} s ${served ? "ago" : "before the end"}`;
  const what = ACTIVITIES[letter]?.[0] ?? "not there";
  show(element("timeline-readout"), `${at.worker}, ${when}: ${what}`);
});
element("timeline").addEventListener("pointerleave", () => show(element("timeline-readout"), ""));

// --- The table of workers ---

const FEW = 20; // rows that are shown unless all are asked for
const MARKS = { working: "▶", idle: "○", leaving: "◁", lost: "✕" };
const byName = new Intl.Collator("en", { numeric: true }).compare;
const age = (worker) =>
  known(worker.last_answer) && worker.state !== "lost"
    ? Math.max(0, serverNow() - worker.last_answer)
    : null;
// Head, value to sort by, words.
const COLUMNS = [
  ["name", (w) => w.name, (w) => w.name],
  [
    "state",
    (w) => ["lost", "leaving", "idle", "working"].indexOf(w.state),
    (w) => `${MARKS[w.state] ?? ""} ${w.state}${w.reason ? `: ${w.reason}` : ""}`,
  ],
  ["pairs/s", (w) => w.pairs_per_second, (w) => number(w.pairs_per_second)],
  [
    "last answer",
    age,
    (w) => (age(w) === null ? NONE : `${duration(age(w))}${served ? " ago" : ""}`),
  ],
  ["deaths", (w) => w.deaths, (w) => number(w.deaths)],
  [
    "busy",
    (w) => busy.get(w.name),
    (w) => (busy.has(w.name) ? `${Math.round(100 * busy.get(w.name))} %` : NONE),
  ],
  ["blocks", (w) => w.blocks, (w) => number(w.blocks)],
  [
    "bytes",
    (w) => (w.bytes_sent ?? 0) + (w.bytes_received ?? 0),
    (w) => bytes((w.bytes_sent ?? 0) + (w.bytes_received ?? 0)),
  ],
  ["host", (w) => w.host, (w) => w.host ?? NONE],
  ["engine", (w) => w.engine, (w) => [w.engine, w.device].filter(Boolean).join(" on ") || NONE],
];
const WORDS = new Set(["name", "state", "host", "engine"]);
let order = null; // {column, down}, or null for what needs attention first
let all = false;
let busy = new Map(); // share of the last minute that a worker was at work
const rows = new Map(); // by name of worker

function urgency(worker) {
  return (
    (worker.state === "lost" ? 4 : worker.state === "leaving" ? 2 : 0) + (worker.deaths ? 1 : 0)
  );
}

function sorted(workers) {
  if (order === null) {
    return [...workers].sort(
      (a, b) => urgency(b) - urgency(a) || b.deaths - a.deaths || byName(a.name, b.name),
    );
  }
  const value = COLUMNS[order.column][1];
  const sign = order.down ? -1 : 1;
  return [...workers].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (!known(x) || !known(y)) return known(y) - known(x) || byName(a.name, b.name);
    return sign * (typeof x === "string" ? byName(x, y) : x - y) || byName(a.name, b.name);
  });
}

function drawWorkers() {
  const { workers } = latest;
  busy = new Map(
    latest.timeline.lanes.map(({ worker, bins }) => {
      const there = bins.replaceAll(" ", "");
      return [worker, there.replaceAll(".", "").length / (there.length || 1)];
    }),
  );
  const chosen = sorted(workers).slice(0, all ? workers.length : FEW);
  const lost = workers.filter((worker) => worker.state === "lost").length;
  const sorting = order === null ? "by what needs attention" : `by ${COLUMNS[order.column][0]}`;
  const found = plural(workers.length, "worker") + (lost ? `, ${number(lost)} of them lost` : "");
  const words = `${found}; sorted ${sorting}. Busy: share of the last minute at work.`;
  show(element("workers-words"), workers.length ? words : "No workers yet.");
  const button = element("show-all");
  element("workers").hidden = !workers.length;
  button.hidden = workers.length <= FEW;
  show(button, all ? `Show ${FEW} workers` : `Show all ${number(workers.length)} workers`);
  attribute(button, "aria-expanded", all);

  const body = element("workers").tBodies[0];
  const names = new Set(chosen.map((worker) => worker.name));
  for (const [name, row] of rows) {
    if (names.has(name)) continue;
    row.remove();
    rows.delete(name);
  }
  chosen.forEach((worker, index) => {
    let row = rows.get(worker.name);
    if (!row) {
      const head = make("th", { scope: "row" });
      row = make(
        "tr",
        {},
        head,
        ...COLUMNS.slice(1).map(([name]) =>
          make("td", { className: WORDS.has(name) ? "words" : "" }),
        ),
      );
      rows.set(worker.name, row);
    }
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
    row.worker = worker;
    attribute(row, "data-state", worker.state);
    attribute(row, "data-deaths", worker.deaths);
    COLUMNS.forEach(([, , words], column) => show(row.children[column], words(worker)));
  });
}

const AGE = COLUMNS.findIndex(([name]) => name === "last answer");
function tickAges() {
  for (const row of rows.values()) show(row.children[AGE], COLUMNS[AGE][2](row.worker));
}

function sortBy(column) {
  const first = !WORDS.has(COLUMNS[column][0]); // numbers begin with the greatest
  if (order?.column !== column) order = { column, down: first };
  else order = order.down === first ? { column, down: !first } : null;
  [...element("workers").tHead.rows[0].cells].forEach((cell, index) => {
    const sort = order?.column !== index ? "none" : order.down ? "descending" : "ascending";
    attribute(cell, "aria-sort", sort);
    show(
      cell.querySelector("[aria-hidden]"),
      { none: "", ascending: " ▲", descending: " ▼" }[sort],
    );
  });
  if (latest) drawWorkers();
}

element("workers").tHead.rows[0].append(
  ...COLUMNS.map(([name], column) => {
    const arrow = make("span");
    arrow.setAttribute("aria-hidden", "true");
    const button = make("button", { type: "button", onclick: () => sortBy(column) }, name, arrow);
    const cell = make("th", { scope: "col", className: WORDS.has(name) ? "words" : "" }, button);
    cell.setAttribute("aria-sort", "none");
    return cell;
  }),
);
element("show-all").addEventListener("click", () => {
  all = !all;
  drawWorkers();
});

// --- Coming and going of states ---

// Changes of state alone are said aloud.
const said = {};
function announce(about, words) {
  said[about] = words;
  show(element("announcer"), Object.values(said).join(" ").trim());
}

let waiting = false; // for the next frame, which hidden pages do not have
let newRecords = false;

function schedule() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(draw);
}

function draw() {
  waiting = false;
  if (!latest) return;
  drawHead();
  drawNumbers();
  drawImages();
  drawMatrix();
  drawTimeline();
  drawWorkers();
  if (newRecords) drawRecords();
  connectionWords();
}

function drawRecords() {
  newRecords = false;
  element("curves").hidden = !records.length;
  element("no-curves").hidden = Boolean(records.length);
  for (const plot of plots) plot.draw();
  drawPoints();
}

function redraw() {
  palette = {};
  mapped = "";
  newRecords = true;
  schedule();
}

function receive(state) {
  latest = state;
  heard = performance.now();
  schedule();
}

function receiveRecords(list, anew) {
  records = anew ? list : records.concat(list);
  if (anew) selected = null;
  newRecords = true;
  schedule();
}

let source = null;
let connection = "connecting"; // or live, or lost
let lastHeard = null; // unix seconds by this machine's clock

function connect() {
  source?.close();
  source = new EventSource("events");
  let anew = true;
  const hear = (event) => {
    connection = "live";
    lastHeard = Date.now() / 1000;
    return JSON.parse(event.data);
  };
  source.onopen = () => (anew = true); // the server sends all records again
  source.addEventListener("state", (event) => receive(hear(event)));
  source.addEventListener("records", (event) => {
    receiveRecords(hear(event), anew);
    anew = false;
  });
  source.onerror = () => {
    connection = connection === "connecting" ? connection : "lost";
    connectionWords();
    if (latest?.run.state === "finished")
      source.close(); // there is nothing more to come
    // A proxy's error page ends it for good, unlike a lost connection.
    else if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

function connectionWords() {
  const state = latest?.run.state;
  const node = element("connection");
  let [kind, words] = [connection, "connecting"];
  if (ENDED.includes(state)) {
    [kind, words] = [
      "ended",
      `The run ${state === "interrupted" ? "was " : ""}${state} at ${clock(latest.now)}.`,
    ];
    if (served && connection === "lost")
      words += " Its server is gone; dashboard.html in its folder shows this page.";
  } else if (!served) {
    [kind, words] = ["ended", `The run as it was at ${clock(latest.now)}.`];
  } else if (connection === "live") {
    words = "live";
  } else if (connection === "lost") {
    const since = Date.now() / 1000 - lastHeard;
    words = `No connection since ${clock(lastHeard)}, ${duration(since)} ago; trying again.`;
  }
  attribute(node, "data-state", kind);
  show(element("connection-words"), words);
  if (served)
    announce(
      "connection",
      { live: "Connected.", lost: "The connection is lost.", ended: "" }[kind] ?? "",
    );
}

let embedded = null; // the image, where the page is a file
if (served) {
  connect();
  setInterval(() => {
    if (document.hidden || !latest) return;
    if (connection === "live") tickAges();
    connectionWords();
  }, 1000);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
} else {
  const file = JSON.parse(element("ended").textContent);
  embedded = file.image;
  receive(file.state);
  receiveRecords(file.records, true);
}
new ResizeObserver(redraw).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
element("points").addEventListener("toggle", () => latest && drawPoints());
