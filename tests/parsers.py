"""The parser of each script, to try command lines without running them."""

from bloodcells.cli import own_images, scripts, studies, tools

PARSERS = {
    "model_baseline.py": scripts.parse_baseline,
    "model_cnn.py": scripts.parse_cnn,
    "ablation.py": studies.parse_ablation,
    "explain.py": studies.parse_explain,
    "batch_effect.py": studies.parse_batch_effect,
    "model_parameter_tuning.py": scripts.parse_search,
    "data_visualization.py": scripts.parse_data,
    "bench.py": scripts.parse_bench,
    "robustness.py": scripts.parse_robustness,
    "model_release.py": scripts.parse_release,
    "architecture.py": tools.parse_architecture,
    "predict.py": own_images.parse_predict,
    "finetune.py": own_images.parse_finetune,
    "report.py": tools.parse_report,
    "demo.py": own_images.parse_demo,
    "hubconf.py": tools.parse_hub,
}
