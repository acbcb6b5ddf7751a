// Coming and going of states.

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
let lastHeard = Date.now() / 1000; // by this machine's clock

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
  source.addEventListener("silence", hear); // it is there, but has nothing new
  source.addEventListener("records", (event) => {
    receiveRecords(hear(event), anew);
    anew = false;
  });
  source.onerror = () => {
    if (connection === "live") connection = "lost";
    connectionWords();
    // A finished run has nothing more to say. An error page of a proxy ends the connection for
    // good, unlike the loss of it, after which the browser tries again.
    if (latest?.run.state === "finished") source.close();
    else if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

// A connection may be dead without an error, after a machine slept or behind a tunnel.
function connectAgainIfSilent() {
  if (connection !== "live" || Date.now() / 1000 - lastHeard < 40) return;
  connection = "lost";
  connect();
}

// What is said of the connection: its kind, in words, and to whom the page is read aloud.
function connectionNow() {
  const state = latest?.run.state;
  if (ENDED.includes(state)) {
    const how = state === "interrupted" ? "was interrupted" : state;
    const gone = served && connection === "lost";
    const file = " Its server is gone; dashboard.html in its folder shows this page.";
    return ["ended", `The run ${how} at ${clock(latest.now)}.${gone ? file : ""}`, ""];
  }
  if (!served) return ["ended", `The run as it was at ${clock(latest.now)}.`, ""];
  if (connection === "lost") {
    const since = duration(Date.now() / 1000 - lastHeard);
    const words = `No connection since ${clock(lastHeard)}, ${since} ago; trying again.`;
    return ["lost", words, "The connection is lost."];
  }
  const silent = latest && serverNow() - latest.now;
  const standing = silent > 30 ? `; the run has said nothing for ${duration(silent)}` : "";
  return [connection, `${connection}${standing}`, connection === "live" ? "Connected." : ""];
}

function connectionWords() {
  const [kind, words, aloud] = connectionNow();
  attribute(element("connection"), "data-state", kind);
  show(element("connection-words"), words);
  announce("connection", aloud);
}

let embedded = null; // the image, where the page is a file
if (served) {
  connect();
  setInterval(() => {
    connectAgainIfSilent();
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
