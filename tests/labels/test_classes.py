import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import InputError
from sfumato.labels.classes import ClassList

CELLS = ClassList(names=("background", "cell", "border"), values=(0, 255, 7))


def test_a_class_is_its_place_in_the_list() -> None:
    label = CELLS.to_indices(np.array([[0, 7], [255, 0]], np.int16))
    np.testing.assert_array_equal(label, [[0, 2], [1, 0]])
    assert label.dtype == np.uint8
    assert len(CELLS) == 3
    assert CELLS.foreground == ("cell", "border")


def test_files_get_their_own_values_in_the_smallest_type_that_holds_them() -> None:
    values = CELLS.to_values(np.array([0, 1, 2], np.uint8))
    np.testing.assert_array_equal(values, [0, 255, 7])
    assert values.dtype == np.uint8
    large = ClassList(names=("a", "b"), values=(0, 1000)).to_values(np.array([1], np.uint8))
    assert large.dtype == np.uint16
    negative = ClassList(names=("a", "b"), values=(-1, 200)).to_values(np.array([0, 1], np.uint8))
    np.testing.assert_array_equal(negative, [-1, 200])


def test_an_undeclared_value_is_refused_with_the_declared_ones() -> None:
    with pytest.raises(InputError) as caught:
        CELLS.to_indices(np.array([0, 7, 8, 300, -1]))
    assert str(caught.value) == (
        "the label holds the value -1, 8, 300, which no class has (declared: 0 background,"
        " 255 cell, 7 border); correct the label or declare the class"
    )
    with pytest.raises(InputError, match="1, 2, 3, 4, 5 …, which"):
        CELLS.to_indices(np.arange(1, 7))


@pytest.mark.parametrize(
    ("names", "values", "complaint"),
    [
        (("a", "b"), (0, 1, 2), "classes need one name a value"),
        (("a", "a"), (0, 1), "two classes share a name or value"),
        (("a", "b"), (1, 1), "two classes share a name or value"),
        (("a",), (0,), "must have 2 to 256 classes with background, got 1"),
        (tuple(map(str, range(257))), tuple(range(257)), "is the label an image by mistake"),
    ],
)
def test_a_list_of_classes_must_make_sense(
    names: tuple[str, ...], values: tuple[int, ...], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        ClassList(names=names, values=values)


@given(st.lists(st.integers(-(2**31), 2**32 - 1), min_size=2, max_size=256, unique=True), st.data())
def test_values_become_indices_and_come_back(values: list[int], data: st.DataObject) -> None:
    classes = ClassList(names=tuple(map(str, range(len(values)))), values=tuple(values))
    drawn = data.draw(st.lists(st.sampled_from(values), max_size=20))
    stored = np.array(drawn, np.int64)
    indices = classes.to_indices(stored)
    np.testing.assert_array_equal(classes.to_values(indices), stored)
    assert [values[index] for index in indices] == drawn
