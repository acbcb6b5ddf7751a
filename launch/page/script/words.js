"use strict";
// The page of a run. Text from the run enters the page as text nodes or drawings, never as markup.

const element = (id) => document.getElementById(id);
const make = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};
// Nodes are touched only where something changed, which keeps focus, selection and scroll position.
const show = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};
const attribute = (node, name, value) => {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
};

const NONE = "–";
const known = (value) => value !== null && value !== undefined;
const number = (value) => (known(value) ? Math.round(value).toLocaleString("en") : NONE);
const amount = (value) =>
  value >= 1e9
    ? `${Number((value / 1e9).toPrecision(3))} billion`
    : value >= 1e7
      ? `${Number((value / 1e6).toPrecision(3))} million`
      : number(value);
const plural = (count, thing) => `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
const loss = (value) => (known(value) ? String(Number(value.toPrecision(6))) : NONE);

function bytes(value) {
  if (!known(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

// As kipper.common.durations says them.
function duration(seconds, exact = false) {
  if (!known(seconds)) return NONE;
  if (exact && seconds < 100) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(Math.max(0, seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  const two = (count) => String(count).padStart(2, "0");
  if (minutes < 60) return `${minutes} min ${two(whole % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

function clock(unix) {
  const date = new Date(unix * 1000);
  const time = date.toLocaleTimeString("en-GB");
  const today = date.toDateString() === new Date().toDateString();
  return today ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

// As kipper.common.numbers shows accuracies and R².
function score(value) {
  if (!known(value)) return NONE;
  const percent = latest.measure.factor === 100;
  return percent ? `${(100 * value).toFixed(1)} %` : value.toFixed(3);
}
