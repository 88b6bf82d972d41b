"""Another laboratory's images, read for a study."""

import pytest

from bloodcells.errors import UserError
from bloodcells.evaluation import elsewhere


def test_images_that_are_not_framed_are_counted(sorted_cells, capsys):
    elsewhere.read(sorted_cells(4, side=70, name="a"), 28)
    assert "MedMNIST" not in capsys.readouterr().out
    found = elsewhere.read(sorted_cells(4, side=64, name="b"), 28)
    assert (len(found.images), found.unusable, found.slides) == (4, 0, None)
    assert (
        "b: 4 images have a size of MedMNIST's, so they are not framed" in capsys.readouterr().out
    )


def test_the_data_set_s_own_images_are_refused(sorted_cells):
    with pytest.raises(UserError, match="4 of its images have a size of the data set's own"):
        elsewhere.read(sorted_cells(4), 28)
