// What a reader can change about how structures are shown.

import { element } from "./elements.js";

const MODES = { label: "Segmentation", threshold: "Threshold", probability: "Probability" };

/** Return a labelled slider; its value is told in words beside it. */
export function range(words, { min, max, value, step = 1 }, say) {
  const input = element("input", {
    type: "range",
    min: String(min),
    max: String(max),
    step: String(step),
    value: String(value),
  });
  const output = element("output", {});
  const tell = () => {
    output.textContent = say(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", tell);
  tell();
  return {
    input,
    output,
    tell,
    row: element("label", { class: "range" }, element("span", {}, words), input, output),
  };
}

/** Return a labelled box to tick, with a small square of colour where one is named. */
export function check(words, isOn, onChange, mark = "") {
  const input = element("input", { type: "checkbox", checked: isOn });
  input.addEventListener("change", () => onChange(input.checked));
  return element(
    "label",
    { class: "check" },
    input,
    mark ? element("span", { class: `swatch ${mark}`, "aria-hidden": "true" }) : null,
    words,
  );
}

/**
 * Build the controls of a viewer.
 *
 * @param onMode Called with the mode and the threshold whenever one of them changes.
 */
export function buildLook(viewer, hasProbabilities, onMode = () => {}) {
  const percent = (value) => `${value} %`;
  const opacity = range("Opacity", { min: 0, max: 100, value: 50 }, percent);
  opacity.input.addEventListener("input", () => viewer.set({ opacity: opacity.input.value / 100 }));
  if (!hasProbabilities) return [opacity.row];
  const threshold = range("Probability at least", { min: 1, max: 99, value: 50 }, percent);
  const pills = Object.entries(MODES).map(([value, words]) =>
    element(
      "label",
      {},
      element("input", {
        type: "radio",
        name: "mode",
        value,
        checked: value === "label",
        change: () => setMode(value),
      }),
      element("span", {}, words),
    ),
  );
  const modes = element("fieldset", { class: "pills" }, element("legend", {}, "Show"), ...pills);
  const setMode = (mode) => {
    modes.querySelector(`input[value=${mode}]`).checked = true;
    viewer.set({ mode });
    onMode(mode, threshold.input.value / 100);
  };
  threshold.input.addEventListener("input", () => {
    viewer.set({ threshold: threshold.input.value / 100 });
    setMode("threshold");
  });
  const band = check("Uncertain band, 10 to 90 %", true, (on) => viewer.set({ band: on }), "uncertain");
  viewer.set({ band: true });
  return [modes, threshold.row, opacity.row, band];
}
