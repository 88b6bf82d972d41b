"""Experiments that cannot be made are refused before they train."""

from dataclasses import replace

import numpy as np
import pytest

from bloodcells.data import bloodmnist
from bloodcells.errors import UserError
from bloodcells.evaluation.metrics import summarise
from bloodcells.training.refusals import refuse_few_test_images


@pytest.mark.parametrize("others", [1, 3, 5, 7, 9, 15, 40])
def test_too_few_test_images_of_other_classes_are_refused(others):
    dataset = bloodmnist.load(None, 28, synthetic=True)
    labels = np.full(len(dataset.test), 7)
    labels[:others] = 0
    dataset = replace(dataset, test=replace(dataset.test, labels=labels))
    interval = summarise(labels, np.eye(8, dtype=np.float32)[labels][None])["auc_macro"]
    if np.isfinite(interval["low"]):
        refuse_few_test_images(dataset)
    else:
        with pytest.raises(UserError, match=f"only {others} are not of the class 'platelet'"):
            refuse_few_test_images(dataset)
