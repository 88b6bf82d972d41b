"""hubconf.py: the network for other programs, and the folder for the Hugging Face hub."""

import ast
import copy
import io
import json
import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from drawn import field, noise, png_of
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from shared import ROOT

import hubconf
from bloodcells.data import preparation

OTHER_PROGRAM = """
    import json, sys
    import numpy as np, torch
    from PIL import Image
    import models, data, training
    before = list(sys.path)
    network = torch.hub.load(sys.argv[1], "cellnet", source="local", trust_repo=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    from_array = network.predict(images)
    from_pil = network.predict([Image.fromarray(one) for one in images])
    again = torch.hub.load(sys.argv[1], "cellnet", source="local", views=8).predict(images)
    assert models.MINE and data.MINE and training.MINE
    assert sys.modules["models"] is models and sys.path == before
    names = {name.partition(".")[0] for name in sys.modules
             if str(getattr(sys.modules[name], "__file__", "")).startswith(sys.argv[1] + "/")
             and "site-packages" not in str(sys.modules[name].__file__)}
    print(json.dumps([from_array.tolist(), from_pil.tolist(), again.tolist(), sorted(names)]))
"""


def test_in_a_program_with_modules_of_the_same_names(tmp_path):
    for name in ("models", "data", "training"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    (tmp_path / "program.py").write_text(textwrap.dedent(OTHER_PROGRAM))
    done = subprocess.run(
        [sys.executable, "program.py", str(ROOT)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    from_array, from_pil, again, names = json.loads(done.stdout)
    assert from_array == from_pil
    assert from_array != again
    assert np.sum(from_array, axis=1) == pytest.approx(1, abs=1e-5)
    assert set(names) <= {"bloodcells", "hubconf"}


def test_the_entry_points_are_listed():
    """As `torch.hub.list` finds them."""
    shown = [name for name in dir(hubconf) if callable(getattr(hubconf, name))]
    assert shown == ["cellnet"]


def test_arrays_of_another_laboratory_and_what_is_unlike():
    network = hubconf.cellnet()
    cells = noise(6, 28, 28, 3)
    at_home, elsewhere = network.predict(cells), network.predict(cells, foreign=True)
    weighed = at_home / torch.from_numpy(network.model.frequencies)
    expected = weighed / weighed.sum(1, keepdim=True)
    torch.testing.assert_close(elsewhere, expected.float(), rtol=1e-4, atol=1e-5)
    _, distances = network.classifier(torch.from_numpy(cells))
    assert network.unlike(cells).tolist() == (distances > network.model.farthest).tolist()
    assert network.unlike(np.empty((0, 28, 28, 3), np.uint8)).shape == (0,)


def test_images_that_cannot_be_classified():
    network = hubconf.cellnet()
    assert network.predict(np.empty((0, 28, 28, 3), np.uint8)).shape == (0, 8)
    with pytest.raises(ValueError, match="float32"):
        network.predict(torch.zeros(2, 28, 28, 3))
    with pytest.raises(ValueError, match=r"\(2, 3, 28, 28\)"):
        network.predict(np.zeros((2, 3, 28, 28), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        network.predict(np.array(3, np.uint8))
    with pytest.raises(ValueError, match="no frame 'middle'"):
        network.predict([], frame="middle")
    with pytest.raises(ValueError, match="no frame 'middle'"):
        network.predict(np.zeros((1, 28, 28, 3), np.uint8), frame="middle")
    with pytest.raises(ValueError, match="image 1: no stained cell found"):
        network.predict([Image.new("RGB", (28, 28)), Image.new("RGB", (300, 200), "white")])
    content = io.BytesIO()
    Image.effect_noise((300, 200), 50).save(content, "PNG")
    cut = Image.open(io.BytesIO(content.getvalue()[:5000]))
    with pytest.raises(ValueError, match="image 0: "):
        network.predict([cut])
    with pytest.raises(ValueError, match="views"):
        hubconf.cellnet(views=2)
    with pytest.raises(ValueError, match="is missing"):
        hubconf.cellnet("none")


def test_weights_of_one_s_own(tmp_path):
    for kind in ("safetensors", "json"):
        shutil.copy(ROOT / "weights" / f"cnn-best.{kind}", tmp_path / f"mine.{kind}")
    mine, released = hubconf.cellnet(str(tmp_path / "mine")), hubconf.cellnet("cnn-best")
    cells = noise(3, 28, 28, 3)
    assert torch.equal(mine.predict(cells), released.predict(cells))


def test_frame():
    network, image = hubconf.cellnet(), field((224, 224), (150, 130, 25))
    by_default, framed, whole = (
        network.predict([image], frame=frame) for frame in ("auto", "cell", "none")
    )
    assert torch.equal(by_default, whole)
    assert not torch.allclose(framed, whole, atol=0.01)


def test_pictures_are_turned_and_weighed_as_another_laboratory_s():
    network, cell = hubconf.cellnet(), field((224, 224), (150, 130, 25))
    pixels = preparation.prepare(cell, 28, "none").pixels
    expected = network.predict(pixels[None], foreign=True)
    torch.testing.assert_close(network.predict([cell]), expected)
    small = Image.fromarray(pixels)  # of the final size, so taken as the data set's own
    assert not torch.allclose(network.predict([small]), expected, atol=1e-3)
    torch.testing.assert_close(network.predict([small], foreign=True), expected)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned by 90 degrees
    cell.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    torch.testing.assert_close(network.predict([Image.open(file)]), expected)


def test_16_bit_colours_that_are_misread_are_refused():
    row = b"\0" + (noise(1, 28, 3).astype(int) * 16).astype(">u2").tobytes()  # of 12 bits
    picture = Image.open(io.BytesIO(png_of(28, 28, 16, row * 28)))
    with pytest.raises(ValueError, match="image 0: 16-bit colour of which few bits are used"):
        hubconf.cellnet().predict([picture])


def test_a_copy_answers_alike():
    network = hubconf.cellnet()
    images = noise(2, 28, 28, 3)
    assert torch.equal(copy.deepcopy(network).predict(images), network.predict(images))


def test_the_caller_s_settings_stay(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)  # to which the scripts would keep
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for settings in ({"weights": "cnn-best", "views": 8}, {"device": "auto"}):
            hubconf.cellnet(**settings)
            assert torch.backends.cudnn.allow_tf32
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_accuracy_on_real_images(real_dataset):
    sample = real_dataset.test.sample(200, 0)
    probabilities = hubconf.cellnet().predict(sample.images)
    assert (probabilities.argmax(1).numpy() == sample.labels).mean() >= 0.95


def test_folder_for_the_hub(run, tmp_path):
    folder = tmp_path / "exported"
    outcome = run("hubconf.py", folder)
    assert outcome.code == 0, outcome
    assert sorted(path.name for path in folder.iterdir()) == [
        *("LICENSE", "README.md", "config.json", "model.safetensors", "models.py"),
    ]
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "image-classification"
    accuracies = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert 0.9 < accuracies["accuracy, one view"] <= accuracies["accuracy, eight views"]
    assert re.findall(r"\]\((?!https?:|#)", card.text) == []
    assert card.text.lstrip().startswith(
        "# Model card: RobustNet for BloodMNIST, 28 pixels\n\n> This"
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"]["7"] == config["classes"][7] == "platelet"
    weights = load_file(folder / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    black = hubconf.cellnet().predict(np.zeros((1, 28, 28, 3), np.uint8))[0].tolist()
    assert ast.literal_eval(done.stdout) == pytest.approx(
        dict(zip(config["classes"], black, strict=True)), abs=1e-4
    )


def test_folders_that_are_not_written(run, fails, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    assert "it holds other files" in fails("hubconf.py", tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"
    (tmp_path / "mine" / "README.md").rename(tmp_path / "mine" / "config.json")
    assert "it holds other files" in fails("hubconf.py", tmp_path / "mine")
    assert run("hubconf.py", tmp_path / "exported").code == 0
    (tmp_path / "exported" / ".writing-killed").mkdir()
    assert run("hubconf.py", tmp_path / "exported").code == 0
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "weights", copy / "weights")
    monkeypatch.setattr("bloodcells.reporting.hub_export.ROOT", copy)
    assert "metrics.json: cannot be read; run python model_release.py" in fails(
        "hubconf.py", tmp_path / "new"
    )
    with (copy / "weights" / "cnn-robust.safetensors").open("ab") as file:
        file.write(b"more")
    assert "damaged: its MD5 is not" in fails("hubconf.py", tmp_path / "new")
    assert not (tmp_path / "new").exists()
