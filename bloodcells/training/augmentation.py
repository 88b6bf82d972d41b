"""Training batches: which images, in which order, augmented by moving whole pixels.

A stained cell has no preferred orientation or handedness, so the eight rotations and reflections of
its image are equally likely. Pixels are moved, never interpolated: the official images contain JPEG
and resampling artefacts that interpolation would remove, and a network trained without them fails
on images that have them. Only domain randomisation interpolates; it leaves a share of the images as
they are. docs/experiments.md shows where to add an augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bloodcells.cli.recipe import ALL_AT_THE_END, Recipe
from bloodcells.data.bloodmnist import Images, normalise
from bloodcells.training import distributed
from bloodcells.training.domain_randomisation import changed_count, randomise

VIEWS = 8


def view(images: Tensor, which: int) -> Tensor:
    """One of the eight views, 0..7, of square images (N, H, W, C); view 0 is the image itself.

    Bits 0 and 1 of `which` flip the rows and the columns; bit 2 then transposes the image.
    """
    flips = [axis for axis, bit in ((1, 1), (2, 2)) if which & bit]
    images = images.flip(flips) if flips else images
    return images.transpose(1, 2) if which & 4 else images


class Batches:
    """Normalised training batches in random order, augmented as the recipe says.

    Iterate once per epoch, and `record` the losses of each batch. With several processes, each
    iterates over its part of every batch and knows the losses of the whole batch. With `dihedral`,
    each image starts at a random view and moves on to the next whenever it is shown, so that it is
    shown in all eight views in turn: the alternating flip of Jordan, "94% on CIFAR-10 in 3.29
    Seconds" (2024), extended from two views to eight.

    With `focus`, a pass covers only that share of the images: one half are those with the highest
    latest loss, the other half a random choice of the rest. Most images are learnt early; after
    that, training on them gains little. An epoch has as many steps as without `focus`, so it
    contains several such passes. The first pass, and any pass that begins in the recipe's warm-up
    or in the last tenth of the steps, covers all images. Selection by the latest loss follows
    Loshchilov and Hutter, "Online Batch Selection for Faster Training" (2016).
    """

    def __init__(
        self, images: Tensor | Images, labels: Tensor, recipe: Recipe, generator: torch.Generator
    ):
        """`images` uint8 (N, H, H, 3) and `labels` on one device; `generator` on the CPU.

        `labels` are int64 (N,), or shares of the classes, float32 (N, classes).
        """
        self.side = images.shape[1]
        self.shift = round(recipe.shift * self.side / 28)
        self.cutout = round(recipe.cutout * self.side / 28)
        self.images, self.labels, self.device = images, labels, labels.device
        self.batch_size, self.generator = recipe.batch_size, generator
        self.next_view = self.draw(VIEWS, len(labels)) if recipe.dihedral else None
        self.randomised, self.unchanged = recipe.domain_randomisation, recipe.unchanged
        self.focus, self.warmup = recipe.focus, recipe.warmup
        self.steps, self.step = recipe.epochs * len(self), 0
        self.losses = torch.zeros(len(labels), device=self.device)  # latest loss of each image
        self.recorded = 0  # the step whose losses are the latest
        # rows left in this pass; rows of this batch
        self.waiting = self.rows = torch.empty(0, dtype=torch.int64, device=self.device)

    def state_dict(self) -> dict:
        """The state at the end of an epoch, for a checkpoint."""
        kept = {name: getattr(self, name) for name in ("step", "losses", "waiting", "next_view")}
        return {**kept, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a `state_dict`."""
        self.generator.set_state(state["generator"])
        for name in ("losses", "waiting", "next_view"):
            kept = state[name]
            setattr(self, name, None if kept is None else kept.to(self.device))
        self.step = self.recorded = state["step"]

    def draw(self, below: int, count: int) -> Tensor:
        """Random integers from 0 to below-1, int64 (count,)."""
        numbers = torch.randint(below, (count,), generator=self.generator)
        return numbers.to(self.device, non_blocking=True)  # or a GPU's work would be awaited

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        distributed.own_random_numbers(self.generator.initial_seed(), self.step // len(self) + 1)
        for _ in range(len(self)):
            if not len(self.waiting):
                self.waiting = self.choose()
            self.rows = self.waiting[: self.batch_size]
            self.waiting = self.waiting[self.batch_size :]
            self.step += 1
            images = normalise(distributed.part(self.pixels(self.rows)))
            if self.cutout:
                images.masked_fill_(distributed.part(self.squares(len(self.rows))), 0)
            if self.randomised:
                images = randomise(images, self.randomised, self.unchanged)
            yield images, self.labels[distributed.part(self.rows)]

    def record(self, losses: Tensor) -> None:
        """Store the losses, (B,), of the latest batch, by which the next images are chosen.

        Raises `ValueError` for losses of another shape, such as their mean.
        """
        expected = len(distributed.part(self.rows))
        if losses.shape != (expected,):
            raise ValueError(f"losses of shape {tuple(losses.shape)}: pass one for each image")
        self.recorded = self.step
        if self.randomised:  # a changed image's loss says little of the image: keep its last one
            losses = losses.clone()
            losses[: changed_count(self.randomised, len(losses))] = torch.nan
        latest = distributed.joined(losses, len(self.rows))
        self.losses[self.rows] = torch.where(latest.isnan(), self.losses[self.rows], latest)

    def choose(self) -> Tensor:
        """The rows of the next pass in random order, int64 (n,).

        Raises `ValueError` if `focus` has no losses to choose by.
        """
        order = self.shuffled(torch.arange(len(self.labels), device=self.device))
        done = self.step / self.steps
        focused = self.focus and self.step and self.warmup <= done < 1 - ALL_AT_THE_END
        if not focused:  # the first pass covers all images: there are no losses to choose by
            return order
        if self.recorded != self.step:
            raise ValueError("focus needs the losses of each batch: pass them to record()")
        batches = max(1, round(self.focus * len(order) / self.batch_size))
        count = batches * self.batch_size  # no smaller last batch
        by_loss = order[self.losses[order].argsort(descending=True)]
        hardest, others = by_loss[: -(-count // 2)], by_loss[-(-count // 2) :]
        return self.shuffled(torch.cat([hardest, self.shuffled(others)[: count // 2]]))

    def shuffled(self, rows: Tensor) -> Tensor:
        """The same rows, int64 (n,), in random order."""
        order = torch.randperm(len(rows), generator=self.generator)
        return rows[order.to(self.device, non_blocking=True)]

    def pixels(self, rows: Tensor) -> Tensor:
        """The images of `rows`, rotated, reflected and shifted: uint8 (B, H, H, 3).

        Rotations, reflections and shifts all map the two axes separately, then perhaps swap them,
        so one gather with a computed index does them all.
        """
        count, side = len(rows), self.side
        axis = torch.arange(side, device=self.device)
        y = x = axis.expand(count, side)
        if self.shift:
            y, x = (reflect(axis + self.offsets(count), side) for _ in range(2))
        which = torch.zeros_like(rows)
        if self.next_view is not None:
            which = self.next_view[rows] % VIEWS
            self.next_view[rows] += 1
        y = torch.where((which & 1).bool()[:, None], side - 1 - y, y)
        x = torch.where((which & 2).bool()[:, None], side - 1 - x, x)
        swap = (which & 4).bool()[:, None, None]
        index = torch.where(swap, y[:, None, :], y[:, :, None]) * side
        index = index + torch.where(swap, x[:, :, None], x[:, None, :])
        # three channels and a padding byte make a 32-bit word per pixel, which is fast to gather
        words = torch.nn.functional.pad(self.images[rows], (0, 1)).view(torch.int32).flatten()
        first = torch.arange(count, device=self.device) * side**2
        words = words[first[:, None, None] + index]
        return words.view(torch.uint8).view(count, side, side, 4)[..., :3]

    def offsets(self, count: int) -> Tensor:
        """One random shift per image, in pixels: int64 (count, 1)."""
        return self.draw(2 * self.shift + 1, count)[:, None] - self.shift

    def squares(self, count: int) -> Tensor:
        """True inside one square per image, centred on a random pixel: bool (count, 1, H, H)."""
        axis = torch.arange(self.side, device=self.device) + self.cutout // 2
        from_start = (axis - self.draw(self.side, count)[:, None] for _ in range(2))
        y, x = ((place >= 0) & (place < self.cutout) for place in from_start)
        return (y[:, :, None] & x[:, None, :])[:, None]


def reflect(index: Tensor, side: int) -> Tensor:
    """Indices, with those outside 0..side-1 mirrored at the border pixels."""
    return (side - 1) - ((side - 1) - index.abs()).abs()
