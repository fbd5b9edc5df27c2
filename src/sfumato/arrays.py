"""The array types that pass between modules, and what their axes mean.

One rule holds everywhere: spatial axes stand in array order, and `spacing[i]` is the
distance in millimetres between neighbouring elements along spatial axis `i`. Two- and
three-dimensional arrays follow the same rule, so `*space` stands for `row column` (2-D)
or for the file's own index order `i j k` (3-D). Channels and classes, where there are
any, come first.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Integer, UInt8

Spacing: TypeAlias = tuple[float, ...]
"""Millimetres between neighbouring elements, one number for each spatial axis."""

Affine: TypeAlias = Float64[np.ndarray, "homogeneous homogeneous"]
"""Maps element indices to patient millimetres (right, anterior, superior)."""
Image: TypeAlias = Float32[np.ndarray, "channel *space"]
RawImage: TypeAlias = Float32[np.ndarray, "channel *space"] | Integer[np.ndarray, "channel *space"]
"""Intensities as files hold them; float32, int16, uint16 and uint8 are worked on without a copy."""
Label: TypeAlias = UInt8[np.ndarray, "*space"]
"""The class index of every element; 0 is background."""
LabelValues: TypeAlias = Integer[np.ndarray, "*space"]
"""A label in the data set's own numbers (say 0 and 255), as files hold it."""
Mask: TypeAlias = Bool[np.ndarray, "*space"]
Superpixels: TypeAlias = Int32[np.ndarray, "*space"]
"""The superpixel index of every element: 0 to n-1, each of them used; -1 where none is wanted."""
Distance: TypeAlias = Float32[np.ndarray, "*space"]
"""Millimetres to a boundary; positive inside, negative outside."""
MaskProbability: TypeAlias = Float32[np.ndarray, "*space"]
"""The probability of lying inside one structure."""
Probability: TypeAlias = Float32[np.ndarray, "classes *space"]
"""Sums to one over the first axis."""
ProbabilityBytes: TypeAlias = UInt8[np.ndarray, "classes *space"]
"""A probability in steps of 1/255; sums to exactly 255 over the first axis."""
