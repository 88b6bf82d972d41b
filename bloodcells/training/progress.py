"""What is shown while an experiment trains."""

from __future__ import annotations

import sys
from contextlib import suppress

from tqdm import tqdm

from bloodcells.training import distributed


class Progress:
    """Shows the epochs of all models: a bar on a terminal, a line per epoch in a file or pipe.

    The time left is estimated from the mean epoch so far, with the time between epochs.
    """

    def __init__(self, runs: int, epochs: int, quiet: bool = False):
        silent = quiet or bool(distributed.rank())
        # the bar is on standard error; None: only if that is a terminal
        self.bar = tqdm(total=runs * epochs, unit="epoch", disable=silent or None, smoothing=0)
        printed = sys.stdout is not None and (self.bar.disable or not sys.stdout.isatty())
        self.lines = printed and not silent
        self.runs, self.epochs = runs, epochs
        self.run = 0  # the current one, from 1

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal may be gone
            self.bar.close()

    def skip(self, epochs: int) -> None:
        """Count epochs that were trained earlier, which say nothing of the time left."""
        if not self.bar.disable:
            self.bar.initial += epochs
            self.bar.update(epochs)

    def show(self, row: dict, steps: int) -> None:
        """Count an epoch's steps, and show its row of the history."""
        place = f"run {self.run}/{self.runs}"
        text = f"training loss {row['train_loss']:.3f}"
        if "val_accuracy" in row:
            text += f", held-out accuracy {row['val_accuracy']:.4f}"
        rate = f"{steps / row['train_seconds']:.1f} steps/s"
        self.bar.set_postfix_str(f"{place}, {text}, {rate}", refresh=False)
        with suppress(OSError):
            self.bar.update()
        if self.lines:
            seconds = f"{row['train_seconds']:.1f} s"
            tqdm.write(f"{place} epoch {row['epoch']}/{self.epochs}: {text}, {seconds}")
            sys.stdout.flush()
