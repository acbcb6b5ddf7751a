// The table of workers.

const FEW = 20; // rows shown before "Show all"
const MARKS = { working: "▶", idle: "○", leaving: "◁", lost: "✕", ended: "■" };
const byName = new Intl.Collator("en", { numeric: true }).compare;
const age = (worker) =>
  known(worker.last_answer) && worker.state !== "lost"
    ? Math.max(0, serverNow() - worker.last_answer)
    : null;
// Each column: heading, value to sort by, text.
const COLUMNS = [
  ["name", (w) => w.name, (w) => w.name],
  [
    "state",
    (w) => ["ended", "lost", "leaving", "idle", "working"].indexOf(w.state),
    (w) => `${MARKS[w.state] ?? ""} ${w.state}${w.reason ? `: ${w.reason}` : ""}`,
  ],
  ["pairs/s", (w) => w.pairs_per_second, (w) => number(w.pairs_per_second)],
  [
    "last answer",
    age,
    (w) => (age(w) === null ? NONE : `${duration(age(w))}${hasEnded() ? " before the end" : " ago"}`),
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
let order = null; // {column, down}, or null: workers that need attention first
let all = false;
let busy = new Map(); // worker to the share of the last minute in which it was busy
const rows = new Map(); // worker to its table row

function sorted(workers) {
  if (order === null) {
    const urgency = (worker) => ["leaving", "lost"].indexOf(worker.state);
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
      const present = bins.replaceAll(" ", "");
      return [worker, present.replaceAll(".", "").length / (present.length || 1)];
    }),
  );
  const chosen = sorted(workers).slice(0, all ? workers.length : FEW);
  const lost = workers.filter((worker) => worker.state === "lost").length;
  const sorting = order === null ? "by need of attention" : `by ${COLUMNS[order.column][0]}`;
  const found = plural(workers.length, "worker") + (lost ? `, ${number(lost)} of them lost` : "");
  const words = `${found}; sorted ${sorting}. Busy: share of the last minute spent computing.`;
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
    COLUMNS.forEach(([, , cell], column) => show(row.children[column], cell(worker)));
  });
}

const AGE = COLUMNS.findIndex(([name]) => name === "last answer");
function tickAges() {
  for (const row of rows.values()) show(row.children[AGE], COLUMNS[AGE][2](row.worker));
}

function sortBy(column) {
  const first = !WORDS.has(COLUMNS[column][0]); // numbers start in descending order
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
