// The head of the page, its numbers, and the distilled images.

let latest = null; // the newest state
let records = []; // all evaluations
let heard = 0; // when `latest` came, by performance.now()
const hasEnded = () => ["finished", "interrupted", "failed"].includes(latest?.run.state);
const serverNow = () => latest.now + (hasEnded() ? 0 : (performance.now() - heard) / 1000);

function drawHead() {
  const { run, progress } = latest;
  const images = plural(run.support_size, "image");
  const title = `${run.dataset}, ${run.architecture}, ${images}, ${run.algorithm}`;
  show(element("title"), title);
  const where = `${run.workdir} on ${run.host}, process ${run.pid}, served at ${location.host}`;
  show(element("where"), where);
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
  const liars = Object.entries(run.liars ?? {}).map(
    ([name, from]) => `Wrong numbers of ${name} were found; computed again from ${number(from)} on.`,
  );
  const waits = run.waits_for && `Waits for a worker that computes by ${run.waits_for}.`;
  const message = [run.message, waits, ...liars].filter(Boolean).join("\n");
  element("message").hidden = !message;
  show(element("message"), message);
  drawNumerics(run.numerics);
  show(element("version"), latest.kipper);
  announce("state", `The run is ${run.state}.`);
}

// What the bits of the result depend on; see docs/resume.md.
function drawNumerics(numerics) {
  const { workers = [], coordinators = [] } = numerics ?? {};
  const isMixed = workers.length > 1 || coordinators.length > 1;
  const words = [...workers, ...coordinators].join("; ");
  element("numerics").hidden = !words;
  show(element("numerics"), `${isMixed ? "mixed numerics" : "numerics"}: ${words}`);
}

function drawNumbers() {
  const { progress, measure, scheduler } = latest;
  const put = (id, value, ...notes) => {
    show(element(id), value);
    // Lines may break between short notes only.
    const whole = notes.filter(Boolean).map((note) => (note.length < 20 ? unbroken(note) : note));
    show(element(`${id}-note`), whole.join(", "));
  };
  const evaluated = records.at(-1);
  show(element("score").previousElementSibling, `test ${measureName()}`);
  put(
    "score",
    score(evaluated?.[`test_${measure.key}`]),
    evaluated && `step ${number(evaluated.step)}`,
    known(latest.natural) && `natural ${score(latest.natural)}`,
  );
  const at = known(progress.step) && `step ${number(progress.step)}`;
  put("loss", loss(progress.loss ?? evaluated?.loss), at);
  put("seconds", duration(progress.seconds, true), `started ${clock(latest.run.started)}`);
  put(
    "pairs",
    amount(progress.kernel_pairs),
    known(progress.blocks) && plural(progress.blocks, "block"),
    progress.vjp_pairs && `${amount(progress.vjp_pairs)} gradients`,
  );
  put("rate", number(progress.pairs_per_second));
  const [sent, received] = [progress.bytes_sent ?? 0, progress.bytes_received ?? 0];
  put("bytes", bytes(sent + received), `${bytes(sent)} out`, `${bytes(received)} in`);
  const connected = latest.workers.filter((worker) => worker.state !== "lost").length;
  const until = hasEnded() ? "at the end" : "connected";
  put("deaths", number(latest.deaths), `${plural(connected, "worker")} ${until}`);
  put(
    "retries",
    number(scheduler.retries),
    known(scheduler.duplicates) && `${number(scheduler.duplicates)} copies`,
    known(scheduler.verified) && `${number(scheduler.verified)} compared`,
  );
}

const unbroken = (words) => words.replaceAll(" ", "\u00a0");
const measureName = () => (latest.measure.name ?? "score").split(" (")[0];

let shownImage = null;
function drawImages() {
  const images = latest.images;
  const url = images?.url;
  element("images").hidden = !url;
  element("no-images").hidden = Boolean(url);
  if (!url || url === shownImage) return;
  shownImage = url;
  const solved = latest.run.algorithm === "Label Solve";
  const step = `step ${number(images.step)}`;
  const picture = element("images").querySelector("img");
  picture.src = url;
  picture.alt = `${images.count} distilled images${solved ? "" : ` of ${step}`}`;
  show(element("images-step"), solved ? "Natural images." : `Step ${number(images.step)}.`);
  const classes = images.classes.length ? `Classes: ${images.classes.join(", ")}.` : "";
  const labels = solved ? " Labels are solved for." : " Labels are learned as well.";
  show(element("images-classes"), classes + (images.labels_learned ? labels : ""));
}
