"""A user's image files are found, and what is not read is told."""

import os
import sys

import pytest
from PIL import Image

from bloodcells.data import image_files
from bloodcells.errors import UserError


def test_find_takes_files_folders_and_globs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.png", "b/1.JFIF", "b/deep/3.npy", "b/notes.txt", "b/.hidden.png", "a[1].png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    in_b = [
        os.path.join("b", "1.JFIF"),
        os.path.join("b", "2.png"),
        os.path.join("b", "deep", "3.npy"),
    ]
    assert image_files.find(["b"]) == in_b
    again = ["b/2.png", "b/../b/2.png", str(tmp_path / "b" / "2.png")]
    assert image_files.find(["a[1].png", "b", *again]) == ["a[1].png", *in_b]
    assert image_files.find([os.path.join("b", "*.png")]) == in_b[1:2]
    assert image_files.find(["b*", "a*"]) == [*in_b, "a[1].png"]
    for wrong in ("c", "b/*.bmp", "b/deep/none/"):
        with pytest.raises(UserError, match="no such file"):
            image_files.find([wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images there"):
        image_files.find(["empty"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' paths are shorter")
def test_folders_nested_too_deeply(tmp_path):
    deep = str(tmp_path)
    for _ in range(1100):
        deep = os.path.join(deep, "a")
        os.mkdir(deep)
    Image.new("RGB", (28, 28)).save(os.path.join(deep, "cell.png"))
    try:
        found = image_files.find([str(tmp_path)])
    except UserError as error:  # where Python walks by recursion
        found = [str(error)]
    os.remove(os.path.join(deep, "cell.png"))
    os.removedirs(deep)  # which pytest cannot
    (one,) = found
    assert one.endswith("cell.png") or "nested too deeply" in one


def test_an_empty_folder_beside_a_full_one_is_no_success(tmp_path):
    for name in ("full", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "a.png").touch()
    with pytest.raises(UserError, match="empty: no images there"):
        image_files.find([str(tmp_path / "full"), str(tmp_path / "empty")])


def test_images_in_other_formats_are_told(tmp_path, capsys):
    for name in ("1.png", "2.HEIC", "deep/3.czi", "4.txt", ".5.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_files.find([str(tmp_path)]) == [str(tmp_path / "1.png")]
    told = "in formats that are not read (.czi .heic): save them as PNG or TIFF\n"
    assert capsys.readouterr().err == f"{tmp_path}: without 2 images {told}"
    (tmp_path / "2.HEIC").unlink()
    image_files.find([str(tmp_path)])
    assert f"{tmp_path}: without 1 image in" in capsys.readouterr().err
