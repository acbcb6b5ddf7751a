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

// As kipper.common.numbers shows accuracies and R².
function score(value) {
  if (!known(value)) return NONE;
  const percent = latest.measure.factor === 100;
  return percent ? `${(100 * value).toFixed(1)} %` : value.toFixed(3);
}
