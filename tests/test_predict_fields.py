"""predict.py --detect and --differential: the cells of a field of view, counted."""

import csv
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from drawn import field
from PIL import Image, ImageDraw
from written import complaints, metrics_of

from bloodcells.data import user_images


def test_a_field_of_view(predict, fails, weights, tmp_path):
    image = field((400, 300), (80, 150, 30), (200, 150, 30), (320, 150, 30))
    image.save(tmp_path / "field.png")
    flags = ("--detect", "--output", tmp_path / "run", "--format", "json")
    outcome = predict(tmp_path / "field.png", *flags)
    assert outcome.code == 0, outcome
    rows = json.loads(outcome.out)
    assert [row["path"].rpartition("#")[2] for row in rows] == ["1", "2", "3"]
    assert [row["x"] for row in rows] == pytest.approx([80, 200, 320], abs=2)
    assert complaints(tmp_path / "run" / "metrics.json") == []
    counted = metrics_of(tmp_path / "run")["differential"]
    for row in counted:
        assert row["count"] == sum(one["label"] == row["class"] for one in rows)
        if "share" in row:
            assert (
                f"\n  {row['class']:20} {row['count']:6}   {100 * row['share']:5.1f} ["
                in outcome.err
            )
    boxed = np.asarray(Image.open(tmp_path / "run" / "field-001.png")).astype(int)
    assert boxed.shape == (300, 400, 3)
    assert (abs(boxed - (220, 20, 60)).sum(2) == 0).sum() > 500
    Image.new("RGB", (400, 300), "white").save(tmp_path / "blank.png")
    outcome = predict(tmp_path / "blank.png", "--detect")
    assert (outcome.code, "blank.png: no stained cell found\n" in outcome.err) == (1, True)
    image.save(tmp_path / "pages.tif", save_all=True, append_images=[image])
    outcome = predict(tmp_path / "pages.tif", "--detect")
    assert outcome.err.count("the first of several frames") == 1
    for other in (("--labelled",), ("--crop", "200"), ("--frame", "none")):
        line = fails("predict.py", tmp_path, "--weights", weights, "--detect", *other)
        assert "--detect: not allowed with" in line
    line = fails("predict.py", "-", "--weights", weights, *flags)
    assert "--output: not allowed with --detect and standard input" in line
    np.save(tmp_path / "fields.npy", np.asarray(image)[None])
    outcome = predict(tmp_path / "fields.npy", "--detect")
    assert (outcome.code, "--detect needs pictures" in outcome.err) == (1, True)


def test_squares_are_those_of_the_field_turned_upright(predict, tmp_path):
    upright = field((400, 300), (80, 150, 30), (320, 100, 30))
    exif = Image.Exif()
    exif[274] = 6  # shown turned by 90 degrees clockwise
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    found = [
        [
            {key: row[key] for key in ("label", "probabilities", "x", "y", "side")}
            for row in json.loads(predict(tmp_path / name, "--detect", "--format", "json").out)
        ]
        for name in ("upright.png", "turned.png")
    ]
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_a_large_field_warns_of_nuclei_too_small_to_find(predict, tmp_path):
    for name, disks in (("some", [(2000, 60, 45), (400, 60, 45)]), ("none", [])):
        field((4200, 120), *disks).save(tmp_path / f"{name}.png")
    field((3500, 120), (2000, 60, 45)).save(tmp_path / "small.png")
    outcome = predict(tmp_path, "--detect")
    missed = "nuclei under 33 pixels across are missed: cut it into parts"
    assert f"some.png#1: {missed}" in outcome.err
    assert f"none.png: no stained cell found; {missed}" in outcome.err
    assert outcome.err.count("are missed") == 2


def test_the_picture_has_the_numbers_of_the_table(predict, tmp_path, monkeypatch):
    """A cell that is too small to be classified keeps its number."""
    written, text = [], ImageDraw.ImageDraw.text

    def spy(self, place, words, *rest, **more):
        written.append(words.split()[0])
        return text(self, place, words, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    slide = tmp_path / "slide"
    slide.mkdir()
    field((200, 150), (40, 75, 6), (100, 50, 3.2), (160, 75, 6)).save(slide / "b.png")
    field((200, 150)).save(slide / "a.png")  # without a cell
    outcome = predict(slide, "--detect", "--output", tmp_path / "run")
    assert "b.png#1: " in outcome.err
    assert "predict.py: 1 image and 1 cell could not be used\n" in outcome.err
    images = metrics_of(tmp_path / "run")["images"]
    assert (images["classified"], images["unusable"], images["unusable_cells"]) == (2, 1, 1)
    with (tmp_path / "run" / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"].rpartition("#")[2] for row in rows] == written == ["2", "3"]
    assert {row["picture"] for row in rows} == {"field-001.png"}


def test_counts_of_single_cells(predict, twelve):
    outcome = predict(twelve, "--differential", "--format", "json")
    labels = Counter(row["label"] for row in json.loads(outcome.out))
    for name, count in labels.items():
        assert re.search(rf"\n  {name} +{count}\b", outcome.err)


def test_crops_do_not_go_among_others(predict, fails, weights, tmp_path):
    image, crops = tmp_path / "cell.png", tmp_path / "crops"
    field((28, 28), (14, 14, 6)).save(image)
    assert predict(image, "--save-crops", crops).code == 0
    assert Image.open(crops / "000001-cell.png").size == (28, 28)
    line = fails("predict.py", image, "--weights", weights, "--save-crops", crops)
    assert "crops: it holds 000001-cell.png" in line


def test_photographs_are_never_replaced(fails, weights, tmp_path):
    """Not those to classify, nor others that have the name of a picture of the run folder."""
    photograph = tmp_path / "slide" / "field-1.png"
    photograph.parent.mkdir()
    field((200, 150), (100, 75, 30)).save(photograph)
    before = photograph.read_bytes()
    flags = ("--weights", weights, "--detect", photograph.parent)
    for flag in ("--output", "--save-crops"):
        line = fails("predict.py", *flags, flag, tmp_path / "slide" / ".")
        assert "images are there" in line
        line = fails("predict.py", *flags, flag, tmp_path / "slide" / "cells")
        assert "where the images are" in line
        line = fails("predict.py", *flags[:3], tmp_path, flag, tmp_path)  # the images lie deeper
        assert "where the images are" in line
    (tmp_path / "today").mkdir()
    (tmp_path / "today" / "a.png").symlink_to(photograph)
    link = ("--weights", weights, "--detect", tmp_path / "today")
    assert "images are there" in fails("predict.py", *link, "--output", photograph.parent)
    assert "images are there" in fails(
        "predict.py", *link[:3], tmp_path / "today" / "a.png", "--output", tmp_path / "today"
    )
    shutil.copytree(photograph.parent, tmp_path / "other")
    line = fails("predict.py", *flags[:3], photograph, "--output", tmp_path / "other")
    assert "other: it holds field-1.png, but no readable results of predict.py" in line
    assert (tmp_path / "other" / "field-1.png").read_bytes() == photograph.read_bytes() == before


def test_a_link_to_itself_among_the_images(predict, tmp_path):
    folder = tmp_path / "slide"
    folder.mkdir()
    (folder / "a.png").symlink_to(folder / "a.png")
    field((200, 150), (100, 75, 30)).save(folder / "b.png")
    outcome = predict(folder, "--save-crops", tmp_path / "crops")
    assert outcome.code == 1, outcome
    assert "not a regular file, or gone" in outcome.err
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["000001-b.png"]


def test_one_folder_for_different_questions(predict, sorted_cells, tmp_path):
    field((200, 150), (100, 75, 30)).save(tmp_path / "field.png")
    assert predict(sorted_cells(8), "--labelled", "--output", tmp_path / "run").code == 0
    for _ in range(2):
        assert predict(tmp_path / "field.png", "--detect", "--output", tmp_path / "run").code == 0
        (tmp_path / "run" / "field-001-mine.png").touch()  # the user's own
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"cells.csv", "field-001.png", "field-001-mine.png", "metrics.json"}


def test_a_field_that_is_gone_when_it_is_drawn(predict, tmp_path, monkeypatch):
    photograph, detect = tmp_path / "field.png", user_images.read
    field((200, 150), (100, 75, 6)).save(photograph)

    def gone(*given):
        yield from detect(*given)
        photograph.unlink()

    monkeypatch.setattr(user_images, "read", gone)
    outcome = predict(photograph, "--detect", "--output", tmp_path / "run")
    assert outcome.code == 2
    assert f"{photograph}: cannot be read any more" in outcome.err


def test_cells_of_a_field_are_another_laboratory_s_and_lie_where_they_are(predict, tmp_path):
    field((400, 300), (80, 150, 30), (200, 100, 30), (320, 200, 30)).save(tmp_path / "field.png")
    outcome = predict(tmp_path / "field.png", "--detect", "--format", "json")
    rows = sorted(json.loads(outcome.out), key=lambda row: row["x"])
    assert [row["y"] for row in rows] == pytest.approx([150, 100, 200], abs=2)
    assert [row["side"] for row in rows] == pytest.approx([30 * (np.pi / 0.26) ** 0.5] * 3, rel=0.1)
    assert all(row["foreign"] for row in rows)
    assert "3 of 3 cells are taken as another laboratory's" in outcome.err
