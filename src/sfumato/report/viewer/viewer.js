// Shows an image with what a model made of it: three planes and 3-D, or one picture. Drawn by NiiVue.
//
// A voxel is painted by one number, its code: class and probability together. What the sliders
// change is a table from codes to colours, so that a whole volume is painted anew at once.

const UNCERTAIN = [240, 228, 66];
const BACKGROUND = [0x14 / 255, 0x18 / 255, 0x1c / 255, 1];
const BAND = [0.1, 0.9];
const FILLED = 1 << 15;
const SAGITTAL = 2, CORONAL = 1, AXIAL = 0, RENDER = 4;
const PLANES = ["Sagittal", "Coronal", "Axial"];
const RGB24 = 128, RGBA32 = 2304;
const TYPES = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array,
  256: Int8Array, 512: Uint16Array, 768: Uint32Array, [RGB24]: Uint8Array, [RGBA32]: Uint8Array,
};

/** Undo gzip where a file is packed. */
export async function unpack(buffer) {
  const head = new Uint8Array(buffer, 0, 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return buffer;
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Read a NIfTI-1 file as sfumato writes it: little-endian, with an affine. */
export async function readVolume(packed) {
  const buffer = await unpack(packed);
  const view = new DataView(buffer);
  if (buffer.byteLength < 352 || view.getInt32(0, true) !== 348) {
    throw new Error("The server's answer is no NIfTI file.");
  }
  const dim = Array.from({ length: 8 }, (_, i) => view.getInt16(40 + 2 * i, true));
  const dims = [1, 2, 3, 4].map((i) => (i <= dim[0] ? Math.max(dim[i], 1) : 1));
  const type = view.getInt16(70, true);
  if (!TYPES[type]) throw new Error(`NIfTI type ${type} cannot be shown.`);
  const start = view.getFloat32(108, true);
  const parts = { [RGB24]: 3, [RGBA32]: 4 }[type] ?? 1;
  const size = dims.reduce((a, b) => a * b, parts) * TYPES[type].BYTES_PER_ELEMENT;
  const data = new TYPES[type](buffer.slice(start, start + size));
  const affine = view.getInt16(254, true) > 0
    ? [0, 1, 2].map((row) => [0, 1, 2, 3].map((i) => view.getFloat32(280 + 16 * row + 4 * i, true)))
    : [0, 1, 2].map((row) => [0, 1, 2, 3].map((i) => (i === row ? view.getFloat32(80 + 4 * row, true) : 0)));
  // Slope 0 and NaN both mean that none is given.
  const slope = view.getFloat32(112, true) || 1;
  const offset = view.getFloat32(116, true) || 0;
  return { dims: dims.slice(0, 3), frames: dims[3], type, data, affine, slope, offset };
}

/** Write a volume as NIfTI-1, as NiiVue takes it. */
function writeVolume({ dims, type, data, affine, slope = 1, offset = 0 }) {
  const buffer = new ArrayBuffer(352 + data.byteLength);
  const view = new DataView(buffer);
  const parts = { [RGB24]: 3, [RGBA32]: 4 }[type] ?? 1;
  view.setInt32(0, 348, true);
  [3, ...dims, 1, 1, 1, 1].forEach((n, i) => view.setInt16(40 + 2 * i, n, true));
  view.setInt16(70, type, true);
  view.setInt16(72, 8 * parts * data.BYTES_PER_ELEMENT, true);
  const steps = spacingOf(affine);
  [1, ...steps, 1, 1, 1, 1].forEach((mm, i) => view.setFloat32(76 + 4 * i, mm, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, slope, true);
  view.setFloat32(116, offset, true);
  view.setUint8(123, 2); // millimetres
  view.setInt16(254, 1, true);
  affine.flat().forEach((value, i) => view.setFloat32(280 + 4 * i, value, true));
  [0x6e, 0x2b, 0x31, 0].forEach((byte, i) => view.setUint8(344 + i, byte));
  new Uint8Array(buffer, 352).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return buffer;
}

function spacingOf(affine) {
  return [0, 1, 2].map((i) => Math.hypot(affine[0][i], affine[1][i], affine[2][i]));
}

/** Lay a flat image, stored as (row, column), the way a picture lies: rows run down. */
function asPicture(volume) {
  const [height, width] = volume.dims;
  const parts = { [RGB24]: 3, [RGBA32]: 4 }[volume.type] ?? 1;
  const data = new volume.data.constructor(volume.data.length);
  const plane = width * height * parts;
  for (let frame = 0; frame < volume.frames; frame++) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const from = frame * plane + (row + height * column) * parts;
        const to = frame * plane + (column + width * (height - 1 - row)) * parts;
        for (let part = 0; part < parts; part++) data[to + part] = volume.data[from + part];
      }
    }
  }
  const [rowMm, columnMm] = spacingOf(volume.affine);
  const affine = [[columnMm, 0, 0, 0], [0, rowMm, 0, 0], [0, 0, 1, 0]];
  return { ...volume, dims: [width, height, 1], data, affine };
}

/** Return probabilities as bytes, a volume a frame. */
function inBytes(volume) {
  const { data, slope, offset } = volume;
  if (data instanceof Uint8Array && Math.abs(slope - 1 / 255) < 1e-5) return data;
  return Uint8Array.from(data, (value) => Math.round(255 * (value * slope + offset)));
}

export function colourParts(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

/** The part of the grid that holds structures, with a margin; the middle voxel if none does. */
function boxOf(dims, layers) {
  const low = [...dims], high = [-1, -1, -1];
  for (const { data, least } of layers) {
    for (let z = 0, i = 0; z < dims[2]; z++) {
      for (let y = 0; y < dims[1]; y++) {
        for (let x = 0; x < dims[0]; x++, i++) {
          if (data[i] < least) continue;
          if (x < low[0]) low[0] = x;
          if (x > high[0]) high[0] = x;
          if (y < low[1]) low[1] = y;
          if (y > high[1]) high[1] = y;
          if (z < low[2]) low[2] = z;
          if (z > high[2]) high[2] = z;
        }
      }
    }
  }
  if (high[0] < 0) return { start: dims.map((n) => n >> 1), size: [1, 1, 1] };
  const start = low.map((n) => Math.max(n - 2, 0));
  return { start, size: high.map((n, i) => Math.min(n + 3, dims[i]) - start[i]) };
}

function cut(data, dims, box) {
  const [width, height, depth] = box.size;
  const part = new data.constructor(width * height * depth);
  for (let z = 0, to = 0; z < depth; z++) {
    for (let y = 0; y < height; y++, to += width) {
      const from = box.start[0] + dims[0] * (box.start[1] + y + dims[1] * (box.start[2] + z));
      part.set(data.subarray(from, from + width), to);
    }
  }
  return part;
}

function boxAffine(affine, start) {
  return affine.map((row) => [
    row[0], row[1], row[2], row[3] + start[0] * row[0] + start[1] * row[1] + start[2] * row[2],
  ]);
}

/** What a model made of an image, within the box that holds it, ready to be painted. */
class Structures {
  constructor(label, probabilities, classes) {
    this.classes = classes;
    this.dims = label.dims;
    this.voxelMm = spacingOf(label.affine);
    const bytes = probabilities.map(inBytes);
    this.box = boxOf(label.dims, [
      { data: label.data, least: 1 }, ...bytes.map((data) => ({ data, least: 3 })),
    ]);
    this.affine = boxAffine(label.affine, this.box.start);
    this.probabilities = bytes.map((data) => cut(data, label.dims, this.box));
    this.label = cut(label.data, label.dims, this.box);
    this.encode();
  }

  /** Count how many voxels of each class reach each probability, and give every voxel its codes. */
  encode() {
    const n = this.label.length;
    this.byLabel = new Uint16Array(n);
    this.byProbability = new Uint16Array(n);
    const indexOf = new Map(this.classes.map((one, k) => [one.value, k]));
    this.reaching = this.probabilities.map((data) => {
      const counts = new Float64Array(257);
      for (let i = 0; i < n; i++) counts[data[i]]++;
      for (let step = 255; step >= 0; step--) counts[step] += counts[step + 1];
      return counts;
    });
    for (let i = 0; i < n; i++) {
      let best = 0, highest = 0;
      this.probabilities.forEach((data, k) => {
        if (data[i] > highest) [best, highest] = [k, data[i]];
      });
      this.byProbability[i] = (best << 8) | highest;
      const k = indexOf.get(this.label[i]);
      if (k === undefined) this.byLabel[i] = this.byProbability[i];
      else this.byLabel[i] = FILLED | (k << 8) | (this.probabilities[k]?.[i] ?? 255);
    }
  }

  /** Millilitres of a class where its probability is at least a threshold. */
  millilitresAt(k, threshold) {
    const voxel = this.voxelMm.reduce((a, b) => a * b, 1) / 1000;
    return this.reaching[k][Math.ceil(255 * threshold)] * voxel;
  }

  /** The voxel of a structure that is nearest to the middle of all of them. */
  middle() {
    const [width, height] = this.box.size;
    const where = (i) => [i % width, Math.floor(i / width) % height, Math.floor(i / width / height)];
    const sum = [0, 0, 0];
    let n = 0;
    this.byLabel.forEach((code, i) => {
      if (code < FILLED) return;
      n += 1;
      where(i).forEach((at, axis) => { sum[axis] += at; });
    });
    const centre = n ? sum.map((total) => total / n) : this.box.size.map((size) => (size - 1) / 2);
    let [best, least] = [centre.map(Math.floor), Infinity];
    this.byLabel.forEach((code, i) => {
      if (code < FILLED) return;
      const at = where(i);
      const far = at.reduce((total, one, axis) => total + ((one - centre[axis]) * this.voxelMm[axis]) ** 2, 0);
      if (far < least) [best, least] = [at, far];
    });
    return best.map((at, axis) => at + this.box.start[axis]);
  }

  /** The place within the box of a voxel of the whole image; -1 outside. */
  placeOf(voxel) {
    const [x, y, z] = voxel.map((n, i) => n - this.box.start[i]);
    const [width, height, depth] = this.box.size;
    if (x < 0 || y < 0 || z < 0 || x >= width || y >= height || z >= depth) return -1;
    return x + width * (y + height * z);
  }
}

/** The table from codes to colours; `isSolid` for the 3-D view, where light does the shading. */
function colourTable(classes, look, isSolid) {
  const table = new Uint8ClampedArray(4 * 2 * FILLED);
  const opacity = isSolid ? 1 : look.opacity;
  classes.forEach((one, k) => {
    const colour = colourParts(one.colour);
    for (let p = 0; p < 256; p++) {
      for (const filled of [0, FILLED]) {
        const at = 4 * (filled | (k << 8) | p);
        table.set([...colour, 0], at);
        if (look.hidden.has(one.value)) continue;
        const isIn = filled > 0 || (look.mode === "threshold" && p >= 255 * look.threshold);
        const isUncertain = look.band && p >= 255 * BAND[0] && p < 255 * BAND[1];
        let alpha = isIn ? opacity : 0;
        if (look.mode === "probability" && p >= 3) alpha = opacity * (p / 255);
        if (isUncertain && isSolid) {
          if (!isIn) table.set([...UNCERTAIN, 40], at);
          else table[at + 3] = 255;
        } else if (isUncertain) table.set([...UNCERTAIN, 255 * Math.max(look.opacity, 0.3)], at);
        else table[at + 3] = 255 * alpha;
      }
    }
  });
  return new Uint32Array(table.buffer);
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
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
      tabindex: "0", "aria-label": "Image in planes. Arrow keys and page up and down move the cross.",
    });
    this.solid = element("canvas", {
      tabindex: "0", "aria-label": "The structures in 3-D. Arrow keys turn them.",
    });
    this.names = PLANES.map((name) => element("span", { class: `pane ${name.toLowerCase()}` }, name));
    this.names.push(element("span", { class: "pane render" }, "3-D, drag to turn"));
    const panes = [this.planes, this.solid].map((canvas) => element("div", { class: "canvas" }, canvas));
    this.stage = element("div", { class: "stage" }, ...panes, ...this.names);
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
  async show({ image, label, probabilities = [], classes, isFlat }) {
    this.isFlat = isFlat;
    this.classes = classes;
    this.image = isFlat ? asPicture(image) : image;
    const turned = (volume) => (isFlat ? asPicture(volume) : volume);
    this.structures = new Structures(turned(label), probabilities.map(turned), classes);
    this.root.classList.toggle("flat", isFlat);
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
    const [columnMm, rowMm] = spacingOf(this.image.affine);
    this.stage.style.aspectRatio = this.isFlat ? `${width * columnMm} / ${height * rowMm}` : "";
  }

  async openCanvases() {
    const options = {
      backColor: BACKGROUND, crosshairColor: [0.95, 0.69, 0.43, 0.8], crosshairWidth: 0.25,
      crosshairWidthUnit: "percent", show3Dcrosshair: false, isOrientationTextVisible: !this.isFlat,
      fontColor: [0.75, 0.78, 0.82, 1], fontSizeScaling: 0.3, dragAndDropEnabled: false, isColorbar: false,
      isRadiologicalConvention: true, viewModeHotKey: "", clipPlaneHotKey: "", loadingText: "",
      cycleClipPlaneHotKey: "", scrollRequiresFocus: true, logLevel: "error", isNearestInterpolation: false,
      tileMargin: 0, sagittalNoseLeft: true,
    };
    this.nv = new this.niivue.Niivue(options);
    await this.nv.attachToCanvas(this.planes, false);
    this.nv.onLocationChange = (where) => this.say(where);
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

  /** Show borders of superpixels over the image, or none. */
  async showBorders(volume) {
    if (this.borders) this.nv.removeVolume(this.borders);
    this.borders = null;
    if (!volume) return;
    this.nv.addColormap("borders", { R: [255, 255], G: [255, 255], B: [255, 255], A: [0, 110], I: [0, 255] });
    const borders = await this.volumeOf(this.isFlat ? asPicture(volume) : volume, "borders.nii", "borders");
    [borders.cal_min, borders.cal_max] = [0, 1];
    this.nv.addVolume(borders);
    this.borders = borders;
  }

  setUpSliders() {
    this.slices.hidden = this.isFlat;
    const dims = this.nv.volumes[0].dimsRAS;
    this.sliders.forEach(({ input }, axis) => { input.max = dims[axis + 1] - 1; });
  }

  /** Begin within a structure, as near to the middle of all as there is one. */
  goToMiddle() {
    this.nv.scene.crosshairPos = this.nv.vox2frac(this.structures.middle(), 0);
    this.moved();
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
      const index = Math.min(Math.max(Math.round(this.nv.scene.crosshairPos[axis] * n - 0.5), 0), n - 1);
      input.value = index;
      output.textContent = `${index + 1} of ${n}`;
      input.setAttribute("aria-valuetext", output.textContent);
    });
    const place = this.structures.placeOf(Array.from(where.vox));
    const words = this.classes.map((one, k) => {
      const data = this.structures.probabilities[k];
      if (!data) return null;
      return `${one.name} ${Math.round((100 * (place < 0 ? 0 : data[place])) / 255)} %`;
    });
    const here = this.isFlat
      ? `Column ${where.vox[0] + 1}, row ${this.image.dims[1] - where.vox[1]}`
      : `At ${Array.from(where.mm).slice(0, 3).map((mm) => mm.toFixed(1)).join(", ")} mm`;
    this.readout.textContent = [`${here}:`, words.filter(Boolean).join(", ")].join(" ");
  }

  /** Give the graphics memory back. */
  close() {
    for (const nv of [this.nv, this.nv3d]) {
      if (!nv) continue;
      nv.gl?.getExtension("WEBGL_lose_context")?.loseContext();
      nv.cleanup();
    }
    this.root.replaceChildren();
    this.root.classList.remove("viewer", "flat");
  }
}
