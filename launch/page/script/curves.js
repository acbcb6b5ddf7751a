// Score and loss against step.

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
// From a step to its place across a plot of so many pixels; logarithmic if there are many, since
// evaluations grow rarer.
function acrossSteps(width) {
  const steps = records.map((record) => record.step);
  let [first, last] = [steps[0], steps.at(-1)];
  if (first === last) [first, last] = [first - 1, last + 1];
  const logarithmic = first >= 0 && last >= 30;
  const scale = logarithmic ? Math.log1p : (step) => step;
  const x = (step) => LEFT + ((scale(step) - scale(first)) / (scale(last) - scale(first))) * width;
  const decades = [
    0,
    ...Array.from({ length: 1 + Math.floor(Math.log10(last)) }, (_, n) => 10 ** n),
  ];
  if (last > 1.6 * decades.at(-1)) decades.push(last);
  const round = logarithmic ? decades : ticks(first, last, Math.max(2, width / 90));
  const shown = round.filter((step) => step >= steps[0] && step <= steps.at(-1));
  const at = shown.filter(Number.isInteger);
  return Object.assign(x, { logarithmic, at });
}

// From a value to its place in a plot, and round values; logarithmic, if it may be and they differ.
function upValues(values, logs) {
  const least = values.reduce((a, b) => Math.min(a, b));
  const most = values.reduce((a, b) => Math.max(a, b));
  const logarithmic = logs && least > 0 && most >= 5 * least;
  const scale = logarithmic ? Math.log10 : (value) => value;
  const margin = 0.06 * (scale(most) - scale(least)) || Math.abs(scale(most)) / 10 || 1;
  const [low, high] = [scale(least) - margin, scale(most) + margin];
  const y = (value) => TOP + ((high - scale(value)) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const at = logarithmic ? logarithmicTicks(10 ** low, 10 ** high) : ticks(low, high, 6);
  return { y, at, logarithmic };
}

let selected = null; // index of the evaluation read out, or null for the newest

class Plot {
  // `curves` makes a list of {name, of(record), className} of the newest state, `text` words of a
  // value, `tick` shorter ones, `heading` those above it. `logs`: its axis may be logarithmic.
  constructor(id, { curves, text, tick, heading, logs }) {
    Object.assign(this, { curves, text, tick, heading, logs });
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
    this.shown = this.curves().filter(({ of }) => records.some((record) => known(of(record))));
    if (!this.shown.length) return;
    this.x = acrossSteps(width - LEFT - RIGHT);
    const up = upValues(this.shown.flatMap(({ of }) => records.map(of)).filter(known), this.logs);
    show(this.root.querySelector("h3"), this.heading(up.logarithmic));
    attribute(this.svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
    this.cursor = drawn("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM });
    this.svg.replaceChildren(
      ...this.axes(width, up),
      ...this.shown.flatMap((curve) => this.line(curve, up.y)),
      this.cursor,
    );
    this.drawLegend();
    attribute(this.slider, "aria-valuemax", records.length - 1);
    this.select();
  }

  axes(width, { y, at }) {
    const word = (left, base, anchor, text) =>
      drawn("text", { x: left, y: base, "text-anchor": anchor }, text);
    const right = (this.right = width - RIGHT);
    const parts = at.flatMap((value) => [
      drawn("line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) }),
      word(LEFT - 6, y(value) + 4, "end", this.tick(value)),
    ]);
    for (const step of this.x.at) {
      parts.push(word(this.x(step), HEIGHT - BOTTOM + 16, "middle", number(step)));
    }
    const name = this.x.logarithmic ? "step (logarithmic)" : "step";
    return [...parts, word(right, HEIGHT - 3, "end", name)];
  }

  line({ of, className, level }, y) {
    const points = records.filter((record) => known(of(record)));
    const path = points.map((record) => [this.x(record.step).toFixed(1), y(of(record)).toFixed(1)]);
    if (level) path.splice(0, path.length, [LEFT, path[0][1]], [this.right, path[0][1]]);
    const line = drawn("polyline", { class: `curve ${className}`, points: path.join(" ") });
    if (level || points.length > 40) return [line];
    return [line, ...path.map(([cx, cy]) => drawn("circle", { class: className, cx, cy, r: 2.5 }))];
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
    if (!this.shown?.length) return;
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
    if (!this.shown?.length) return;
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
  new Plot("score-plot", {
    curves: () => [
      ...["test", "validation", "train"].map((part) => ({
        name: part,
        className: part,
        of: (record) => record[`${part}_${latest.measure.key}`],
      })),
      { name: "natural images", className: "natural", level: true, of: () => latest.natural },
    ],
    text: (value) => score(value),
    tick: (value) =>
      latest.measure.factor === 100
        ? `${Number((100 * value).toFixed(2))} %`
        : Number(value.toFixed(4)),
    heading: () => measureName(),
    logs: false,
  }),
  new Plot("loss-plot", {
    curves: () => [{ name: "loss", className: "test", of: (record) => record.loss }],
    text: loss,
    tick: loss,
    heading: (logarithmic) => (logarithmic ? "loss (logarithmic)" : "loss"),
    logs: true,
  }),
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
