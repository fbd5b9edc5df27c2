import numpy as np

from sfumato.image.geometry import Geometry
from sfumato.inference.probability import ProbabilityMap


def test_the_segmentation_is_the_most_probable_class():
    probability = np.array([[[0.6, 0.2]], [[0.3, 0.3]], [[0.1, 0.5]]], np.float32)
    mapped = ProbabilityMap(
        probability=probability, geometry=Geometry.from_spacing((1, 2), (1.0, 1.0))
    )
    np.testing.assert_array_equal(mapped.segmentation(), [[0, 2]])
    assert mapped.segmentation().dtype == np.uint8


def test_the_first_of_equally_probable_classes_wins():
    mapped = ProbabilityMap(
        probability=np.full((4, 3, 2), 0.25, np.float32),
        geometry=Geometry.from_spacing((3, 2), (1.0, 1.0)),
    )
    assert not mapped.segmentation().any()
