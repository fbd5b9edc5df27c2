"""The definition of superpixels and soft labels once more, slow and plain, in NumPy alone.

The compiled core must agree with it: superpixels to the bit, soft labels to float32 accuracy.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

N_LEVELS = 4096
BAND = 3
N_TURNS = 3
NEIGHBOURS = list(product((-1, 0, 1), repeat=3))


@dataclass(frozen=True, kw_only=True)
class Definition:
    """How superpixels are made, see `native.Superpixels`."""

    low: list[float]
    gain: list[float]
    n_cells: list[int]
    weights: list[float]
    n_iterations: int
    shifts: np.ndarray | None = None
    is_photo: bool = False

    def cell_of(self, shape):
        """Return the cell of every element, axis by axis."""
        along = [cells_along(n, m) for n, m in zip(shape, self.n_cells, strict=True)]
        return np.stack(np.meshgrid(*along, indexing="ij"))

    def number(self, cell):
        """Return the place of a cell in the order of all cells."""
        return int(np.ravel_multi_index(cell, self.n_cells))

    def n_bits_dropped(self, shape):
        """Return by how many bits levels are coarser than 4096, so that float32 is exact."""
        cells = np.ceil(np.divide(shape, self.n_cells))
        n_channels = np.count_nonzero(self.gain)
        n_bits = 0
        while True:
            n_levels = N_LEVELS / 2**n_bits
            extents = cells * self.weights_of(n_bits) + 2
            if 3 * n_channels * n_levels**2 + 12 * (extents**2).sum() < 2**24:
                return n_bits
            n_bits += 1

    def weights_of(self, n_bits):
        """Return how many levels an element is along each axis."""
        return np.array(self.weights, np.float32).astype(float) / 2**n_bits

    def features_of(self, image):
        """Return the place and levels of every element, in whole numbers."""
        n_bits = self.n_bits_dropped(image.shape[1:])
        places = to_whole(np.indices(image.shape[1:]), self.weights_of(n_bits))
        return np.concatenate([places, self.levels_of(image) >> n_bits])

    def levels_of(self, image):
        """Return the intensities in 4096 steps."""
        column = (-1,) + (1,) * (image.ndim - 1)
        low, gain = (np.array(v, np.float32).reshape(column) for v in (self.low, self.gain))
        level = (image.astype(np.float32) - low) * gain + np.float32(0.5)
        return np.clip(level, 0, np.float32(N_LEVELS - 0.5)).astype(np.int64)


def cells_along(n, n_cells):
    """Return the cell of every element of an axis."""
    edges = [cell * n // n_cells for cell in range(n_cells + 1)]
    return np.repeat(np.arange(n_cells), np.diff(edges))


def slic(image, definition, has_seed, takes_part):
    """Return for every element the number of its centre's cell, or -1 where it takes no part."""
    cell_of = definition.cell_of(image.shape[1:])
    tiles = {
        cell: (cell_of == np.reshape(cell, (-1, 1, 1, 1))).all(axis=0)
        for cell in {tuple(cell) for cell in cell_of[:, has_seed].T.tolist()}
    }
    values = definition.features_of(image)
    n_bits = definition.n_bits_dropped(image.shape[1:])
    weights = definition.weights_of(n_bits)
    centres = {
        cell: first_centre(values, tile, cell, weights, definition) for cell, tile in tiles.items()
    }
    chosen = np.full(image.shape[1:], -1)
    for cell, tile in tiles.items():
        chosen[tile & takes_part] = definition.number(cell)
    for iteration in range(definition.n_iterations):
        if iteration > 0:
            move(centres, values, chosen, definition)
        for cell, tile in tiles.items():
            # Every third cell in turn, and all of them in the end.
            if iteration < definition.n_iterations - 1 and (sum(cell) - iteration) % N_TURNS:
                continue
            members = tile & takes_part
            chosen[members] = nearest(values[:, members], cell, centres, definition)
    return chosen


def to_whole(places, weights):
    """Return places in whole levels; halves are rounded up."""
    return np.floor((places.T * weights).T + 0.5).astype(np.int64)


def mean(values):
    """Return the mean along the last axis in whole numbers; halves are rounded up."""
    n = values.shape[-1]
    return (2 * values.sum(axis=-1) + n) // (2 * n)


def first_centre(values, tile, cell, weights, definition):
    places = np.argwhere(tile)
    place = (places.min(axis=0) + places.max(axis=0)) / 2
    if definition.shifts is not None:
        place = place + definition.shifts[definition.number(cell)].astype(float)
    return np.concatenate([to_whole(place, weights), mean(values[3:, tile])])


def move(centres, values, chosen, definition):
    for cell in centres:
        members = chosen == definition.number(cell)
        if members.any():
            centres[cell] = mean(values[:, members])


def nearest(values, cell, centres, definition):
    """Return the number of the nearest of the centres around a cell; of equals, the first."""
    least = np.full(values.shape[1], np.iinfo(np.int64).max)
    best = np.full(values.shape[1], definition.number(cell))
    for step in NEIGHBOURS:
        near = tuple(np.add(cell, step).tolist())
        if near not in centres:
            continue
        distance = ((values - centres[near][:, None]) ** 2).sum(axis=0)
        best[distance < least] = definition.number(near)
        least = np.minimum(distance, least)
    return best


def pieces_of(chosen):
    """Number connected elements of one centre in the order of their first elements; -1 stays."""
    piece = np.full(chosen.shape, -1)
    n = 0
    for start in np.argwhere(chosen >= 0).tolist():
        if piece[tuple(start)] >= 0:
            continue
        piece[tuple(start)] = n
        to_visit = [start]
        while to_visit:
            at = to_visit.pop()
            for axis, step in product(range(3), (-1, 1)):
                near = list(at)
                near[axis] += step
                if not 0 <= near[axis] < chosen.shape[axis]:
                    continue
                if chosen[tuple(near)] == chosen[tuple(at)] and piece[tuple(near)] < 0:
                    piece[tuple(near)] = n
                    to_visit.append(near)
        n += 1
    return piece


def connect(chosen, n_cells):
    """Let pieces smaller than a quarter of a cell join large ones, and number what is left."""
    piece = pieces_of(chosen)
    n_pieces = piece.max() + 1
    sizes = np.bincount(piece[piece >= 0], minlength=n_pieces)
    large = {p: p for p in range(n_pieces) if 4 * sizes[p] * np.prod(n_cells) >= chosen.size}
    contacts = []
    for axis in range(3):
        a = np.moveaxis(piece, axis, 0)[:-1].ravel()
        b = np.moveaxis(piece, axis, 0)[1:].ravel()
        contacts += [pair for pair in zip(a.tolist(), b.tolist(), strict=True) if min(pair) >= 0]
    while True:
        faces = {}
        for a, b in [*contacts, *[(b, a) for a, b in contacts]]:
            if a not in large and b in large:
                faces.setdefault(a, {}).setdefault(large[b], 0)
                faces[a][large[b]] += 1
        if not faces:
            break
        # Pieces are numbered by their first elements, so the lowest of equals starts first.
        large |= {a: min(n, key=lambda b: (-n[b], b)) for a, n in faces.items()}
    joined = np.array([large.get(p, p) for p in range(n_pieces)], int)
    superpixels = np.full(chosen.shape, -1)
    superpixels[piece >= 0] = joined[piece[piece >= 0]]
    names, first = np.unique(superpixels, return_index=True)
    order = [name for _, name in sorted(zip(first, names, strict=True)) if name >= 0]
    lookup = np.full(n_pieces + 1, -1)
    lookup[order] = np.arange(len(order))
    return lookup[superpixels]


def superpixels_of(image, definition, where=None):
    """Return the superpixels of a whole image; every cell has its seed, wanted or not."""
    everywhere = np.ones(image.shape[1:], bool)
    chosen = slic(image, definition, everywhere, everywhere if where is None else where)
    return connect(chosen, definition.n_cells)


def superpixels_near_boundary(image, label, definition):
    """Return the superpixels of the cells around a boundary, -1 elsewhere."""
    cell_of = definition.cell_of(label.shape)
    band = np.zeros(definition.n_cells, bool)
    for at in product(*map(range, label.shape)):
        for axis in range(3):
            near = list(at)
            near[axis] += 1
            if near[axis] == label.shape[axis] or label[at] == label[tuple(near)]:
                continue
            for element in (at, tuple(near)):
                cell = cell_of[(slice(None), *element)]
                band[tuple(slice(max(0, c - BAND), c + BAND + 1) for c in cell)] = True
    where = band[tuple(cell_of)]
    return connect(slic(image, definition, where, where), definition.n_cells)


def soften(label, superpixels, spacing, n_classes, scale_mm):
    """Return the probability of every class, from distances to all elements of other classes."""
    probability = np.stack([label == k for k in range(n_classes)]).astype(np.float32)
    places = {k: np.argwhere(label == k) for k in range(n_classes)}
    for superpixel in range(superpixels.max() + 1):
        classes = np.unique(label[superpixels == superpixel])
        if len(classes) < 2:
            continue
        for at in np.argwhere(superpixels == superpixel):
            distance = [distance_to(places[k], at, spacing) for k in range(n_classes)]
            own = label[tuple(at)]
            for k in classes:
                d = min(distance[:own] + distance[own + 1 :]) if k == own else -distance[k]
                probability[(k, *at)] = 0.5 * (d / (1 + abs(d / scale_mm)) / scale_mm + 1)
    return probability / probability.sum(axis=0)


def distance_to(places, at, spacing):
    away = (places - at) * np.array(spacing)
    return float(np.sqrt((away**2).sum(axis=1)).min(initial=np.inf))
