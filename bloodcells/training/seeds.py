"""Seeding of torch, so that its random numbers depend only on the seed and the fold.

Draw from torch alone: the states of `random` and of NumPy's generators are not in a checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch

from bloodcells.data.folds import Fold


def seed_everything(fold: Fold) -> torch.Generator:
    """Seed torch from the fold's seed and number, so that no model depends on earlier ones.

    Returns the random generator for the batches, which starts from the same seed as the weights.
    """
    entropy = [fold.seed] if fold.fold is None else [fold.seed, fold.fold]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
    return torch.Generator().manual_seed(torch.initial_seed())
