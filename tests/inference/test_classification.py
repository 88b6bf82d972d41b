"""What is said of an image: its class, its set of classes, and what marks it."""

import numpy as np

from bloodcells.data.user_images import UserImage
from bloodcells.inference.classification import classify


class Fixed:
    """A released network that says the same of all images, but for their distances."""

    classes = ("a", "b", "c")
    sets = {"0.95": 0.25, "0.99": 0.05}  # noqa: RUF012
    farthest = 2.0

    def predict(self, pixels, foreign, batch_size):
        self.foreign = foreign.tolist()
        rows = np.tile([0.7, 0.25, 0.05], (len(pixels), 1))
        return rows, np.array([1.0, 2.0, 2.5])[: len(pixels)]


def test_what_is_said_of_an_image():
    pixels = np.zeros((28, 28, 3), np.uint8)
    images = [UserImage("f", str(n), pixels, foreign=n == 1) for n in range(3)]
    model = Fixed()
    found = list(classify(images, model, {}, 128, "0.95", 0.7))
    assert model.foreign == [one.foreign for one in found] == [False, True, False]
    assert [one.unlike_training for one in found] == [False, False, True]
    assert {tuple(one.set) for one in found} == {("a", "b")}
    assert {one.label for one in found} == {"a"}
    (wide, *_) = classify(images, model, {}, 128, "0.99", 0.71)
    assert (wide.set, wide.label) == (["a", "b", "c"], "abstained")
