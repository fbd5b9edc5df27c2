// What a finished job shows: the viewer with its controls, the volumes, the files.

import { getBuffer, getJson } from "./api.js";
import { buildLook, check, range } from "./controls.js";
import { byId, bytesText, field, mmText, numberText, showError, swatch } from "./dom.js";
import { element } from "./elements.js";
import { loadNiivue } from "./niivue.js";
import { Viewer } from "./viewer.js";
import { inColour, readVolume } from "./volumes.js";

const KINDS = {
  label: "Segmentation",
  probability: "Probability",
  contour: "Contour",
  dicom_seg: "DICOM SEG",
  volumes: "Volumes (JSON)",
  image: "Image as shown",
  superpixels: "Superpixels",
};
const WAIT_MS = 250;

let viewer = null;
let opening = 0;

export function closeResult() {
  opening += 1;
  viewer?.close();
  viewer = null;
}

/** Build the result of a job, then load what it shows. */
export async function openResult(place, job, model) {
  const mine = ++opening;
  const parts = frame(job);
  place.replaceChildren(parts.head, parts.wait, parts.error, parts.stage, parts.controls, parts.below);
  try {
    const volumes = await volumesOf(job);
    if (mine !== opening) return;
    const classes =
      model?.classes ??
      volumes.map((one, i) => ({ ...one, colour: ["#f28e2b", "#56b4e9", "#e07bb0", "#1fb58a"][i % 4] }));
    const shown = await load(job, classes);
    if (mine !== opening) return;
    viewer = new Viewer(parts.stage, shown.niivue);
    await viewer.show(shown);
    if (mine !== opening) return;
    parts.wait.remove();
    buildControls(parts.controls, job, shown);
    buildVolumes(parts.volumes, volumes, shown, model?.has_intervals);
  } catch (error) {
    if (mine !== opening) return;
    parts.wait.remove();
    showError(parts.error, error);
  }
}

function frame(job) {
  const volumes = element("section", { "aria-label": "Volumes" });
  const head = element(
    "div",
    { class: "head" },
    element("h2", {}, job.name),
    element("p", { class: "small" }, `Segmented by ${job.model}`),
  );
  return {
    head,
    volumes,
    wait: element("p", { class: "wait" }, "Loading the images …"),
    error: element("p", { class: "error", role: "alert", hidden: true }),
    stage: element("div", {}),
    controls: element("form", {
      class: "controls",
      "aria-label": "How it is shown",
      submit: (event) => event.preventDefault(),
    }),
    below: element("div", { class: "below" }, volumes, downloads(job)),
  };
}

function pathOf(job, name) {
  return `v1/jobs/${encodeURIComponent(job.id)}/${name}`;
}

async function volumesOf(job) {
  const found = job.results.find((one) => one.kind === "volumes");
  return found ? getJson(pathOf(job, `results/${encodeURIComponent(found.name)}`)) : [];
}

async function load(job, classes) {
  const of = (kind) => job.results.filter((one) => one.kind === kind);
  const read = async (one) =>
    readVolume(await getBuffer(pathOf(job, `results/${encodeURIComponent(one.name)}`)));
  const nifti = (one) => /\.nii(\.gz)?$/.test(one.name);
  const numbered = (a, b) => a.name.length - b.name.length || a.name.localeCompare(b.name);
  const [images, labels] = [of("image").filter(nifti).sort(numbered), of("label").filter(nifti)];
  if (!images.length || !labels.length)
    throw new Error("This job has no image to show; its files can be downloaded.");
  const [niivue, channel, label, ...maps] = await Promise.all([
    loadNiivue(),
    read(images[0]),
    read(labels[0]),
    ...of("probability")
      .filter(nifti)
      .map(async (one) => ({ ...(await read(one)), value: one.class })),
  ]);
  const isFlat = channel.dims[2] === 1;
  const isColour = isFlat && images.length === 3;
  const image = isColour ? inColour([channel, await read(images[1]), await read(images[2])]) : channel;
  // Channels are named image, image-2, image-3, …, and the others are fetched when they are asked for.
  const channels = isColour ? [] : images.map((one) => () => read(one));
  return { niivue, image, channels, label, probabilities: byClass(maps, classes), classes, isFlat };
}

/** Probabilities in the order of the classes; one file may hold all of them, background first. */
function byClass(maps, classes) {
  const [all] = maps.filter((one) => one.frames > 1);
  if (all) {
    const n = all.dims[0] * all.dims[1] * all.dims[2];
    return classes.map((_, k) => ({ ...all, frames: 1, data: all.data.subarray((k + 1) * n, (k + 2) * n) }));
  }
  const found = classes.map((one) => maps.find((map) => map.value === one.value));
  return found.every(Boolean) ? found : [];
}

// ---- controls ----

function buildControls(form, job, { channels, probabilities }) {
  const parts = buildLook(viewer, probabilities.length > 0, (mode, threshold) => {
    byId("volumes-table")?.classList.toggle("at-threshold", mode === "threshold");
    showAtThreshold(threshold);
  });
  if (channels.length > 1) parts.push(channelControl(channels));
  form.replaceChildren(...parts, superpixelControls(job));
}

function channelControl(channels) {
  const shownBy = viewer;
  const choice = element(
    "select",
    { id: "channel" },
    ...channels.map((_, i) => element("option", { value: String(i) }, `${i + 1} of ${channels.length}`)),
  );
  const error = element("p", { class: "error", role: "alert", hidden: true });
  choice.addEventListener("change", async () => {
    try {
      const image = await channels[Number(choice.value)]();
      if (shownBy === viewer) await viewer.showImage(image);
      showError(error, null);
    } catch (problem) {
      showError(error, problem);
    }
  });
  return element("div", {}, field("Channel", choice), error);
}

/** Borders of superpixels are computed by the server, when they are asked for. */
function superpixelControls(job) {
  const mm = viewer.spacing;
  const smallest = Math.min(...mm.slice(0, viewer.isFlat ? 2 : 3));
  const steps = (factor) => Number((smallest * factor).toPrecision(2));
  const size = range(
    "Size",
    { min: steps(2), max: steps(24), value: steps(viewer.isFlat ? 8 : 4), step: steps(0.5) },
    mmText,
  );
  const compactness = range("Compactness", { min: -2, max: 1, value: -1, step: 0.1 }, (value) =>
    String(Number((10 ** value).toPrecision(2))),
  );
  const error = element("p", { class: "error", role: "alert", hidden: true });
  const sliders = element("div", { class: "more", hidden: true }, size.row, compactness.row, error);
  let timer = 0,
    asked = 0;
  const refresh = async () => {
    const mine = ++asked,
      shownBy = viewer;
    try {
      const query = new URLSearchParams({
        size: size.input.value,
        compactness: (10 ** compactness.input.value).toPrecision(3),
      });
      const volume = await readVolume(await getBuffer(pathOf(job, `superpixels?${query}`)));
      if (mine === asked && shownBy === viewer && !sliders.hidden) viewer.showSuperpixels(volume);
      showError(error, null);
    } catch (problem) {
      showError(error, problem);
    }
  };
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, WAIT_MS);
  };
  size.input.addEventListener("input", later);
  compactness.input.addEventListener("input", later);
  const box = check("Superpixel borders", false, (on) => {
    sliders.hidden = !on;
    if (on) refresh();
    else viewer.showSuperpixels(null);
  });
  return element("div", { class: "superpixels" }, box, sliders);
}

// ---- volumes ----

let atThreshold = [];

function buildVolumes(place, volumes, shown, hasErrors) {
  if (!volumes.length) return;
  const unit = shown.isFlat
    ? { name: "Area", key: "mm2", words: "mm²" }
    : { name: "Volume", key: "ml", words: "ml" };
  const hasIntervals = volumes.some((one) => typeof one[`low_${unit.key}`] === "number");
  const level = Math.round(100 * (volumes[0].level ?? 0.9));
  const largest = Math.max(...volumes.map((one) => one[`high_${unit.key}`] ?? one[unit.key] ?? 0));
  atThreshold = [];
  const rows = volumes.map((one) => {
    const k = shown.classes.findIndex((other) => other.value === one.value);
    const show = element("input", { type: "checkbox", checked: true, "aria-label": `Show ${one.name}` });
    show.addEventListener("change", () => hide(one.value, !show.checked));
    const low = one[`low_${unit.key}`],
      high = one[`high_${unit.key}`];
    const cell = element("td", { class: "number threshold" });
    if (k >= 0 && shown.probabilities.length) atThreshold.push({ cell, k, isFlat: shown.isFlat });
    return element(
      "tr",
      {},
      element(
        "th",
        { scope: "row" },
        element("label", { class: "check" }, show, swatch(shown.classes[k]?.colour ?? "#888888"), one.name),
      ),
      element("td", { class: "number" }, numberText(one[unit.key])),
      hasIntervals
        ? element(
            "td",
            { class: "number" },
            typeof low === "number" ? `${numberText(low)} to ${numberText(high)}` : "–",
          )
        : null,
      hasIntervals
        ? element("td", {}, bar(one[unit.key], low, high, largest, shown.classes[k]?.colour))
        : null,
      cell,
    );
  });
  const columns = [
    "Structure",
    `${unit.name} (${unit.words})`,
    ...(hasIntervals ? [`${level} % interval`, ""] : []),
    "",
  ];
  const head = element(
    "tr",
    {},
    ...columns.map((words, i) =>
      element("th", { scope: "col", class: i === 0 || (hasIntervals && i === 3) ? "" : "number" }, words),
    ),
  );
  head.lastChild.id = "threshold-head";
  head.lastChild.classList.add("threshold");
  const note = intervalWords(hasIntervals, level, unit.name.toLowerCase(), hasErrors);
  place.replaceChildren(
    element("h3", {}, `${unit.name}s`),
    element(
      "div",
      { class: "wide", tabindex: "0", role: "region", "aria-label": `${unit.name}s` },
      element("table", { id: "volumes-table" }, element("thead", {}, head), element("tbody", {}, ...rows)),
    ),
    element("p", { class: "small" }, note),
  );
}

function intervalWords(hasIntervals, level, what, hasErrors) {
  if (hasIntervals) {
    return `In ${level} of 100 images like those the model was calibrated on, the true ${what} lies within its interval.`;
  }
  if (hasErrors) {
    return `There is no interval: too few cases were held back from training to say what holds in ${level} of 100 images.`;
  }
  return "This model gives no intervals: none of its cases were held back to measure its errors.";
}

function hide(value, isHidden) {
  const hidden = new Set(viewer.look.hidden);
  if (isHidden) hidden.add(value);
  else hidden.delete(value);
  viewer.set({ hidden });
}

/** What each structure would measure if all was taken that is at least so probable. */
function showAtThreshold(threshold) {
  const head = byId("threshold-head");
  if (!head) return;
  head.textContent = `at ≥ ${Math.round(100 * threshold)} %`;
  for (const { cell, k, isFlat } of atThreshold) {
    const size = viewer.structures.sizeAt(k, threshold);
    cell.textContent = numberText(isFlat ? size : size / 1000);
  }
}

/** A small drawing of a volume within its interval. */
function bar(value, low, high, largest, colour = "#888888") {
  if (typeof low !== "number" || !largest) return "";
  const make = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, number] of Object.entries(attributes)) node.setAttribute(name, number);
    return node;
  };
  const at = (number) => 4 + (92 * number) / largest;
  const picture = make("svg", { viewBox: "0 0 100 14", class: "interval", "aria-hidden": "true" });
  picture.append(
    make("line", { x1: 4, x2: 96, y1: 7, y2: 7, class: "axis" }),
    make("rect", {
      x: at(low),
      width: Math.max(at(high) - at(low), 1),
      y: 4,
      height: 6,
      rx: 3,
      fill: colour,
      "fill-opacity": 0.45,
    }),
    make("circle", { cx: at(value), cy: 7, r: 3.4, fill: colour }),
  );
  return picture;
}

// ---- files ----

function downloads(job) {
  const error = element("p", { class: "error", role: "alert", hidden: true });
  const row = (one) =>
    element(
      "li",
      {},
      element(
        "button",
        { type: "button", class: "link", click: (event) => save(job, one, event.currentTarget, error) },
        KINDS[one.kind] ?? one.kind,
      ),
      element("span", { class: "small" }, `${one.name}, ${bytesText(one.bytes)}`),
    );
  const contours = job.results.filter((one) => one.kind === "contour");
  const others = job.results.filter((one) => one.kind !== "contour");
  const folded = contours.length
    ? element(
        "details",
        {},
        element("summary", {}, `Nested contours at 10, 50 and 90 % (${contours.length} files)`),
        element("ul", {}, ...contours.map(row)),
      )
    : null;
  return element(
    "section",
    { class: "files", "aria-label": "Files" },
    element("h3", {}, "Files"),
    element("ul", {}, ...others.map(row)),
    folded,
    error,
  );
}

/** Fetch a file and hand it to the browser; a plain link could not carry the token. */
async function save(job, result, button, error) {
  button.disabled = true;
  showError(error, null);
  try {
    const buffer = await getBuffer(pathOf(job, `results/${encodeURIComponent(result.name)}`));
    const address = URL.createObjectURL(new Blob([buffer]));
    element("a", { href: address, download: `${job.name}_${result.name}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (problem) {
    showError(error, problem);
  }
  button.disabled = false;
}
