"""The committed studies: what each is of, the command that makes it, and where its results are."""

from __future__ import annotations

from dataclasses import dataclass

HELD_OUT = "held-out images of train + validation"
BOTH_BATCHES = "test split, and the second batch"
ELSEWHERE = "--elsewhere DIR"
BATCH_EFFECT = "python batch_effect.py --config batch-effect"


@dataclass(frozen=True)
class Study:
    """A study, by its folder in plots/."""

    title: str
    images: str  # that its figures are of
    command: str
    result: str = "metrics.json"


STUDIES = {  # in the order of the report page
    "data": Study("The data", "all three splits", "python data_visualization.py", "audit.json"),
    "architecture": Study("The networks", "none", "python architecture.py"),
    "ablation": Study(
        "What each part contributes", HELD_OUT, "python ablation.py --overwrite", "ablation.json"
    ),
    "ablation-robust": Study(
        "What each part of cnn-robust contributes",
        f"{HELD_OUT}, and another laboratory's",
        f"python ablation.py --config ablation-robust {ELSEWHERE} --overwrite",
        "ablation.json",
    ),
    "batch-effect-paper": Study(
        "A batch left out of training: the paper's CNN",
        BOTH_BATCHES,
        f"{BATCH_EFFECT}-paper --overwrite",
    ),
    "batch-effect": Study(
        "A batch left out of training: cnn-fast-60",
        BOTH_BATCHES,
        "python batch_effect.py --overwrite",
    ),
    "batch-effect-robust": Study(
        "A batch left out of training: cnn-robust, smaller and shorter",
        BOTH_BATCHES,
        f"{BATCH_EFFECT}-robust --overwrite",
    ),
    "batch-effect-robustnet": Study(
        "A batch left out of training: cnn-robust, smaller, without domain randomisation",
        BOTH_BATCHES,
        f"{BATCH_EFFECT}-robustnet --overwrite",
    ),
    "batch-effect-randomisation": Study(
        "A batch left out of training: cnn-robust, smaller, with CellNet",
        BOTH_BATCHES,
        f"{BATCH_EFFECT}-randomisation --overwrite",
    ),
    "tuning-best": Study(
        "Search around the best recipe",
        HELD_OUT,
        "python model_parameter_tuning.py --config tuning-best",
    ),
    "tuning": Study("Hyper-parameter search", HELD_OUT, "python model_parameter_tuning.py"),
    "release": Study(
        "How far to trust a probability",
        "test split",
        f"python model_release.py {ELSEWHERE} --slide REGEX",
    ),
    "release-best": Study(
        "The same, of cnn-best",
        "test split",
        f"python model_release.py --config release-best {ELSEWHERE} --slide REGEX",
    ),
    "release-stages": Study(
        "The same, of cnn-stages", "test split", "python model_release.py --config release-stages"
    ),
    "finetune": Study(
        "Fitted to another laboratory",
        "another laboratory's images",
        "python finetune.py DIR --slide REGEX --output plots/finetune",
    ),
    "robustness": Study("Corrupted images", "test split", "python robustness.py"),
    "explain": Study(
        "Errors, labels, maps", f"test split; {HELD_OUT}", "python explain.py --overwrite"
    ),
    "bench": Study("Speed", "timing only", "make bench", "bench.json"),
}
