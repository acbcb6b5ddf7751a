// Receives states and records from the server.

// Screen readers announce changes of the run's state and of the connection only.
const said = {};
function announce(about, words) {
  said[about] = words;
  show(element("announcer"), Object.values(said).join(" ").trim());
}

let waiting = false; // for the next frame; a hidden page has none and draws nothing

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
  drawRecords();
  connectionWords();
}

function drawRecords() {
  element("curves").hidden = !records.length;
  element("no-curves").hidden = Boolean(records.length);
  drawCurve();
  drawPoints();
}

function redraw() {
  palette = {};
  mapped = "";
  schedule();
}

function receive(state) {
  latest = state;
  heard = performance.now();
  schedule();
}

function receiveRecords(list, replace) {
  records = replace ? list : records.concat(list);
  schedule();
}

let source = null;
let connection = "connecting"; // or live, or lost
let lastHeard = Date.now() / 1000; // by this machine's clock

function connect() {
  source?.close();
  source = new EventSource("events");
  let replace = true;
  const hear = (event) => {
    connection = "live";
    lastHeard = Date.now() / 1000;
    return JSON.parse(event.data);
  };
  source.onopen = () => (replace = true); // the server sends all records again
  source.addEventListener("state", (event) => receive(hear(event)));
  source.addEventListener("silence", hear); // the server lives, but has nothing new
  source.addEventListener("records", (event) => {
    receiveRecords(hear(event), replace);
    replace = false;
  });
  source.onerror = () => {
    if (connection === "live") connection = "lost";
    connectionWords();
    // The browser reconnects by itself, except after an error page of a proxy.
    if (latest?.run.state === "finished") source.close();
    else if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

// A connection can die without an error, for example when a machine sleeps.
function connectAgainIfSilent() {
  if (connection !== "live" || Date.now() / 1000 - lastHeard < 40) return;
  connection = "lost";
  connect();
}

// The state of the connection, in words, and what screen readers announce.
function connectionNow() {
  const state = latest?.run.state;
  if (hasEnded()) {
    const how = state === "interrupted" ? "was interrupted" : state;
    const more = ` kipper report ${latest.run.workdir} shows the run from its files.`;
    const gone = connection === "lost" ? more : "";
    return ["ended", `The run ${how} at ${clock(latest.now)}.${gone}`, ""];
  }
  if (connection === "lost") {
    const since = duration(Date.now() / 1000 - lastHeard);
    const words = `No connection since ${clock(lastHeard)}, ${since} ago; trying again.`;
    return ["lost", words, "The connection is lost."];
  }
  const silent = latest && serverNow() - latest.now;
  const standing = silent > 30 ? `; the run has reported nothing for ${duration(silent)}` : "";
  return [connection, `${connection}${standing}`, connection === "live" ? "Connected." : ""];
}

function connectionWords() {
  const [kind, words, aloud] = connectionNow();
  attribute(element("connection"), "data-state", kind);
  show(element("connection-words"), words);
  announce("connection", aloud);
}

// The token stays in a cookie, not in the history or in an address that is copied to others.
if (location.search) history.replaceState(null, "", location.pathname);
connect();
setInterval(() => {
  connectAgainIfSilent();
  if (document.hidden || !latest) return;
  if (connection === "live") tickAges();
  connectionWords();
}, 1000);
addEventListener("pagehide", () => source.close());
addEventListener("pageshow", (event) => event.persisted && connect());
new ResizeObserver(redraw).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
