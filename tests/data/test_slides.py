"""Slides by the names of files."""

import unicodedata

import pytest

from bloodcells.data.slides import check_pattern, slides_of
from bloodcells.errors import UserError

FILES = ["a/x-2_1.png", "b/y-1_1.png", "x-2_10.png"]


def test_a_slide_is_what_matches_at_the_beginning():
    assert slides_of(FILES, "[^_]+").tolist() == [0, 1, 0]
    assert slides_of(FILES, ".").tolist() == [0, 1, 0]


def test_the_first_group_is_the_slide():
    assert slides_of([*FILES, "flip-x-2_3.png"], "(?:flip-)?[xy]-([^_]+)").tolist() == [1, 0, 1, 1]
    with pytest.raises(UserError, match=r"x-2_1.png: its name does not begin so"):
        slides_of(FILES, "x|(y)")  # a group without a match


def test_what_tells_no_slides():
    with pytest.raises(UserError, match=r"--slide x: b/y-1_1.png: its name does not begin so"):
        slides_of(FILES, "x")
    with pytest.raises(UserError, match="all images are of one slide, 'x-2'"):
        slides_of(FILES[::2], "[^_]+")


def test_a_pattern_that_matches_whole_names_is_told(capsys):
    crops = [f"c/{number:06}-{'7b' if number < 6 else '9c'}_01.png" for number in range(12)]
    check_pattern(crops, r"\d+-([^_]+)")
    assert capsys.readouterr().err == ""
    check_pattern(crops, "[^_]+")
    assert "12 images would be of 12 slides; does the pattern" in capsys.readouterr().err


def test_accents_taken_apart_are_the_same_slide():
    names = ["Größe_1.png", "Höhe_1.png", unicodedata.normalize("NFD", "Größe_2.png")]
    assert slides_of(names, "[^_]+").tolist() == [0, 1, 0]
    for form in ("NFC", "NFD"):
        pattern = unicodedata.normalize(form, "(Größe|Höhe)_")
        assert slides_of(names, pattern).tolist() == [0, 1, 0]


def test_as_many_slides_as_half_the_images_are_not_asked_about(capsys):
    check_pattern([f"{n // 2}_{n}.png" for n in range(12)], "[^_]+")
    assert capsys.readouterr().err == ""
    check_pattern([f"{min(n, 6)}_{n}.png" for n in range(12)], "[^_]+")
    assert "12 images would be of 7 slides" in capsys.readouterr().err
