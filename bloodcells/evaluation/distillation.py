"""Knowledge distillation (Hinton, Vinyals and Dean, 2015): labels softened by trained models.

One model learns what an ensemble answers with test-time augmentation, so that it needs neither.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from bloodcells.cli.recipe import SEEDED
from bloodcells.data.bloodmnist import LABELS, Dataset, Labelled
from bloodcells.errors import UserError
from bloodcells.evaluation.prediction import predict
from bloodcells.inference.networks import load_networks
from bloodcells.tracking import run_folder
from bloodcells.training.augmentation import VIEWS
from bloodcells.training.interruption import stop_if_asked

SHARE = 0.5  # of the teacher's answer in a softened label; chosen on validation
BATCH_SIZE = 256


class Teacher:
    """The models of the finished experiment `--teacher`; without the flag, labels stay."""

    def __init__(self, args: argparse.Namespace, dataset: Dataset):
        """Raises `UserError` for a run folder without weights, or of other training images."""
        self.networks: list[nn.Module] = []
        self.targets: Tensor | None = None  # the softened labels, once they are computed
        self.precision, self.classes = args.precision, len(LABELS[args.labels])
        if args.teacher is None:
            return
        flag = f"--teacher {args.teacher}"
        if args.protocol not in SEEDED:
            raise UserError(f"{flag}: needs --protocol {' or '.join(SEEDED)}; folds differ in size")
        run = run_folder.read(run_folder.find(args.teacher))
        for name in ("protocol", "labels"):
            theirs, ours = run.metrics["config"].get(name), getattr(args, name)
            if theirs != ours:
                raise UserError(f"{flag}: was trained with {name} {theirs}, not {ours}")
        self.networks = load_networks(run, dataset.describe(), flag)

    def soften(self, train: Labelled) -> Labelled:
        """The same images; their labels, (N, classes), are half the label, half the mean answer.

        Computed at the first call: after an interruption, which raises `Interrupted`, anew.
        """
        if not self.networks:
            return train
        if self.targets is None:
            device = train.labels.device
            answers = []
            for network in self.networks:
                stop_if_asked()
                network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                answers.append(predict(network, train.images, VIEWS, self.precision, BATCH_SIZE))
            answer = torch.stack(answers).mean(0).to(device)
            hard = nn.functional.one_hot(train.labels, self.classes)
            self.targets = (1 - SHARE) * hard + SHARE * answer
        return train._replace(labels=self.targets)
