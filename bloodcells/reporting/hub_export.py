"""The released network as a folder for the Hugging Face hub."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch

from bloodcells import ROOT
from bloodcells.errors import UserError
from bloodcells.inference.classifier import load_classifier
from bloodcells.reporting.tables.reading import read_study
from bloodcells.tracking import run_folder
from bloodcells.tracking.files import read_entry

MODEL_TYPE = "cellnet"  # in config.json
EXPORTED = {"LICENSE", "README.md", "config.json", "model.safetensors", "models.py"}
METADATA = """---
license: mit
library_name: pytorch
pipeline_tag: image-classification
tags:
- pytorch
- safetensors
- biology
- medical
- microscopy
- blood-cells
model-index:
- name: {name}
  results:
  - task:
      type: image-classification
    dataset:
      name: BloodMNIST, 28 pixels
      type: medmnist-v2
      config: bloodmnist
      split: test
    metrics:
    - type: accuracy
      name: accuracy, one view
      value: {one}
    - type: accuracy
      name: accuracy, eight views
      value: {eight}
---
"""
ORIGIN = """
> This card was written for the repository that the model comes from. Its figures, scripts and other
> documents, and the files that it names, are there; here, the weights are `model.safetensors`.
"""
USE = """
## Use this folder

Beside `models.py`, with torch and safetensors:

```python
import json

import torch
from safetensors.torch import load_file

import models

with open("config.json") as file:
    card = json.load(file)
network = models.build(card["model"], card["size"], card["widths"]).eval()
state = load_file("model.safetensors")
prefix = "network."
network.load_state_dict(
    {k.removeprefix(prefix): w.float() for k, w in state.items() if k.startswith(prefix)}
)
images = torch.zeros(1, 3, 28, 28)  # pixels from 0 to 255
with torch.inference_mode():
    logits = network(images / 127.5 - 1)
probabilities = (logits.log_softmax(1) / card["calibration"]["1"]["temperature"]).softmax(1)
print(dict(zip(card["classes"], probabilities[0].tolist())))
```
"""


def export_for_hub(folder: Path, name: str) -> None:
    """Write the released network `name` as a folder that the hub's conventions accept.

    Raises `UserError` if it cannot be written.
    """
    source = ROOT / "weights" / f"{name}.safetensors"
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    there = {file for file in there if not file.startswith(".")}  # those are of a killed process
    if there - EXPORTED or (there and not is_exported(folder / "config.json")):
        raise UserError(
            f"{folder}: it holds other files, or an unfinished export; pass a new folder"
        )
    load_classifier(source, 1, torch.device("cpu"))  # raises for a damaged pair
    card = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
    accuracy = read_study(ROOT / "plots", "release")["released"]["accuracy"]
    metadata = METADATA.format(name=name, one=accuracy["1"], eight=accuracy["8"])
    text = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    config = {
        "architectures": [card["model"]],
        "model_type": MODEL_TYPE,
        "id2label": {str(number): label for number, label in enumerate(card["classes"])},
        "label2id": {label: number for number, label in enumerate(card["classes"])},
        **card,
    }

    def fill(scratch: Path) -> None:
        shutil.copyfile(source, scratch / "model.safetensors")
        for file in ("LICENSE", "models.py"):
            shutil.copyfile(ROOT / file, scratch / file)
        heading, body = without_links(text).split("\n", 1)
        readme = f"{metadata}{heading}\n{ORIGIN}{body}{USE}"
        (scratch / "README.md").write_text(readme, encoding="utf-8")
        run_folder.write_json(scratch / "config.json", config)

    run_folder.prepare(folder, flag="FOLDER")
    run_folder.write(folder, fill, last="config.json")


def is_exported(path: Path) -> bool:
    """Whether a file is the config.json of a folder that `export_for_hub` wrote."""
    return read_entry(path, "model_type") == MODEL_TYPE


def without_links(text: str) -> str:
    """Markdown without images, and without links to files that only the repository has."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)
