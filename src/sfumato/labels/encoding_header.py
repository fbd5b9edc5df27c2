"""What an encoded soft label says before its blocks.

A file is a header, then blocks. The header (little-endian) holds

* `SFSL`, the version, the form (0: follows from the zones; 1: steps of 1/255), the header's length
  and its CRC-32; the rest of it is deflated:
* number of axes, n_classes - 1, shape (uint32), spacing and scale_mm (float64)
* number of zones (uint16), and for each the set of its classes: bit k of ceil(n_classes / 8) bytes
* for each block its length and its CRC-32 (uint32)

so that every flipped bit is found by what reads it. Blocks lie in array order.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import TypeAlias

import numpy as np

from sfumato.arrays import Spacing
from sfumato.errors import InputError

Part: TypeAlias = tuple[slice, ...]
"""The first element and the one after the last, along each spatial axis."""

_PREFIX = struct.Struct("<4sBBII")
_MAGIC, _VERSION = b"SFSL", 1
_ZONES, _STEPS = 0, 1
_BLOCK = struct.Struct("<II")
_BLOCK_EDGE = {1: 1 << 16, 2: 512, 3: 96}
"""Elements of a block along each axis, at most, by the number of axes."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says before its blocks.

    Attributes:
        sets: Which classes belong to a zone: zone (from the second on), class.
        is_exact: Whether probabilities follow from the zones.
        blocks: Length and checksum of each.
    """

    shape: tuple[int, ...]
    spacing: Spacing
    scale_mm: float
    sets: np.ndarray
    is_exact: bool
    blocks: tuple[tuple[int, int], ...]

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return int(self.sets.shape[1])

    @cached_property
    def places(self) -> list[Part]:
        """Where the blocks lie, in array order."""
        return list(_block_places(self.shape))

    def to_bytes(self, blocks: Sequence[tuple[int, int]]) -> bytes:
        """Write the header, given the length and checksum of each block."""
        n_axes = len(self.shape)
        content = struct.pack(
            f"<BB{n_axes}I{n_axes}ddH",
            n_axes,
            self.n_classes - 1,
            *self.shape,
            *self.spacing,
            self.scale_mm,
            len(self.sets),
        )
        content += np.packbits(self.sets, axis=1, bitorder="little").tobytes()
        content += b"".join(_BLOCK.pack(*block) for block in blocks)
        content = zlib.compress(content, 9, wbits=-zlib.MAX_WBITS)
        form = _ZONES if self.is_exact else _STEPS
        start = _PREFIX.pack(_MAGIC, _VERSION, form, len(content), 0)
        checksum = zlib.crc32(start + content)
        return _PREFIX.pack(_MAGIC, _VERSION, form, len(content), checksum) + content

    @staticmethod
    def read(data: memoryview) -> tuple["Header", int]:
        """Return the header and its length.

        Raises:
            InputError: If it is damaged.
        """
        if len(data) < _PREFIX.size or bytes(data[:4]) != _MAGIC:
            raise InputError("data is no encoded soft label; it does not begin like one")
        _, version, form, n, checksum = _PREFIX.unpack_from(data)
        if version != _VERSION:
            raise InputError(
                f"data is of version {version}, but this sfumato reads {_VERSION}; update it"
            )
        content = bytes(data[_PREFIX.size : _PREFIX.size + n])
        start = _PREFIX.pack(_MAGIC, version, form, n, 0)
        if len(content) < n or zlib.crc32(start + content) != checksum:
            raise damaged("its header")
        try:
            content = zlib.decompress(content, wbits=-zlib.MAX_WBITS)
            header = Header._parse(content, is_exact=form == _ZONES)
        except (struct.error, ValueError, zlib.error) as error:
            raise damaged("its header") from error
        if _PREFIX.size + n + sum(length for length, _ in header.blocks) != len(data):
            raise damaged("its length")
        return header, _PREFIX.size + n

    @staticmethod
    def _parse(content: bytes, *, is_exact: bool) -> "Header":
        n_axes, last_class = content[0], content[1]
        layout = struct.Struct(f"<{n_axes}I{n_axes}ddH")
        numbers = layout.unpack_from(content, 2)
        shape, spacing = numbers[:n_axes], numbers[n_axes : 2 * n_axes]
        scale_mm, n_sets = numbers[-2:]
        at, n_bytes = 2 + layout.size, last_class // 8 + 1
        sets = np.frombuffer(content, np.uint8, n_sets * n_bytes, at).reshape(n_sets, n_bytes)
        is_in_set = np.unpackbits(sets, axis=1, count=last_class + 1, bitorder="little") > 0
        blocks = tuple(_BLOCK.iter_unpack(content[at + n_sets * n_bytes :]))
        header = Header(shape, spacing, scale_mm, is_in_set, is_exact, blocks)
        if len(header.places) != len(blocks):
            raise ValueError("the blocks do not fill the shape")
        return header


def damaged(what: str) -> InputError:
    """Return the error for data that is not as it was written."""
    return InputError(f"data is damaged ({what} is not what was written); encode it again")


def _block_places(shape: tuple[int, ...]) -> Iterator[Part]:
    """Cut a shape into blocks, whose edges differ by one element at most."""
    edges = []
    for n in shape:
        n_blocks = -(-n // _BLOCK_EDGE[len(shape)])
        cuts = [i * n // n_blocks for i in range(n_blocks + 1)] if n_blocks else []
        edges.append([slice(*pair) for pair in pairwise(cuts)])
    return product(*edges)
