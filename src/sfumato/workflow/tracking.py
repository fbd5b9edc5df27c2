"""How long jobs tell how far they are, without knowing who listens."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")


@runtime_checkable
class Track(Protocol):
    """Passes items through, telling somebody how far one is."""

    def __call__(self, items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
        """Yield the items one by one.

        Args:
            items: What is worked through.
            description: What is done, in a word or two.
            total: How many items there are.
        """
        ...


def silently(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Pass items through and tell nobody."""
    yield from items
