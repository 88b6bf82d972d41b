"""A worker of a study whose trials only sleep; apart from the tests, so that it starts fast."""

import os
import time

import optuna

import study_store


def hasten() -> None:
    """Notice dead workers within seconds."""
    study_store.HEARTBEAT, study_store.GRACE, study_store.POLL = 1, 2, 0.2


def work(url: str, total: int, seconds: float, log: str) -> None:
    """Take part in the study "sleep" of a grid of `total` cells; logs who begins which."""
    hasten()
    study = study_store.open_study(url, "sleep", {"version": 1})
    study.sampler = optuna.samplers.GridSampler({"x": list(range(total))}, seed=0)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_categorical("x", list(range(total)))
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {x}\n")
        time.sleep(seconds)
        return x

    study_store.run(study, objective, total, lambda trial, done: None)
