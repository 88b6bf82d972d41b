"""What is shown while an experiment trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from tqdm import tqdm

from bloodcells.training import distributed


class Progress:
    """Shows the epochs of all models: a bar on a terminal, a line per epoch in a file or pipe.

    The time left is estimated from the mean epoch so far, with the time between epochs.
    """

    def __init__(self, epochs: Sequence[int], quiet: bool = False, views: int = 1):
        """`epochs` are those of each model, `views` those of its scores, at its end."""
        silent = quiet or bool(distributed.rank())
        # the bar is on standard error; None: only if that is a terminal
        self.bar = tqdm(
            total=sum(epochs), unit="epoch", disable=silent or None, smoothing=0, miniters=1
        )
        printed = sys.stdout is not None and (self.bar.disable or not sys.stdout.isatty())
        self.lines = printed and not silent
        self.epochs = epochs
        self.seen = "held-out accuracy" + (" (one view)" if views > 1 else "")
        self.run = 0  # the current one, from 0
        self.timed = False  # whether the first one has begun

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal may be gone
            self.bar.close()

    def leave_out(self, runs: Collection[int]) -> None:
        """Count the epochs of the models that this process does not train."""
        self.skip(sum(self.epochs[run] for run in runs))

    def resume(self, epochs: int) -> None:
        """Begin to train a model of which so many epochs are done; with the first, time begins."""
        if not (self.timed or self.bar.disable):
            self.bar.start_t = self.bar.last_print_t = time.time()
        self.timed = True
        self.skip(epochs)

    def skip(self, epochs: int) -> None:
        """Count epochs that were trained earlier, which say nothing of the time left."""
        if not self.bar.disable:
            self.bar.initial += epochs
            with suppress(OSError):
                self.bar.update(epochs)

    def show(self, row: dict, steps: int) -> None:
        """Count an epoch's steps, and show its row of the history."""
        place = f"run {self.run + 1}/{len(self.epochs)}"
        text, short = f"training loss {row['train_loss']:.3f}", f"loss {row['train_loss']:.3f}"
        if "val_accuracy" in row:
            text += f", {self.seen} {row['val_accuracy']:.4f}"
            short += f", held out {row['val_accuracy']:.4f}"
        rate = f"{steps / row['train_seconds']:.1f} steps/s"
        self.bar.set_postfix_str(f"{place}, {short}, {rate}", refresh=False)
        with suppress(OSError):
            self.bar.update()
        if self.lines:
            seconds = f"{row['train_seconds']:.1f} s"
            tqdm.write(f"{place} epoch {row['epoch']}/{self.epochs[self.run]}: {text}, {seconds}")
            sys.stdout.flush()
