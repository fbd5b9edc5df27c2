// What a model made of an image, ready to be painted.
//
// A voxel is painted by one number, its code: class and probability together. What the sliders
// change is a table from codes to colours, so that a whole volume is painted anew at once.

import { spacingOf, voxelAt } from "./volumes.js";

export const UNCERTAIN = [240, 228, 66];
export const BAND = [0.1, 0.9];
const FILLED = 1 << 15;

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
  const low = [...dims],
    high = [-1, -1, -1];
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
    row[0],
    row[1],
    row[2],
    row[3] + start[0] * row[0] + start[1] * row[1] + start[2] * row[2],
  ]);
}

/** A label and the probabilities of its classes, within the box that holds them. */
export class Structures {
  constructor(label, probabilities, classes) {
    this.classes = classes;
    this.dims = label.dims;
    this.voxelMm = spacingOf(label.affine);
    const bytes = probabilities.map(inBytes);
    this.box = boxOf(label.dims, [
      { data: label.data, least: 1 },
      ...bytes.map((data) => ({ data, least: 3 })),
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
      let best = 0,
        highest = 0;
      this.probabilities.forEach((data, k) => {
        if (data[i] > highest) [best, highest] = [k, data[i]];
      });
      this.byProbability[i] = (best << 8) | highest;
      const k = indexOf.get(this.label[i]);
      if (k === undefined) this.byLabel[i] = this.byProbability[i];
      else this.byLabel[i] = FILLED | (k << 8) | (this.probabilities[k]?.[i] ?? 255);
    }
  }

  /** Cubic millimetres of a class where its probability is at least a threshold; mm² if flat. */
  sizeAt(k, threshold) {
    return this.reaching[k][Math.ceil(255 * threshold)] * this.voxelMm.reduce((a, b) => a * b, 1);
  }

  /** The voxel of a structure that is nearest to the middle of all of them. */
  middle() {
    const where = (i) => voxelAt(i, this.box.size);
    const sum = [0, 0, 0];
    let n = 0;
    this.byLabel.forEach((code, i) => {
      if (code < FILLED) return;
      n += 1;
      where(i).forEach((at, axis) => {
        sum[axis] += at;
      });
    });
    const centre = n ? sum.map((total) => total / n) : this.box.size.map((size) => (size - 1) / 2);
    let [best, least] = [centre.map(Math.floor), Infinity];
    this.byLabel.forEach((code, i) => {
      if (code < FILLED) return;
      const at = where(i);
      const far = at.reduce(
        (total, one, axis) => total + ((one - centre[axis]) * this.voxelMm[axis]) ** 2,
        0,
      );
      if (far < least) [best, least] = [at, far];
    });
    return best.map((at, axis) => at + this.box.start[axis]);
  }

  /** The place within the box of a voxel of the whole image; -1 outside. */
  placeOf(column, row, slice) {
    const [width, height, depth] = this.box.size;
    const x = column - this.box.start[0],
      y = row - this.box.start[1],
      z = slice - this.box.start[2];
    if (x < 0 || y < 0 || z < 0 || x >= width || y >= height || z >= depth) return -1;
    return x + width * (y + height * z);
  }
}

/** The table from codes to colours; `isSolid` for the 3-D view, where light does the shading. */
export function colourTable(classes, look, isSolid) {
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
