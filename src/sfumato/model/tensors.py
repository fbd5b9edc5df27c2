"""The tensor types of training and inference; the first axis is the batch."""

from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Images: TypeAlias = Float[Tensor, "batch channel *space"]
Logits: TypeAlias = Float[Tensor, "batch classes *space"]
Probabilities: TypeAlias = Float[Tensor, "batch classes *space"]
"""Sums to one over the classes."""
HardTarget: TypeAlias = Int[Tensor, "batch *space"]
SoftTarget: TypeAlias = Float[Tensor, "batch classes *space"]
"""Sums to one over the classes."""
OnItsGrid: TypeAlias = Float[Tensor, "batch classes ..."]
"""Logits or probabilities of one level out of several, each on a grid of its own."""
Scalar: TypeAlias = Float[Tensor, ""]
