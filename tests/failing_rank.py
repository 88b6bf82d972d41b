"""model_baseline.py, of which the second of two processes fails after its first epoch."""

import os

import model_baseline
from bloodcells.cli import arguments
from bloodcells.training import loop

predict = loop.predict


def failing(*args, **settings):
    if os.environ["RANK"] == "1":
        raise arguments.UserError("the second process has had enough")
    return predict(*args, **settings)


loop.predict = failing
arguments.run_script(model_baseline.main)
