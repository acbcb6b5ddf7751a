// The activity of each worker in the last minute.

const AXIS = 18;
let lane = null; // geometry of the drawn lanes: {left, pitch, width}

const inOrder = () => [...latest.timeline.lanes].sort((a, b) => byName(a.worker, b.worker));

function drawTimeline() {
  const { bin } = latest.timeline;
  const lanes = inOrder();
  const canvas = element("timeline");
  if (!lanes.length) return;
  legend(element("timeline-legend"), ACTIVITIES, (_, words) => words);
  const all = latest.workers.length;
  show(
    element("timeline-words"),
    lanes.length < all
      ? `${number(lanes.length)} of ${number(all)} workers.`
      : "One lane per worker, blank while it was not connected.",
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
  for (const [share, align] of [[0, "left"], [0.5, "center"], [1, "right"]]) {
    context.textAlign = align;
    const ago = Math.round((1 - share) * bins * bin);
    const words = ago ? `−${ago} s` : hasEnded() ? "end" : "now";
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
      const [x, y] = [left + from * across, top + pitch - 2 - height];
      fill(context, kind, x, y, (to - from) * across, height);
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
  const { bin } = latest.timeline;
  const at = inOrder()[Math.floor((event.offsetY - AXIS) / lane.pitch)];
  const index =
    at && Math.floor(((event.offsetX - lane.left) / (lane.width - lane.left)) * at.bins.length);
  const letter = at?.bins[index];
  if (letter === undefined) return show(element("timeline-readout"), "");
  const ago = Math.round((at.bins.length - index) * bin);
  const when = `${ago} s ${hasEnded() ? "before the end" : "ago"}`;
  const what = ACTIVITIES[letter]?.[0] ?? "not connected";
  show(element("timeline-readout"), `${at.worker}, ${when}: ${what}`);
});
element("timeline").addEventListener("pointerleave", () => show(element("timeline-readout"), ""));
