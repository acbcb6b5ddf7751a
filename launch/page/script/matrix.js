// The kernel matrix and the state of its blocks.

const GAP = 14,
  BAND = 20;
let mapped = ""; // the content of the canvas, which is redrawn only when it changes
let cells = []; // [x, y, width, height, index] in CSS pixels, to look up the pointer

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
  const content = JSON.stringify([width, colour("--paper"), matrix]);
  if (content === mapped) return;
  mapped = content;

  const { support, targets } = matrix;
  const square = matrix.cells.some((cell) => cell[2] < support);
  const wide = matrix.cells.some((cell) => cell[2] >= support);
  const bands = new Set(matrix.cells.map((cell) => cell[0])).size;
  const height = Math.round(Math.max(80, Math.min(230, (wide ? 0.3 : 1) * width, 40 * bands)));
  const [context] = prepared(canvas, BAND + height);
  const start = square ? height + GAP : 0; // where K_ts begins
  const x = (column, beside) =>
    beside
      ? start + ((column - support) / targets) * (width - start)
      : (column / support) * height;
  const y = (row) => BAND + (row / support) * height;
  context.fillStyle = colour("--muted");
  if (square) context.fillText(`K_ss ${number(support)} × ${number(support)}`, 0, 12);
  if (wide) context.fillText(`K_ts ${number(support)} × ${number(targets)}`, start, 12);
  context.strokeStyle = colour("--line");
  if (square) context.strokeRect(0.5, BAND + 0.5, height - 1, height - 1);
  cells = matrix.cells.map(([row0, row1, column0, column1], index) => {
    const beside = column0 >= support;
    const left = x(column0, beside);
    return [left, y(row0), x(column1, beside) - left, y(row1) - y(row0), index];
  });
  for (const [left, top, across, down, index] of cells) {
    const seam = Math.min(across, down) > 4 ? 1 : 0;
    const [shownAcross, shownDown] = [Math.max(0.5, across - seam), Math.max(0.5, down - seam)];
    fill(context, CELLS[matrix.states[index]] ?? CELLS.q, left, top, shownAcross, shownDown);
  }
  attribute(canvas, "aria-label", words);
}

element("matrix").addEventListener("pointermove", (event) => {
  const within = (at, start, length) => at >= start && at < start + length;
  const hit = cells.find(
    ([x, y, width, height]) =>
      within(event.offsetX, x, width) && within(event.offsetY, y, height),
  );
  if (!hit || !latest.matrix) return show(element("matrix-readout"), "");
  const [row0, row1, column0, column1] = latest.matrix.cells[hit[4]] ?? [];
  const { support } = latest.matrix;
  const columns =
    column0 >= support
      ? `targets ${column0 - support}–${column1 - support - 1}`
      : `support ${column0}–${column1 - 1}`;
  const state = CELLS[latest.matrix.states[hit[4]]]?.[0];
  show(element("matrix-readout"), `support ${row0}–${row1 - 1} × ${columns}: ${state}`);
});
element("matrix").addEventListener("pointerleave", () => show(element("matrix-readout"), ""));
