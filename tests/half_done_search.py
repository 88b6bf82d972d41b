"""model_parameter_tuning.py, which stays in the second model of its second trial."""

import itertools
import time

import model_parameter_tuning
from bloodcells.cli.arguments import run_script

train, calls = model_parameter_tuning.train_until_it_stops, itertools.count(1)


def waiting(*given):
    if next(calls) == 4:
        time.sleep(120)
    return train(*given)


model_parameter_tuning.train_until_it_stops = waiting
run_script(model_parameter_tuning.main)
