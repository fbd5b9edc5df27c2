// Words and small pieces that both tabs share.

import { element } from "./elements.js";

export function byId(id) {
  return document.getElementById(id);
}

/** Bytes for people. */
export function bytesText(n) {
  if (n < 1000) return `${n} bytes`;
  if (n < 1e6) return `${Math.round(n / 1000)} kB`;
  if (n < 1e9) return `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB`;
  return `${(n / 1e9).toFixed(1)} GB`;
}

/** Seconds for people. */
export function secondsText(seconds) {
  if (seconds < 1.5) return "a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** A number with about three digits that count. */
export function numberText(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** A setting in millimetres, without zeros that say nothing. */
export function mmText(value) {
  return `${Number(numberText(value))} mm`;
}

/** "a, b and c" */
export function listText(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

export function counted(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** Show an error as a sentence that a screen reader reads out; nothing given takes it away. */
export function showError(place, error) {
  place.textContent = error ? (error.message ?? String(error)) : "";
  place.hidden = !error;
}

/** A field under its label; the label is no parent, or a choice's options would be part of its name. */
export function field(words, node) {
  return element("div", { class: "field" }, element("label", { for: node.id }, words), node);
}

/** A small square in a class's colour. */
export function swatch(colour) {
  const node = element("span", { class: "swatch", "aria-hidden": "true" });
  node.style.background = colour;
  return node;
}
