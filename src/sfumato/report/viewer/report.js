// In a report: cases that the page holds are opened in the viewer when its reader asks for it.

import { buildLook, check } from "./controls.js";
import { element } from "./elements.js";
import { Viewer } from "./viewer.js";
import { RGB24, unpack } from "./volumes.js";

let niivue = null;

function packedBytes(node) {
  return Uint8Array.from(atob(node.textContent.trim()), (letter) => letter.charCodeAt(0)).buffer;
}

/** NiiVue lies packed in the page; it is unpacked once, when it is needed. */
function loadNiivue() {
  niivue ??= unpack(packedBytes(document.getElementById("niivue"))).then((buffer) => {
    document.head.append(element("script", {}, new TextDecoder().decode(buffer)));
    return window.niivue;
  });
  return niivue;
}

/** Take the bytes of a case apart: image, reference, segmentation, probabilities. */
function volumesOf(description, buffer) {
  const { dims, affine } = description;
  const n = dims.reduce((a, b) => a * b, 1);
  const nColours = description.isColour ? 3 : 1;
  const one = (data, type = 2, slope = 1) => ({ dims, frames: 1, type, data, affine, slope, offset: 0 });
  const part = (i) => new Uint8Array(buffer, (nColours + i) * n, n);
  const image = one(new Uint8Array(buffer, 0, nColours * n), description.isColour ? RGB24 : 2);
  return {
    image,
    reference: one(part(0)),
    label: one(part(1)),
    probabilities: description.hasProbabilities
      ? description.classes.map((_, k) => one(part(2 + k), 2, 1 / 255))
      : [],
  };
}

function legend(classes, viewer) {
  return element(
    "div",
    { class: "legend" },
    ...classes.map((one) => {
      const row = check(
        one.name,
        true,
        (on) => {
          const hidden = new Set(viewer.look.hidden);
          if (on) hidden.delete(one.value);
          else hidden.add(one.value);
          viewer.set({ hidden });
        },
        "class",
      );
      row.querySelector(".swatch").style.background = one.colour;
      return row;
    }),
  );
}

async function openCase(place) {
  const button = place.querySelector("button");
  const [description, content] = place.querySelectorAll("script");
  button.disabled = true;
  button.textContent = "Unpacking …";
  const stage = element("div", {}),
    controls = element("form", { class: "controls", "aria-label": "How it is shown" });
  try {
    const known = JSON.parse(description.textContent);
    const [bundle, buffer] = await Promise.all([loadNiivue(), unpack(packedBytes(content))]);
    const { reference, ...shown } = volumesOf(known, buffer);
    place.append(stage, controls);
    const viewer = new Viewer(stage, bundle);
    await viewer.show({ ...shown, ...known });
    viewer.showReference(reference);
    const outline = check("Reference, white line", true, (on) => viewer.showReference(on ? reference : null));
    controls.append(...buildLook(viewer, known.hasProbabilities), outline, legend(known.classes, viewer));
    button.remove();
    stage.querySelector("canvas").focus({ preventScroll: true });
  } catch (error) {
    stage.remove();
    controls.remove();
    button.replaceWith(
      element("p", { class: "error", role: "alert" }, `This case cannot be shown: ${error.message}`),
    );
  }
}

for (const place of document.querySelectorAll(".viewed")) {
  place.querySelector("button").addEventListener("click", () => openCase(place));
}
