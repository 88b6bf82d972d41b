"""Knowledge distillation (Hinton, Vinyals and Dean, 2015): labels softened by trained models.

One model learns what an ensemble answers with test-time augmentation, so that it needs neither.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from bloodcells import ROOT
from bloodcells.cli.recipe import SEEDED
from bloodcells.data.bloodmnist import LABELS, Labelled
from bloodcells.errors import UserError
from bloodcells.evaluation.prediction import predict
from bloodcells.inference.networks import load_network
from bloodcells.tracking import run_folder
from bloodcells.training.augmentation import VIEWS

SHARE = 0.5  # of the teacher's answer in a softened label; chosen on validation
BATCH_SIZE = 256


class Teacher:
    """The models of the finished experiment `--teacher`; without the flag, a teacher of nothing."""

    def __init__(self, args: argparse.Namespace, device: torch.device):
        """Raises `UserError` for a run folder without weights, or of other training images."""
        self.networks: list[nn.Module] = []
        self.targets: Tensor | None = None  # the softened labels, once they are computed
        self.precision, self.classes = args.precision, len(LABELS[args.labels])
        if args.teacher is None:
            return
        flag = f"--teacher {args.teacher}"
        if args.protocol not in SEEDED:
            raise UserError(f"{flag}: needs --protocol {' or '.join(SEEDED)}; folds differ in size")
        places = (args.teacher, ROOT / args.teacher, ROOT / "plots" / args.teacher)
        folder = next((place for place in places if place.exists()), args.teacher)
        run = run_folder.read(folder)
        for name in ("protocol", "size", "labels", "synthetic"):
            theirs, ours = run.metrics["config"].get(name), getattr(args, name)
            if theirs != ours:
                raise UserError(
                    f"{flag}: was trained with {name} {theirs}, not {ours}, so on other images"
                )
        files = [row.get("weights") for row in run.metrics["runs"]]
        if not all(files):
            raise UserError(f"{flag}: has no weights; train it with --save-weights")
        networks = [load_network(run, file) for file in files]
        self.networks = [
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for network in networks
        ]

    def soften(self, train: Labelled) -> Labelled:
        """The same images; their labels, (N, classes), are half the teacher's mean answer."""
        if not self.networks:
            return train
        if self.targets is None:
            answers = (
                predict(network, train.images, VIEWS, self.precision, BATCH_SIZE)
                for network in self.networks
            )
            answer = torch.stack(list(answers)).mean(0).to(train.labels.device)
            hard = nn.functional.one_hot(train.labels, self.classes)
            self.targets = (1 - SHARE) * hard + SHARE * answer
        return train._replace(labels=self.targets)
