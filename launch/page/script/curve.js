// The curves of loss and score, which the server draws, and the table of all evaluations.

let curveOf = null; // the records that the shown figure was requested for
let curveIsDark = null;
let requested = false;

function drawCurve() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  if (requested || !records.length || (curveOf === records && curveIsDark === isDark)) return;
  requested = true;
  const [wanted, last] = [records, records.at(-1)];
  const picture = new Image();
  const done = () => {
    requested = false;
    [curveOf, curveIsDark] = [wanted, isDark];
    schedule(); // there may be new records by now
  };
  picture.alt =
    `Loss and ${measureName()} against the step; at step ${number(last.step)} the loss is ` +
    `${loss(last.loss)} and the test ${measureName()} ${score(last[`test_${latest.measure.key}`])}`;
  picture.onload = () => {
    element("curve").replaceChildren(picture);
    done();
  };
  picture.onerror = done; // the last figure stays
  picture.src = `figures/curve.png?step=${last.step}${isDark ? "&dark=yes" : ""}`;
}

let tabled = null; // the first of the records in the table
function drawPoints() {
  if (!element("points").open) return;
  const { key: measure } = latest.measure;
  const columns = ["step", "loss", `train_${measure}`, `test_${measure}`, "seconds"].filter((key) =>
    records.some((record) => key in record),
  );
  const words = (key, value) => {
    if (key.endsWith(measure)) return score(value);
    if (key === "loss") return loss(value);
    return key === "step" ? number(value) : (value?.toFixed(1) ?? NONE);
  };
  const head = element("points").querySelector("thead tr");
  const body = element("points").querySelector("tbody");
  if (tabled !== records[0] || head.children.length !== columns.length) {
    tabled = records[0];
    const name = (key) => key.replace("_", " ").replace("r2", "R²");
    head.replaceChildren(
      ...columns.map((key) => make("th", { scope: "col", textContent: name(key) })),
    );
    body.replaceChildren();
  }
  for (const record of records.slice(body.children.length)) {
    const cell = (key) => make("td", { textContent: words(key, record[key]) });
    body.append(make("tr", {}, ...columns.map(cell)));
  }
}
element("points").addEventListener("toggle", () => latest && drawPoints());
