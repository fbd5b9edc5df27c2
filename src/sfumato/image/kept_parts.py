"""Bytes that come part by part, kept on the disk until each volume can be written whole."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8


class KeptParts:
    """Parts of several volumes on one grid, in a file of their own.

    They come all volumes at a time, but files want one volume after the other.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parts: list[tuple[tuple[slice, ...], tuple[int, ...], int]] = []

    def add(self, place: tuple[slice, ...], values: UInt8[np.ndarray, "volume *space"]) -> None:
        """Keep the same part of every volume.

        Args:
            place: Where it lies, one slice for each spatial axis.
            values: What is kept.
        """
        self._parts.append((place, values.shape[1:], self._file.tell()))
        self._file.write(np.ascontiguousarray(values).data)

    def volume(self, index: int, shape: tuple[int, ...]) -> UInt8[np.ndarray, "*space"]:
        """Return one volume, 0 where no part lies; then no more parts may be added."""
        values = np.zeros(shape, np.uint8)
        for place, part_shape, start in self._parts:
            n = int(np.prod(part_shape))
            self._file.seek(start + index * n)
            values[place] = np.frombuffer(self._file.read(n), np.uint8).reshape(part_shape)
        return values


@contextmanager
def kept_parts(folder: Path) -> Iterator[KeptParts]:
    """Keep parts in a folder; the file goes at the end, and has no name before."""
    with tempfile.TemporaryFile(dir=folder) as file:
        yield KeptParts(file)
