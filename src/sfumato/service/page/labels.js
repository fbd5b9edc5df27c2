// The tab that explains the method: a training case, its superpixels, and what they make of its label.

import { getJson, getPicture } from "./api.js";
import { range } from "./controls.js";
import { byId, field, mmText, numberText, showError } from "./dom.js";
import { element } from "./elements.js";
import { edges } from "./lines.js";
import { UNCERTAIN, colourParts } from "./structures.js";

const BORDER = "rgba(255, 255, 255, 0.55)";
// The server turns volumes so that their axes run from above, from the front and from the right.
const PLANES = ["Axial", "Coronal", "Sagittal"];
const SOFTENERS = {
  superpixel: "superpixel: in superpixels that cross the boundary",
  superpixel_ensemble: "superpixel_ensemble: the mean of several sizes",
  distance: "distance: everywhere, by distance",
  uniform: "uniform: a share for every class",
  boundary: "boundary: uniform, near boundaries",
  gaussian: "gaussian: blurred",
  svls: "svls: by the neighbours",
  dilation: "dilation: a ring around structures",
  geodesic: "geodesic: by the way through the image",
  raters: "raters: the mean of several people's labels",
  none: "none: the hard label",
};
const USES_SUPERPIXELS = ["superpixel", "superpixel_ensemble"];
const HELP = [
  [
    "Superpixel size",
    "Edge of a superpixel. Larger ones cross the boundary in more places, so more of the label becomes soft.",
  ],
  [
    "Compactness",
    "How much closeness counts against intensity. Low values follow edges in the image closely; high values give regular blocks that ignore it.",
  ],
  [
    "Softener",
    "The rule. Only superpixel and superpixel_ensemble look at the image's regions; the others are what they are compared with.",
  ],
  [
    "What to look for",
    "Where the image has a clear edge, superpixels should end at it and the label should stay hard. Where it fades, the label should become soft.",
  ],
];
const NOTES = {
  image: "What the annotator saw.",
  superpixels:
    "Small regions of alike intensity, computed near boundaries. The white line is the boundary that was drawn; where it runs through a superpixel, the image does not support it, and the superpixel is yellow.",
  hard: "Every pixel is wholly one class.",
  soft: "A probability where the label was softened, hard everywhere else.",
};

const state = {
  cases: [],
  id: null,
  detail: null,
  axis: 0,
  index: 0,
  planes: {},
  wanted: new Set(),
  isFetching: false,
  pixel: null,
  view: null,
  isWhole: false,
};

export async function openLabels() {
  const place = byId("labels");
  try {
    state.cases = await getJson("v1/cases");
  } catch (error) {
    place.replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
    return;
  }
  if (!state.cases.length) {
    place.replaceChildren(
      element(
        "section",
        {},
        element("h2", {}, "No training cases here"),
        element(
          "p",
          {},
          "Start the server with --dataset to look at the labels of a data set: sfumato serve MODEL --dataset my_data",
        ),
      ),
    );
    return;
  }
  build(place);
  await openCase(state.cases[0].id);
}

// ---- the parts of the tab ----

function build(place) {
  const parts = (state.parts = {
    case: element(
      "select",
      { id: "case" },
      ...state.cases.map((one) => element("option", { value: one.id }, one.name)),
    ),
    axis: element("select", { id: "axis" }),
    class: element("select", { id: "class" }),
    softener: element(
      "select",
      { id: "softener" },
      ...Object.entries(SOFTENERS).map(([value, words]) => element("option", { value }, words)),
    ),
    slice: range(
      "Slice",
      { min: 0, max: 0, value: 0 },
      (value) => `${value + 1} of ${Number(state.parts?.slice.input.max ?? 0) + 1}`,
    ),
    size: range("Superpixel size", { min: -12, max: 20, value: 0 }, () =>
      state.detail ? mmText(sizeMm()) : "",
    ),
    compactness: range("Compactness", { min: -20, max: 20, value: 0 }, () =>
      state.detail ? String(Number(compactness().toPrecision(2))) : "",
    ),
    sentence: element("p", { class: "sentence", id: "sentence", "aria-live": "polite" }),
    readout: element(
      "p",
      { class: "readout small" },
      "Point at a pixel, or move with the arrow keys in a picture, to read its values.",
    ),
    error: element("p", { class: "error", role: "alert", hidden: true }),
    zoom: element("button", { type: "button", id: "zoom", click: toggleZoom }, "Show the whole plane"),
    reset: element("button", { type: "button", id: "defaults", click: setDefaults }, "Usual settings"),
  });
  const step = (by) =>
    element(
      "button",
      { type: "button", "aria-label": by < 0 ? "Previous case" : "Next case", click: () => stepCase(by) },
      by < 0 ? "◂" : "▸",
    );
  place.replaceChildren(
    element(
      "section",
      { "aria-label": "What is shown" },
      element(
        "div",
        { class: "bar" },
        element("div", { class: "case" }, field("Training case", parts.case), step(-1), step(1)),
        (parts.axisField = field("Plane", parts.axis)),
        parts.slice.row,
        field("Class", parts.class),
        parts.zoom,
      ),
    ),
    element(
      "section",
      { "aria-label": "How labels are softened" },
      element(
        "div",
        { class: "bar" },
        field("Softener", parts.softener),
        parts.size.row,
        parts.compactness.row,
        parts.reset,
      ),
    ),
    element(
      "section",
      { "aria-label": "Pictures" },
      parts.sentence,
      parts.error,
      element("div", { class: "panels" }, ...panels()),
      parts.readout,
    ),
    element(
      "section",
      { "aria-labelledby": "help-heading" },
      element("h2", { id: "help-heading" }, "What the settings do"),
      element(
        "dl",
        { class: "help" },
        ...HELP.flatMap(([term, words]) => [element("dt", {}, term), element("dd", {}, words)]),
      ),
    ),
  );
  parts.case.addEventListener("change", () => openCase(parts.case.value));
  parts.axis.addEventListener("change", () => setAxis(Number(parts.axis.value)));
  parts.slice.input.addEventListener("input", () => {
    state.index = Number(parts.slice.input.value);
    refresh(["image", "hard", "superpixels", "soft"]);
  });
  parts.class.addEventListener("change", () => refresh(["soft"]));
  parts.softener.addEventListener("change", () => refresh(["superpixels", "soft"]));
  parts.size.input.addEventListener("input", () => refresh(["superpixels", "soft"]));
  parts.compactness.input.addEventListener("input", () => refresh(["superpixels", "soft"]));
  new ResizeObserver(draw).observe(place);
}

function panels() {
  const titles = { image: "Image", superpixels: "Superpixels", hard: "Hard label", soft: "Soft label" };
  state.canvases = {};
  return Object.entries(titles).map(([what, title]) => {
    const canvas = element("canvas", { tabindex: "0", role: "img", "aria-label": title });
    canvas.addEventListener("pointermove", (event) => point(canvas, event));
    canvas.addEventListener("pointerleave", () => setPixel(null));
    canvas.addEventListener("keydown", movePixel);
    state.canvases[what] = canvas;
    const caption = element("figcaption", {}, NOTES[what]);
    if (what === "soft") {
      state.ramp = element("span", {});
      return element(
        "figure",
        {},
        element("h3", {}, title),
        canvas,
        element("div", { class: "ramp" }, "0", state.ramp, "1"),
        caption,
      );
    }
    return element("figure", {}, element("h3", {}, title), canvas, caption);
  });
}

// ---- settings ----

/** Sliders are even in ratios, with the usual setting at 0: eight steps double a superpixel's edge. */
function sizeMm() {
  return state.detail.defaults.size * 2 ** (Number(state.parts.size.input.value) / 8);
}

/** Ten steps weigh closeness ten times as much. */
function compactness() {
  return state.detail.defaults.compactness * 10 ** (Number(state.parts.compactness.input.value) / 10);
}

function setDefaults() {
  useDefaults();
  refresh(["superpixels", "soft"]);
}

function useDefaults() {
  const { parts } = state;
  parts.softener.value = "superpixel";
  parts.size.input.value = parts.compactness.input.value = "0";
  parts.size.tell();
  parts.compactness.tell();
}

function stepCase(by) {
  const i = state.cases.findIndex((one) => one.id === state.id) + by;
  const next = state.cases[(i + state.cases.length) % state.cases.length];
  state.parts.case.value = next.id;
  openCase(next.id);
}

async function openCase(id) {
  const { parts } = state;
  state.id = id;
  try {
    const detail = await getJson(`v1/cases/${encodeURIComponent(id)}`);
    if (state.id !== id) return;
    const isFirst = !state.detail;
    state.detail = detail;
    showError(parts.error, null);
    const chosen = parts.class.value;
    parts.class.replaceChildren(
      ...detail.classes.map((one) => element("option", { value: String(one.value) }, one.name)),
    );
    if (detail.classes.some((one) => String(one.value) === chosen)) parts.class.value = chosen;
    const isFlat = detail.shape.length === 2;
    parts.axis.replaceChildren(
      ...detail.shape.map((_, axis) => element("option", { value: String(axis) }, PLANES[axis])),
    );
    parts.axisField.hidden = parts.slice.row.hidden = isFlat;
    if (isFirst) {
      state.axis = isFlat ? 0 : coarsest(detail.spacing);
      useDefaults();
    }
    parts.axis.value = String(state.axis);
    setAxis(state.axis);
  } catch (error) {
    showError(parts.error, error);
  }
}

/** The axis with the coarsest spacing: the planes in between were drawn and looked at. */
function coarsest(spacing) {
  return spacing.indexOf(Math.max(...spacing));
}

function setAxis(axis) {
  const { parts, detail } = state;
  const n = detail.shape.length === 2 ? 1 : detail.shape[axis];
  state.axis = axis;
  state.index = n >> 1;
  state.view = null;
  state.planes = {};
  parts.slice.input.max = String(n - 1);
  parts.slice.input.value = String(state.index);
  parts.slice.tell();
  refresh(["image", "hard", "superpixels", "soft"]);
}

// ---- planes from the server ----

function planeAddress(what) {
  const { parts, id, axis, index } = state;
  const query = new URLSearchParams({ axis, index, what, class: parts.class.value });
  if (what === "superpixels" || what === "soft") {
    query.set("size", sizeMm().toPrecision(3));
    query.set("compactness", compactness().toPrecision(3));
    query.set("softener", parts.softener.value);
  }
  return `v1/cases/${encodeURIComponent(id)}/plane?${query}`;
}

/**
 * Fetch planes anew and draw them together when all are there.
 *
 * While the server computes, sliders may move on: then only what they say last is asked for next.
 */
async function refresh(whats) {
  whats.forEach((what) => state.wanted.add(what));
  if (state.isFetching) return;
  state.isFetching = true;
  const busy = setTimeout(() => byId("labels").classList.add("busy"), 300);
  try {
    while (state.wanted.size) {
      const asked = [...state.wanted];
      state.wanted = new Set();
      const planes = await Promise.all(asked.map(fetchPlane));
      asked.forEach((what, i) => {
        state.planes[what] = planes[i];
      });
      showError(state.parts.error, null);
      state.parts.sentence.textContent = sentence();
      draw();
    }
  } catch (error) {
    showError(state.parts.error, error);
  }
  clearTimeout(busy);
  byId("labels").classList.remove("busy");
  state.isFetching = false;
}

async function fetchPlane(what) {
  const { blob, headers } = await getPicture(planeAddress(what));
  const bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { width, height } = bitmap;
  const { data } = context.getImageData(0, 0, width, height);
  const share = headers.get("X-Softened-Share"),
    milliseconds = headers.get("X-Milliseconds");
  return {
    width,
    height,
    data,
    share: share && Number(share),
    milliseconds: milliseconds && Number(milliseconds),
  };
}

function usesSuperpixels() {
  return USES_SUPERPIXELS.includes(state.parts.softener.value);
}

function chosenClass() {
  return state.detail.classes.find((one) => String(one.value) === state.parts.class.value);
}

/** What one sees, in words. */
function sentence() {
  const { share, milliseconds } = state.planes.soft;
  const { parts, detail } = state;
  const what = detail.shape.length === 2 ? "picture" : "volume";
  const method = parts.softener.value;
  parts.size.input.disabled = parts.compactness.input.disabled = !usesSuperpixels();
  if (method === "none")
    return "Without softening, the label stays hard everywhere: the network is told that every boundary is certain.";
  const part = `${numberText(100 * share)} % of this ${what}`;
  const time =
    milliseconds === null
      ? ""
      : ` Computed in ${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms.`;
  if (usesSuperpixels()) {
    return `Superpixels of ${mmText(sizeMm())} cross the boundary in ${part}; there, the label became a probability.${time}`;
  }
  return `The rule “${method}” softens ${part}, whatever the image shows.${time}`;
}

// ---- drawing ----

/** Millimetres of a row and of a column of the plane. */
function pixelMm() {
  return state.detail.spacing.filter((_, axis) => state.detail.shape.length === 2 || axis !== state.axis);
}

function draw() {
  const { image, hard, superpixels, soft } = state.planes;
  if (!image || !hard || !superpixels || !soft) return;
  state.view ??= fittingView();
  const colour = colourParts(chosenClass()?.colour ?? "#f28e2b");
  state.ramp.style.background = `linear-gradient(90deg, black, rgb(${colour}))`;
  const boundary = edgesOf(hard, (i) => hard.data[4 * i]);
  paint("image", grey(image), []);
  const borders = { lines: edgesOf(superpixels, (i) => idOf(superpixels, i)), style: BORDER, width: 1 };
  const drawn = { lines: boundary, style: "white", width: 2 };
  paint("superpixels", tinted(image, soft), usesSuperpixels() ? [borders, drawn] : [drawn]);
  paint("hard", classes(hard), []);
  paint("soft", ramp(soft, colour), [{ lines: boundary, style: "rgba(255, 255, 255, 0.6)", width: 1 }]);
}

/** Superpixels come as numbers in red, green and blue; none has no opacity. */
function idOf({ data }, i) {
  return data[4 * i + 3] ? data[4 * i] + 256 * data[4 * i + 1] + 65536 * data[4 * i + 2] : -1;
}

function isSoftened(soft, i) {
  return soft.data[4 * i] > 0 && soft.data[4 * i] < 255;
}

function pixels({ width, height }, colourAt) {
  const picture = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) picture.data.set([...colourAt(i), 255], 4 * i);
  return picture;
}

function grey(image) {
  return pixels(image, (i) => [image.data[4 * i], image.data[4 * i + 1], image.data[4 * i + 2]]);
}

/** The image, yellow where the label was softened. */
function tinted(image, soft) {
  return pixels(image, (i) =>
    [0, 1, 2].map((part) => {
      const value = image.data[4 * i + part];
      return isSoftened(soft, i) ? 0.58 * value + 0.42 * UNCERTAIN[part] : 0.9 * value;
    }),
  );
}

function classes(hard) {
  const chosen = chosenClass()?.value;
  const colours = new Map(
    state.detail.classes.map((one) => [
      one.value,
      colourParts(one.colour).map((part) => (one.value === chosen ? part : 0.4 * part)),
    ]),
  );
  return pixels(hard, (i) => colours.get(hard.data[4 * i]) ?? [0, 0, 0]);
}

function ramp(soft, colour) {
  return pixels(soft, (i) => colour.map((part) => (part * soft.data[4 * i]) / 255));
}

function edgesOf({ width, height }, valueAt) {
  return edges(width, height, (x, y) => valueAt(x + width * y));
}

/** The part of the plane that is shown: around what is labelled, unless all is wanted. */
function fittingView() {
  const { hard } = state.planes;
  const { width, height } = hard;
  const whole = { x: 0, y: 0, width, height };
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let i = 0; i < width * height; i++) {
    if (!hard.data[4 * i]) continue;
    const x = i % width,
      y = Math.floor(i / width);
    [left, right, top, bottom] = [
      Math.min(left, x),
      Math.max(right, x),
      Math.min(top, y),
      Math.max(bottom, y),
    ];
  }
  if (state.isWhole || right < 0) return whole;
  const [rowMm, columnMm] = pixelMm();
  const side =
    1.5 * Math.max((right - left + 1) * columnMm, (bottom - top + 1) * rowMm, 12 * Math.min(rowMm, columnMm));
  const part = (low, high, n, mm) => {
    const size = Math.min(Math.round(side / mm), n);
    return [Math.min(Math.max(Math.round((low + high + 1 - size) / 2), 0), n - size), size];
  };
  const [x, w] = part(left, right, width, columnMm);
  const [y, h] = part(top, bottom, height, rowMm);
  return { x, y, width: w, height: h };
}

function toggleZoom() {
  state.isWhole = !state.isWhole;
  state.parts.zoom.textContent = state.isWhole ? "Zoom to the structures" : "Show the whole plane";
  state.view = null;
  draw();
}

function paint(what, picture, strokes) {
  const canvas = state.canvases[what];
  const { view } = state;
  const [rowMm, columnMm] = pixelMm();
  const shown = Math.max(canvas.clientWidth, 100);
  canvas.style.aspectRatio = `${view.width * columnMm} / ${view.height * rowMm}`;
  canvas.width = Math.round(shown * devicePixelRatio);
  const scaleX = canvas.width / view.width,
    scaleY = (scaleX * rowMm) / columnMm;
  canvas.height = Math.round(scaleY * view.height);
  const source = new OffscreenCanvas(picture.width, picture.height);
  source.getContext("2d").putImageData(picture, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.setTransform(scaleX, 0, 0, scaleY, -view.x * scaleX, -view.y * scaleY);
  context.drawImage(source, 0, 0);
  for (const { lines, style, width } of strokes) {
    const placed = new Path2D();
    placed.addPath(lines, context.getTransform());
    context.save();
    context.resetTransform();
    context.strokeStyle = style;
    context.lineWidth = width * devicePixelRatio;
    context.stroke(placed);
    context.restore();
  }
  if (state.pixel) {
    const { x, y } = state.pixel;
    context.resetTransform();
    context.strokeStyle = "#f2b06d";
    context.lineWidth = 2 * devicePixelRatio;
    context.strokeRect((x - view.x) * scaleX, (y - view.y) * scaleY, scaleX, scaleY);
  }
}

// ---- reading single pixels ----

function point(canvas, event) {
  const { view } = state;
  if (!view) return;
  const box = canvas.getBoundingClientRect();
  const at = (share, start, size) => start + Math.min(Math.max(Math.floor(share * size), 0), size - 1);
  setPixel({
    x: at((event.clientX - box.left) / box.width, view.x, view.width),
    y: at((event.clientY - box.top) / box.height, view.y, view.height),
  });
}

function movePixel(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const { view, pixel } = state;
  if (!step || !view) return;
  event.preventDefault();
  const from = pixel ?? { x: view.x + (view.width >> 1), y: view.y + (view.height >> 1) };
  setPixel({
    x: Math.min(Math.max(from.x + step[0], view.x), view.x + view.width - 1),
    y: Math.min(Math.max(from.y + step[1], view.y), view.y + view.height - 1),
  });
}

function setPixel(pixel) {
  if (state.pixel?.x === pixel?.x && state.pixel?.y === pixel?.y) return;
  state.pixel = pixel;
  draw();
  const { hard, soft } = state.planes;
  if (!pixel || !hard || !soft) return;
  const i = pixel.x + hard.width * pixel.y;
  const name = state.detail.classes.find((one) => one.value === hard.data[4 * i])?.name ?? "background";
  const probability = soft.data[4 * i] / 255;
  const words = isSoftened(soft, i) ? "softened" : "hard";
  state.parts.readout.textContent = `Row ${pixel.y + 1}, column ${pixel.x + 1}: drawn as ${name}; probability of ${chosenClass()?.name} ${probability.toFixed(2)} (${words}).`;
}
