"""The command that makes each study, by its folder in plots/, and the file of its results."""

from __future__ import annotations

COMMANDS = {
    "data": "python data_visualization.py",
    "architecture": "python architecture.py",
    "ablation": "python ablation.py --overwrite",
    "ablation-robust": "python ablation.py --config ablation-robust --elsewhere DIR --overwrite",
    "batch-effect": "python batch_effect.py --overwrite",
    "batch-effect-paper": "python batch_effect.py --config batch-effect-paper --overwrite",
    "batch-effect-robust": "python batch_effect.py --config batch-effect-robust --overwrite",
    "batch-effect-robustnet": "python batch_effect.py --config batch-effect-robustnet --overwrite",
    "batch-effect-randomisation": (
        "python batch_effect.py --config batch-effect-randomisation --overwrite"
    ),
    "tuning": "python model_parameter_tuning.py",
    "tuning-best": "python model_parameter_tuning.py --config tuning-best",
    "release": "python model_release.py --elsewhere DIR --slide REGEX",
    "release-best": "python model_release.py --config release-best --elsewhere DIR --slide REGEX",
    "release-stages": "python model_release.py --config release-stages",
    "finetune": "python finetune.py DIR --slide REGEX --output plots/finetune",
    "robustness": "python robustness.py",
    "explain": "python explain.py --overwrite",
    "bench": "make bench",
}
FILES = {  # of those without a metrics.json
    "data": "audit.json",
    "bench": "bench.json",
    **dict.fromkeys(("ablation", "ablation-robust"), "ablation.json"),
}


def result_of(study: str) -> str:
    """The name of the file with a study's results."""
    return FILES.get(study, "metrics.json")
