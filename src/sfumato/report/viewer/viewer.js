// Shows an image with what a model made of it: three planes and 3-D, or one picture. Drawn by NiiVue.

import { element } from "./elements.js";
import { drawLines } from "./lines.js";
import { Structures, colourTable } from "./structures.js";
import { RGBA32, asPicture, spacingOf, voxelAt, writeVolume } from "./volumes.js";

const BACKGROUND = [0x14 / 255, 0x18 / 255, 0x1c / 255, 1];
const SAGITTAL = 2,
  CORONAL = 1,
  AXIAL = 0,
  RENDER = 4;
const PLANES = ["Sagittal", "Coronal", "Axial"];

// As the axial plane shows them: to the right is to the patient's left.
const MOVES = {
  ArrowLeft: [0, 1],
  ArrowRight: [0, -1],
  ArrowUp: [1, 1],
  ArrowDown: [1, -1],
  PageUp: [2, 1],
  PageDown: [2, -1],
};
const TURNS = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, 10], ArrowDown: [0, -10] };

function hasGraphics() {
  const context = document.createElement("canvas").getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}

/** One viewer in one element of the page. */
export class Viewer {
  /**
   * @param root An empty element that the viewer fills.
   * @param niivue What NiiVue's bundle defines.
   */
  constructor(root, niivue) {
    this.niivue = niivue;
    this.root = root;
    this.look = { mode: "label", threshold: 0.5, opacity: 0.5, band: false, hidden: new Set() };
    this.planes = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Image in planes. Arrow keys, page up and page down move the cross.",
    });
    this.solid = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Structures in 3-D. Arrow keys turn them.",
    });
    this.names = PLANES.map((name) => element("span", { class: `pane ${name.toLowerCase()}` }, name));
    this.names.push(element("span", { class: "pane render" }, "3-D, drag to turn"));
    const panes = [this.planes, this.solid].map((canvas) => element("div", { class: "canvas" }, canvas));
    this.lines = element("canvas", { class: "lines", "aria-hidden": "true" });
    this.stage = element("div", { class: "stage" }, ...panes, this.lines, ...this.names);
    this.stage.addEventListener("keydown", (event) => this.press(event), true);
    this.sliders = PLANES.map((name, axis) => this.slider(name, axis));
    this.slices = element("div", { class: "slices" }, ...this.sliders.map((one) => one.row));
    this.readout = element("p", { class: "readout", "aria-live": "off" });
    root.classList.add("viewer");
    root.replaceChildren(this.stage, this.slices, this.readout);
  }

  slider(name, axis) {
    const input = element("input", { type: "range", min: "0", step: "1" });
    const output = element("output", {});
    const label = element("span", {}, name);
    input.addEventListener("input", () => this.moveTo(axis, Number(input.value)));
    return { input, output, row: element("label", {}, label, input, output) };
  }

  /** Show an image, and what a model made of it. Volumes are those of `readVolume`. */
  async show({ image, label, probabilities = [], classes, isFlat, isPlaced = true }) {
    this.isFlat = isFlat;
    this.isPlaced = isPlaced && !isFlat;
    if (!hasGraphics()) {
      throw new Error("This browser cannot show volumes, because WebGL 2 is switched off in it.");
    }
    this.classes = classes;
    this.image = isFlat ? asPicture(image) : image;
    const turned = (volume) => (isFlat ? asPicture(volume) : volume);
    this.structures = new Structures(turned(label), probabilities.map(turned), classes);
    this.spacing = spacingOf(this.image.affine);
    this.root.classList.toggle("flat", isFlat);
    this.root.classList.toggle("unplaced", !this.isPlaced);
    this.fitStage();
    await this.openCanvases();
    const shown = await this.volumeOf(this.image, "image.nii", "gray");
    this.overlay = await this.painted("structures.nii");
    this.nv.addVolume(shown);
    this.nv.addVolume(this.overlay);
    if (isFlat) this.nv.setSliceType(AXIAL);
    else {
      this.nv.setCustomLayout([
        { sliceType: AXIAL, position: [0, 0, 0.5, 0.5] },
        { sliceType: CORONAL, position: [0.5, 0, 0.5, 0.5] },
        { sliceType: SAGITTAL, position: [0, 0.5, 0.5, 0.5] },
      ]);
      this.shape3d = await this.painted("structures.nii");
      this.nv3d.addVolume(this.shape3d);
      this.nv3d.setSliceType(RENDER);
      await this.nv3d.setVolumeRenderIllumination(0.6);
      this.nv3d.setRenderAzimuthElevation(120, 15);
    }
    this.paint();
    this.setUpSliders();
    this.goToMiddle();
  }

  /** A flat image has one pane of its own shape. */
  fitStage() {
    const [width, height] = this.image.dims;
    const [columnMm, rowMm] = this.spacing;
    this.stage.style.aspectRatio = this.isFlat ? `${width * columnMm} / ${height * rowMm}` : "";
  }

  async openCanvases() {
    const options = {
      backColor: BACKGROUND,
      crosshairColor: [0.95, 0.69, 0.43, 0.8],
      crosshairWidth: this.isFlat ? 0.12 : 0.25,
      crosshairWidthUnit: "percent",
      show3Dcrosshair: false,
      isOrientationTextVisible: this.isPlaced,
      fontColor: [0.75, 0.78, 0.82, 1],
      fontSizeScaling: 0.3,
      dragAndDropEnabled: false,
      isColorbar: false,
      isRadiologicalConvention: !this.isFlat,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      loadingText: "",
      cycleClipPlaneHotKey: "",
      scrollRequiresFocus: true,
      logLevel: "error",
      isNearestInterpolation: false,
      tileMargin: 0,
      sagittalNoseLeft: true,
    };
    this.nv = new this.niivue.Niivue(options);
    await this.nv.attachToCanvas(this.planes, false);
    this.nv.onLocationChange = (where) => this.say(where);
    this.drawLinesToo();
    if (this.isFlat) return;
    this.nv3d = new this.niivue.Niivue(options);
    await this.nv3d.attachToCanvas(this.solid, true);
  }

  volumeOf(volume, name, colormap) {
    return this.niivue.NVImage.new(writeVolume(volume), name, colormap, 1);
  }

  /** A volume of colours over the structures' box. */
  painted(name) {
    const { box, affine, label } = this.structures;
    const data = new Uint8Array(4 * label.length);
    return this.volumeOf({ dims: box.size, type: RGBA32, data, affine }, name, "gray");
  }

  /** Change how structures are shown; what is not given stays. */
  set(look) {
    Object.assign(this.look, look);
    if (!this.pending && this.overlay) {
      this.pending = requestAnimationFrame(() => {
        this.pending = null;
        this.paint();
      });
    }
  }

  paint() {
    const { byLabel, byProbability } = this.structures;
    const codes = this.look.mode === "label" ? byLabel : byProbability;
    const fill = (volume, isSolid) => {
      const table = colourTable(this.classes, this.look, isSolid);
      const pixels = new Uint32Array(volume.img.buffer, volume.img.byteOffset, codes.length);
      for (let i = 0; i < codes.length; i++) pixels[i] = table[codes[i]];
    };
    fill(this.overlay, false);
    this.nv.updateGLVolume();
    if (this.shape3d) {
      fill(this.shape3d, true);
      this.nv3d.updateGLVolume();
    }
  }

  /** Show borders of superpixels, given as a volume of their numbers; null shows none. */
  showSuperpixels(volume) {
    this.superpixels = volume && this.isFlat ? asPicture(volume) : volume;
    this.nv.drawScene();
  }

  /** Show another image on the same grid, such as another channel. */
  async showImage(image) {
    this.image = this.isFlat ? asPicture(image) : image;
    const shown = await this.volumeOf(this.image, "image.nii", "gray");
    const old = this.nv.volumes[0];
    this.nv.addVolume(shown);
    this.nv.setVolume(shown, 0);
    this.nv.removeVolume(old);
  }

  /** Show where the structures of a reference end; null shows none. */
  showReference(volume) {
    this.reference = volume && this.isFlat ? asPicture(volume) : volume;
    this.nv.drawScene();
  }

  /** Lines are drawn over what NiiVue draws, each time it draws. */
  drawLinesToo() {
    const drawScene = this.nv.drawScene.bind(this.nv);
    this.nv.drawScene = () => {
      const answer = drawScene();
      drawLines(this);
      return answer;
    };
  }

  setUpSliders() {
    this.slices.hidden = this.isFlat;
    const dims = this.nv.volumes[0].dimsRAS;
    this.sliders.forEach(({ input }, axis) => {
      input.max = dims[axis + 1] - 1;
    });
  }

  /** Begin within a structure, as near to the middle of all as there is one. */
  goToMiddle() {
    const voxel = this.structures.middle();
    this.patientAxes().forEach(({ axis, isFlipped }, i) => {
      const n = this.image.dims[axis];
      this.nv.scene.crosshairPos[i] = ((isFlipped ? n - 1 - voxel[axis] : voxel[axis]) + 0.5) / n;
    });
    this.moved();
  }

  /** For each patient axis (right, anterior, superior) the axis of the volume along it. */
  patientAxes() {
    const { dims } = this.image;
    const strides = [1, dims[0], dims[0] * dims[1]];
    const free = new Set([0, 1, 2]);
    return this.nv.volumes[0].img2RASstep.map((step) => {
      const axis = [...free].find((one) => strides[one] === Math.abs(step));
      free.delete(axis);
      return { axis, isFlipped: step < 0 };
    });
  }

  /** The voxel under the cross. */
  voxel() {
    const { dimsRAS, img2RASstart, img2RASstep } = this.nv.volumes[0];
    const place = [0, 1, 2].reduce((sum, axis) => {
      const n = dimsRAS[axis + 1];
      const index = Math.min(Math.max(Math.floor(this.nv.scene.crosshairPos[axis] * n), 0), n - 1);
      return sum + img2RASstart[axis] + index * img2RASstep[axis];
    }, 0);
    return voxelAt(place, this.image.dims);
  }

  /** Obey a key; NiiVue's own keys, which nobody expects on a page, do nothing. */
  press(event) {
    if (event.key !== "Tab") event.stopPropagation();
    const turn = TURNS[event.key];
    const isIn3d = event.target === this.solid;
    if (isIn3d ? !turn : !MOVES[event.key]) return;
    event.preventDefault();
    if (isIn3d) {
      const { renderAzimuth, renderElevation } = this.nv3d.scene;
      this.nv3d.setRenderAzimuthElevation(renderAzimuth + turn[0], renderElevation + turn[1]);
    } else {
      const [axis, towards] = MOVES[event.key];
      // A picture is not mirrored as a patient is who is seen from the feet.
      const step = this.isFlat && axis === 0 ? -towards : towards;
      const { input } = this.sliders[axis];
      this.moveTo(axis, Math.min(Math.max(Number(input.value) + step, 0), Number(input.max)));
    }
  }

  moveTo(axis, index) {
    this.nv.scene.crosshairPos[axis] = (index + 0.5) / this.nv.volumes[0].dimsRAS[axis + 1];
    this.moved();
  }

  moved() {
    this.nv.createOnLocationChange();
    this.nv.drawScene();
  }

  /** Say in words what lies under the cross. */
  say(where) {
    const dims = this.nv.volumes[0].dimsRAS;
    this.sliders.forEach(({ input, output }, axis) => {
      const n = dims[axis + 1];
      const index = Math.min(Math.max(Math.floor(this.nv.scene.crosshairPos[axis] * n), 0), n - 1);
      input.value = index;
      output.textContent = `${index + 1} of ${n}`;
      input.setAttribute("aria-valuetext", output.textContent);
    });
    const voxel = this.voxel();
    const here = this.isFlat
      ? `Column ${voxel[0] + 1}, row ${this.image.dims[1] - voxel[1]}`
      : `At ${Array.from(where.mm)
          .slice(0, 3)
          .map((mm) => mm.toFixed(1))
          .join(", ")} mm`;
    const place = this.structures.placeOf(...voxel);
    const words = this.classes.flatMap((one, k) => {
      const data = this.structures.probabilities[k];
      return data ? `${one.name} ${Math.round((100 * (place < 0 ? 0 : data[place])) / 255)} %` : [];
    });
    this.readout.textContent = words.length ? `${here}: ${words.join(", ")}` : here;
  }

  /** Give the graphics memory back. */
  close() {
    for (const nv of [this.nv, this.nv3d]) {
      if (!nv) continue;
      nv.gl?.getExtension("WEBGL_lose_context")?.loseContext();
      nv.cleanup();
    }
    this.root.replaceChildren();
    this.root.classList.remove("viewer", "flat", "unplaced");
  }
}
