"""predict.py: which paths are taken, where crops may go, and what an error leaves behind."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bloodcells.data.class_names import STAGES


@pytest.fixture
def cell(twelve):
    return min(twelve.rglob("*.png"))


def test_a_path_may_begin_with_a_hyphen(predict, cell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(cell, "-x.png")
    shutil.copy(cell, "y.png")
    outcome = predict("--format", "json", "--", "-x.png", "y.png")
    assert outcome.code == 0, outcome
    assert [row["path"] for row in json.loads(outcome.out)] == ["-x.png", "y.png"]


def test_crops_of_standard_input_may_go_here(predict, cell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(cell.read_bytes())))
    assert predict("-", "--save-crops", ".").code == 0
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_crops_do_not_go_among_images_that_a_glob_names(predict, cell, tmp_path):
    (tmp_path / "photos1").mkdir()
    shutil.copy(cell, tmp_path / "photos1")
    outcome = predict(tmp_path / "photos*", "--save-crops", tmp_path / "photos1" / "crops")
    assert outcome.code == 2
    assert "where the images are; pass another folder" in outcome.err


def test_an_error_leaves_json_that_can_be_read(predict, twelve, monkeypatch, tmp_path):
    one, other, *_ = sorted(twelve.rglob("*.png"))
    calls = []

    def full(path, *_, **__):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("bloodcells.inference.output.write_whole", full)
    flags = ("--format", "json", "--batch-size", 1, "--save-crops", tmp_path / "crops")
    outcome = predict(one, other, *flags)
    assert outcome.code == 2
    assert len(json.loads(outcome.out)) == 1


def test_stages_have_weights_of_their_own(run, fails, twelve, weights):
    outcome = run("predict.py", twelve, "--labels", "stages", "--differential", "--format", "json")
    assert all(tuple(row["probabilities"]) == STAGES for row in json.loads(outcome.out))
    assert "\n  left shift " in outcome.err
    line = fails("predict.py", twelve, "--labels", "stages", "--weights", weights)
    assert "--labels does nothing with --weights" in line


def test_frames_without_a_search_for_the_cell(predict, tmp_path):
    image, path = Image.new("RGB", (100, 50), "white"), tmp_path / "wide.webp"
    image.paste((90, 20, 120), (25, 0, 75, 50))  # the middle square
    image.save(path, lossless=True)

    def seen(*flags):
        crops = tmp_path / "-".join(flags)
        outcome = predict(tmp_path / "*.webp", *flags, "--save-crops", crops)
        assert outcome.code == 0, outcome
        (crop,) = crops.iterdir()
        return np.asarray(Image.open(crop)).astype(int)

    assert abs(seen("--frame", "centre") - (90, 20, 120)).max() < 5
    whole = seen("--frame", "none")
    assert whole[1].min() > 230  # widened by what is at the border
    assert (seen("--crop", "whole") == whole).all()


def test_a_crop_of_an_image_with_a_long_name(predict, cell, tmp_path):
    image = tmp_path / f"{chr(0x1D520) * 58}.png"  # four bytes each, 236 in all
    shutil.copy(cell, image)
    assert predict(image, "--save-crops", tmp_path / "crops").code == 0
    (crop,) = (tmp_path / "crops").iterdir()
    assert Image.open(crop).size == (28, 28)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are text")
def test_a_crop_whose_name_the_locale_cannot_write(cell, tmp_path):
    shutil.copy(cell, image := tmp_path / "Größe č.png")
    command = [sys.executable, "predict.py", image, "--save-crops", tmp_path / "crops"]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, env=os.environ | ascii_only, capture_output=True)
    assert done.returncode == 0, done
    assert [crop.name for crop in (tmp_path / "crops").iterdir()] == ["000001-Gre .png"]


def test_nothing_but_bad_images(predict, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    outcome = predict(tmp_path, "--format", "json")
    assert (outcome.code, json.loads(outcome.out)) == (1, [])


def test_what_to_do_about_a_first_frame_without_a_cell(predict, tmp_path):
    blank = Image.new("RGB", (300, 300), "white")
    blank.save(tmp_path / "a.tif", save_all=True, append_images=[blank])
    told = "no stained cell found; the first of several frames; --frame none takes the whole image"
    assert f"a.tif: {told}\n" in predict(tmp_path / "a.tif").err
