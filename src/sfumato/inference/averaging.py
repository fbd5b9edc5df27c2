"""From what networks compute to probabilities: softmax, mirrored views, several networks."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from torch.nn import functional

from sfumato.model.tensors import Images, Logits, Probabilities

Compute = Callable[[Images], Logits]
"""A network, wherever and with whatever it is computed."""
Predict = Callable[[Images], Probabilities]


def averaged(networks: Sequence[Compute], mirror_axes: tuple[int, ...] = ()) -> Predict:
    """Average the probabilities of several networks, and of all ways round.

    Args:
        networks: At least one.
        mirror_axes: Spatial axes along which images are predicted mirrored as well.
    """
    ways = list(_subsets(tuple(2 + axis for axis in mirror_axes)))

    def predict(images: Images) -> Probabilities:
        total = None
        for axes in ways:
            # Also a flip along no axis at all would copy.
            view = images.flip(axes) if axes else images
            for compute in networks:
                probability = functional.softmax(compute(view).float().cpu(), dim=1)
                probability = probability.flip(axes) if axes else probability
                total = probability if total is None else total.add_(probability)
        assert total is not None
        n = len(ways) * len(networks)
        return total if n == 1 else total.div_(n)

    return predict


def _subsets(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for chosen in product((False, True), repeat=len(axes)):
        yield tuple(a for a, is_chosen in zip(axes, chosen, strict=True) if is_chosen)
