// Thin lines over the planes, sharp at any size: contours of probability, borders of superpixels
// and of a reference.

import { BAND, UNCERTAIN, colourParts } from "./structures.js";
import { voxelAt } from "./volumes.js";

const BORDER = "rgba(255, 255, 255, 0.5)";
// For each plane of NiiVue (axial, coronal, sagittal): the axes to the right, up and across.
const AXES = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 2, 0],
];
// Marching squares: which sides of a square a contour joins, by which of its corners are inside.
// Corners count 1, 2, 4, 8 from the lower left against the clock; sides are 0 lower, 1 right, 2 upper, 3 left.
const JOINED = [
  [],
  [[3, 0]],
  [[0, 1]],
  [[3, 1]],
  [[1, 2]],
  [
    [3, 2],
    [0, 1],
  ],
  [[0, 2]],
  [[3, 2]],
  [[2, 3]],
  [[2, 0]],
  [
    [0, 3],
    [1, 2],
  ],
  [[2, 1]],
  [[1, 3]],
  [[1, 0]],
  [[0, 3]],
  [],
];

/** Draw all lines of a viewer over its planes. */
export function drawLines(viewer) {
  const { lines, planes, nv, structures, look } = viewer;
  if (lines.width !== planes.width) lines.width = planes.width;
  if (lines.height !== planes.height) lines.height = planes.height;
  const context = lines.getContext("2d");
  context.clearRect(0, 0, lines.width, lines.height);
  const ratio = planes.width / Math.max(planes.clientWidth, 1);
  for (const tile of nv.screenSlices) {
    if (tile.axCorSag > 2) continue;
    const plane = planeOf(viewer, tile);
    context.save();
    context.beginPath();
    context.rect(...tile.leftTopWidthHeight.slice(0, 4));
    context.clip();
    for (const [volume, colour, width] of [
      [viewer.superpixels, BORDER, 1],
      [viewer.reference, "white", 1.5],
    ]) {
      if (!volume) continue;
      const path = edges(plane.width, plane.height, (x, y) => volume.data[plane.at(x, y)]);
      stroke(context, plane, path, colour, width * ratio);
    }
    viewer.classes.forEach((one, k) => {
      if (look.hidden.has(one.value)) return;
      const wanted = [];
      if (look.band) wanted.push(...BAND.map((level) => [level, `rgb(${UNCERTAIN})`, 1]));
      if (look.mode === "threshold") wanted.push([look.threshold, `rgb(${colourParts(one.colour)})`, 2]);
      for (const [level, colour, width] of wanted) {
        if (structures.probabilities[k]) {
          stroke(context, plane, contour(plane, structures, k, 255 * level), colour, width * ratio);
        }
      }
    });
    context.restore();
  }
}

/** Where a plane lies in the volume and on the canvas. Its axes count voxels to the right and up. */
function planeOf({ nv, image }, tile) {
  const volume = nv.volumes[0];
  const [across, up, through] = AXES[tile.axCorSag];
  const dims = volume.dimsRAS.slice(1, 4);
  const index = Math.min(Math.max(Math.floor(tile.sliceFrac * dims[through]), 0), dims[through] - 1);
  const { img2RASstart: start, img2RASstep: step } = volume;
  const first = start[0] + start[1] + start[2] + index * step[through];
  const low = nv.frac2mm([0, 0, 0], 0, nv.opts.isSliceMM),
    high = nv.frac2mm([1, 1, 1], 0, nv.opts.isSliceMM);
  const [left, top, width, height] = tile.leftTopWidthHeight;
  const scaleX = width / tile.fovMM[0],
    scaleY = -height / tile.fovMM[1];
  const mmX = (high[across] - low[across]) / dims[across],
    mmY = (high[up] - low[up]) / dims[up];
  return {
    width: dims[across],
    height: dims[up],
    at: (x, y) => first + x * step[across] + y * step[up],
    volumeDims: image.dims,
    onCanvas: new DOMMatrix([
      mmX * scaleX,
      0,
      0,
      mmY * scaleY,
      left + (low[across] - tile.leftTopMM[0]) * scaleX,
      top + height + (low[up] - tile.leftTopMM[1]) * scaleY,
    ]),
  };
}

function stroke(context, plane, path, colour, width) {
  const placed = new Path2D();
  placed.addPath(path, plane.onCanvas);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(placed);
}

/** Lines between neighbours whose values differ. */
export function edges(width, height, valueAt) {
  const path = new Path2D();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = valueAt(x, y);
      if (x + 1 < width && here !== valueAt(x + 1, y)) {
        path.moveTo(x + 1, y);
        path.lineTo(x + 1, y + 1);
      }
      if (y + 1 < height && here !== valueAt(x, y + 1)) {
        path.moveTo(x, y + 1);
        path.lineTo(x + 1, y + 1);
      }
    }
  }
  return path;
}

/** The line on which a class has a probability, between the middles of voxels. */
function contour({ width, height, at, volumeDims }, structures, k, level) {
  const data = structures.probabilities[k];
  const values = new Float32Array((width + 2) * (height + 2));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const place = structures.placeOf(...voxelAt(at(x, y), volumeDims));
      if (place >= 0) values[x + 1 + (width + 2) * (y + 1)] = data[place];
    }
  }
  return marched(values, width + 2, height + 2, level);
}

function marched(values, width, height, level) {
  const path = new Path2D();
  // A part of the way, from the inside to the outside of the contour; half a voxel is its middle.
  const between = (a, b) => (level - a) / (b - a);
  for (let y = 0; y + 1 < height; y++) {
    for (let x = 0; x + 1 < width; x++) {
      const i = x + width * y;
      const [a, b, c, d] = [values[i], values[i + 1], values[i + 1 + width], values[i + width]];
      const inside = (a >= level) + 2 * (b >= level) + 4 * (c >= level) + 8 * (d >= level);
      if (inside === 0 || inside === 15) continue;
      const side = [
        () => [x + between(a, b), y],
        () => [x + 1, y + between(b, c)],
        () => [x + between(d, c), y + 1],
        () => [x, y + between(a, d)],
      ];
      for (const [from, to] of JOINED[inside]) {
        const [x1, y1] = side[from](),
          [x2, y2] = side[to]();
        // The values have a margin of one voxel, and lie in the middles of voxels.
        path.moveTo(x1 - 0.5, y1 - 0.5);
        path.lineTo(x2 - 0.5, y2 - 0.5);
      }
    }
  }
  return path;
}
