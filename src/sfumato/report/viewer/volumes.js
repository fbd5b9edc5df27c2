// Reads and writes volumes: NIfTI-1, as far as sfumato writes it and NiiVue takes it.

export const RGB24 = 128;
export const RGBA32 = 2304;
const TYPES = {
  2: Uint8Array,
  4: Int16Array,
  8: Int32Array,
  16: Float32Array,
  64: Float64Array,
  256: Int8Array,
  512: Uint16Array,
  768: Uint32Array,
  [RGB24]: Uint8Array,
  [RGBA32]: Uint8Array,
};

/** How many numbers a voxel has. */
function partsOf(type) {
  return { [RGB24]: 3, [RGBA32]: 4 }[type] ?? 1;
}

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
  const parts = partsOf(type);
  const size = dims.reduce((a, b) => a * b, parts) * TYPES[type].BYTES_PER_ELEMENT;
  const data = new TYPES[type](buffer.slice(start, start + size));
  const affine =
    view.getInt16(254, true) > 0
      ? [0, 1, 2].map((row) => [0, 1, 2, 3].map((i) => view.getFloat32(280 + 16 * row + 4 * i, true)))
      : [0, 1, 2].map((row) =>
          [0, 1, 2, 3].map((i) => (i === row ? view.getFloat32(80 + 4 * row, true) : 0)),
        );
  // Slope 0 and NaN both mean that none is given.
  const slope = view.getFloat32(112, true) || 1;
  const offset = view.getFloat32(116, true) || 0;
  return { dims: dims.slice(0, 3), frames: dims[3], type, data, affine, slope, offset };
}

/** Write a volume as NIfTI-1, as NiiVue takes it. */
export function writeVolume({ dims, type, data, affine, slope = 1, offset = 0 }) {
  const buffer = new ArrayBuffer(352 + data.byteLength);
  const view = new DataView(buffer);
  const parts = partsOf(type);
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

export function spacingOf(affine) {
  return [0, 1, 2].map((i) => Math.hypot(affine[0][i], affine[1][i], affine[2][i]));
}

/** Make one image in colours of its red, green and blue, each from 0 to 255. */
export function inColour(channels) {
  const [red] = channels;
  const data = new Uint8ClampedArray(3 * red.data.length);
  channels.forEach((channel, part) =>
    channel.data.forEach((value, i) => {
      data[3 * i + part] = value;
    }),
  );
  return { ...red, type: RGB24, data: new Uint8Array(data.buffer), slope: 1, offset: 0 };
}

/** The voxel that has a place in the data of a volume. */
export function voxelAt(place, [columns, rows]) {
  return [place % columns, Math.floor(place / columns) % rows, Math.floor(place / columns / rows)];
}

/** Lay a flat image, stored as (row, column), the way a picture lies: rows run down. */
export function asPicture(volume) {
  const [height, width] = volume.dims;
  const parts = partsOf(volume.type);
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
  const affine = [
    [columnMm, 0, 0, 0],
    [0, rowMm, 0, 0],
    [0, 0, 1, 0],
  ];
  return { ...volume, dims: [width, height, 1], data, affine };
}
