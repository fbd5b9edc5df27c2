"""Soft labels in few bytes, any part of which can be read alone.

What the method makes of a label follows from the hard label and from which classes every
superpixel is undecided between: equation 1 gives the probabilities back, to 1e-6. So only these
two are kept, by a compiled coder. Soft labels of other softeners are kept as the hard label, and
where they are uncertain as probabilities in steps of 1/255.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from sfumato._kernel import native
from sfumato.arrays import Label, Probability, Spacing
from sfumato.errors import InputError
from sfumato.image.quantise import STEPS, quantise
from sfumato.labels.encoding_header import Header, Part, damaged
from sfumato.labels.softening import checked_scale, one_hot, soften_label
from sfumato.labels.superpixels import in_three_axes

Zones: TypeAlias = UInt16[np.ndarray, "*space"]
"""Which set of classes an element is undecided between, counted from 1; 0 where it is certain."""

_MOST_ZONES = 65534
_ROUNDING = 1e-6
"""By how much probabilities may differ from what the method makes now."""
_FIRST_MARGIN = 8
"""Elements around a part that are looked at for the nearest boundary at first."""


def encode_soft_label(
    probability: Probability, spacing: Spacing, scale_mm: float | None = None
) -> bytes:
    """Encode a soft label, so that it comes back to 1e-6 if `superpixel` made it.

    Args:
        probability: The probability of every class, of up to three spatial axes.
        spacing: Millimetres along each spatial axis.
        scale_mm: What the label was softened with; None stands for the smallest spacing.

    Returns:
        Bytes for `decode_soft_label`. From these, labels of `superpixel` come back but for the
        last rounding of float32, their hard label and uncertain region exactly; others in
        steps of 1/255 (see `quantise`), with the same most probable class.

    Raises:
        InputError: If probabilities are negative or do not sum to one, there are more than 256
            classes or three spatial axes, or spacing or scale do not fit.
    """
    n_classes, shape = len(probability), probability.shape[1:]
    if not 1 <= n_classes <= 256 or not 1 <= len(shape) <= 3:
        raise InputError(
            "probability must have 1 to 256 classes and 1 to 3 spatial axes,"
            f" got {n_classes} classes and the shape {shape}"
        )
    label = probability.argmax(axis=0).astype(np.uint8)
    scale_mm = checked_scale(label, spacing, n_classes, scale_mm)
    zones, sets = _zones(probability, label)
    steps = None
    if sets is None or not _follows(probability, label, zones, spacing, scale_mm):
        steps = quantise(probability)
        zones = (steps.max(axis=0) < STEPS).astype(np.uint16)
        sets = np.ones((1, n_classes), bool)
    header = Header(shape, spacing, scale_mm, sets, is_exact=steps is None, blocks=())
    bodies = []
    for block in header.places:
        packed = native.pack_block(
            in_three_axes(np.ascontiguousarray(label[block])),
            in_three_axes(np.ascontiguousarray(zones[block])),
            n_classes,
            len(sets),
        )
        if steps is not None:
            packed = struct.pack("<I", len(packed)) + packed
            packed += _pack_steps(steps[:, *block], label[block], zones[block])
        bodies.append(packed)
    index = tuple((len(body), zlib.crc32(body)) for body in bodies)
    return b"".join([header.to_bytes(index), *bodies])


def decode_soft_label(
    data: bytes | bytearray | memoryview, part: Sequence[slice] | None = None
) -> Probability:
    """Decode a soft label, or a part of it.

    Args:
        data: What `encode_soft_label` returned; of a memory-mapped file (`memoryview` of an
            `mmap`), only the blocks in and around the part are read.
        part: Slices along the spatial axes, without steps; None stands for everything.

    Returns:
        The probability of every class, the same for a part as if all had been decoded.

    Raises:
        InputError: If the data is damaged or is no soft label, or the part does not fit it.
    """
    encoded = _Encoded(memoryview(data))
    header = encoded.header
    everything = tuple(slice(0, n) for n in header.shape)
    wanted = everything if part is None else _checked_part(part, header.shape)
    if not header.is_exact:
        return encoded.steps(wanted).astype(np.float32) / np.float32(STEPS)
    return _soften_part(encoded, wanted)


def shape_of_encoded(data: bytes | bytearray | memoryview) -> tuple[int, ...]:
    """Return the spatial shape of an encoded soft label, of which only the header is read.

    Raises:
        InputError: If the header is damaged or of no soft label.
    """
    header, _ = Header.read(memoryview(data))
    return header.shape


class _Encoded:
    """An encoded soft label whose blocks are decoded when they are first needed."""

    def __init__(self, data: memoryview) -> None:
        self.header, at = Header.read(data)
        self._data = data
        self._starts = at + np.cumsum([0, *(length for length, _ in self.header.blocks)])
        self._blocks: dict[int, tuple[Label, Zones, bytes]] = {}

    def read(self, part: Part) -> tuple[Label, Zones]:
        """Decode the hard label and the zones of a part."""
        shape = tuple(along.stop - along.start for along in part)
        label, zones = np.empty(shape, np.uint8), np.empty(shape, np.uint16)
        for _, inside, outside, (block_label, block_zones, _) in self._overlapping(part):
            label[outside], zones[outside] = block_label[inside], block_zones[inside]
        return label, zones

    def steps(self, part: Part) -> UInt8[np.ndarray, "classes *space"]:
        """Decode the probabilities of a part that are kept in steps."""
        shape = tuple(along.stop - along.start for along in part)
        steps = np.empty((self.header.n_classes, *shape), np.uint8)
        for number, inside, outside, (label, zones, rest) in self._overlapping(part):
            block = _unpack_steps(rest, label, zones, self.header.n_classes, number)
            steps[:, *outside] = block[:, *inside]
        return steps

    def _overlapping(
        self, part: Part
    ) -> Iterator[tuple[int, Part, Part, tuple[Label, Zones, bytes]]]:
        for number, place in enumerate(self.header.places):
            common = [
                (max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(part, place, strict=True)
            ]
            if any(start >= stop for start, stop in common):
                continue
            inside, outside = (
                tuple(
                    slice(start - along.start, stop - along.start)
                    for (start, stop), along in zip(common, frame, strict=True)
                )
                for frame in (place, part)
            )
            yield number, inside, outside, self._block(number)

    def _block(self, number: int) -> tuple[Label, Zones, bytes]:
        if number in self._blocks:
            return self._blocks[number]
        body = bytes(self._data[self._starts[number] : self._starts[number + 1]])
        if zlib.crc32(body) != self.header.blocks[number][1]:
            raise damaged(f"block {number}")
        rest = b""
        if not self.header.is_exact:
            (n,) = struct.unpack_from("<I", body)
            body, rest = body[4 : 4 + n], body[4 + n :]
        shape = tuple(along.stop - along.start for along in self.header.places[number])
        label, zones = np.empty(shape, np.uint8), np.empty(shape, np.uint16)
        native.unpack_block(
            body,
            in_three_axes(label),
            in_three_axes(zones),
            self.header.n_classes,
            len(self.header.sets),
        )
        self._blocks[number] = label, zones, rest
        return self._blocks[number]


def _checked_part(part: Sequence[slice], shape: tuple[int, ...]) -> Part:
    if len(part) != len(shape) or any(along.step not in (None, 1) for along in part):
        raise InputError(
            f"part must have {len(shape)} slices without steps, one an axis, got {tuple(part)}"
        )
    ranges = [along.indices(n) for along, n in zip(part, shape, strict=True)]
    return tuple(slice(start, max(start, stop)) for start, stop, _ in ranges)


def _zones(probability: Probability, label: Label) -> tuple[Zones, np.ndarray | None]:
    """Number the sets of classes that have a probability; None if they are too many."""
    n_classes = len(probability)
    zones = np.zeros(label.shape, np.uint16)
    flat = probability.reshape(n_classes, -1)
    is_certain = np.zeros(flat.shape[1], bool)
    for values in flat:
        is_certain |= values == 1
    uncertain = np.flatnonzero(~is_certain)
    if not len(uncertain):
        return zones, np.zeros((0, n_classes), bool)
    packed = np.packbits(flat[:, uncertain] > 0, axis=0, bitorder="little").T
    as_one = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}")[:, 0]
    kinds, inverse = np.unique(as_one, return_inverse=True)
    if len(kinds) > _MOST_ZONES:
        return zones, None
    zones.reshape(-1)[uncertain] = inverse + 1
    rows = np.frombuffer(kinds.tobytes(), np.uint8).reshape(len(kinds), -1)
    return zones, np.unpackbits(rows, axis=1, count=n_classes, bitorder="little") > 0


def _follows(
    probability: Probability, label: Label, zones: Zones, spacing: Spacing, scale_mm: float
) -> bool:
    """Whether the method makes this soft label of its hard label and zones."""
    # What superpixels tell is only which classes they hold; of one zone they are alike.
    superpixels = zones.astype(np.int32) - 1
    soft_label = soften_label(label, superpixels, spacing, len(probability), scale_mm)
    soft_label -= probability
    return float(np.abs(soft_label, out=soft_label).max(initial=0)) <= _ROUNDING


def _soften_part(encoded: _Encoded, part: Part) -> Probability:
    """Soften a part, looking around it as far as its distances to boundaries reach."""
    header = encoded.header
    own, zones = encoded.read(part)
    probability = one_hot(own, header.n_classes)
    uncertain = np.nonzero(zones)
    if not len(uncertain[0]):
        return probability
    inner = tuple(slice(int(at.min()), int(at.max()) + 1) for at in uncertain)
    place = tuple(
        slice(a.start + b.start, a.start + b.stop) for a, b in zip(part, inner, strict=True)
    )
    margin, softened = _FIRST_MARGIN, None
    while softened is None:
        window = tuple(
            slice(max(0, along.start - margin), min(n, along.stop + margin))
            for along, n in zip(place, header.shape, strict=True)
        )
        is_all = all(along == slice(0, n) for along, n in zip(window, header.shape, strict=True))
        reach_mm = np.inf if is_all else margin * min(header.spacing)
        softened = _soften_window(encoded, place, window, reach_mm)
        margin *= 4
    probability[:, zones > 0] = softened
    return probability


def _soften_window(
    encoded: _Encoded, part: Part, window: Part, reach_mm: float
) -> Float32[np.ndarray, "classes n"] | None:
    """Soften the uncertain elements of a part by what a window shows.

    Returns:
        Their probabilities; None if a distance may be shorter than it seems in the window.
    """
    header = encoded.header
    label, zones = encoded.read(window)
    inner = tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, window, strict=True)
    )
    uncertain = np.nonzero(zones[inner])
    own = label[inner][uncertain]
    is_wanted = header.sets[zones[inner][uncertain] - 1].T
    distances = np.full((header.n_classes, len(own)), np.inf, np.float32)
    for k in np.unique(label):
        distance = np.empty(label.shape, np.float32)
        native.distance_to_class(
            in_three_axes(label),
            int(k),
            [*[1.0] * (3 - label.ndim), *header.spacing],
            in_three_axes(distance),
            1,
        )
        distances[k] = distance[inner][uncertain]
    is_own = np.arange(header.n_classes)[:, np.newaxis] == own
    to_other = np.where(is_own, np.float32(np.inf), distances).min(axis=0)
    distances = np.where(is_own, to_other, distances)
    if (distances[is_wanted] > reach_mm).any():
        return None
    # Equation 1, in the order and precision in which the compiled core works it out.
    values = np.float32(0.5) / (1 + distances / np.float32(header.scale_mm))
    values = np.where(is_own, 1 - values, values)
    values[~is_wanted] = 0
    total = np.zeros(len(own), np.float32)
    for row in values:
        total += row
    return values / total


def _pack_steps(steps: np.ndarray, label: Label, zones: Zones) -> bytes:
    """Pack the steps of all classes but the most probable one, which has the rest of 255."""
    is_uncertain = zones > 0
    is_other = np.arange(len(steps))[:, np.newaxis] != label[is_uncertain]
    others = steps[:, is_uncertain].T[is_other.T].reshape(is_other.shape[1], len(steps) - 1)
    return zlib.compress(np.ascontiguousarray(others.T).tobytes(), 9)


def _unpack_steps(
    packed: bytes, label: Label, zones: Zones, n_classes: int, number: int
) -> UInt8[np.ndarray, "classes *space"]:
    is_uncertain = zones > 0
    n = int(np.count_nonzero(is_uncertain))
    try:
        others = np.frombuffer(zlib.decompress(packed), np.uint8)
        others = others.reshape(n_classes - 1, n).T
    except (zlib.error, ValueError) as error:
        raise damaged(f"block {number}") from error
    steps = np.zeros((n_classes, *label.shape), np.uint8)
    np.put_along_axis(steps, label[np.newaxis].astype(np.intp), STEPS, axis=0)
    is_other = np.arange(n_classes)[:, np.newaxis] != label[is_uncertain]
    values = np.empty((n, n_classes), np.uint8)
    values[is_other.T] = others.ravel()
    values[~is_other.T] = STEPS - others.sum(axis=1, dtype=np.uint16)
    steps[:, is_uncertain] = values.T
    return steps
