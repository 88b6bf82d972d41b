"""Inputs by the hundred, made by hypothesis: each is used, or refused in one line.

`make test-faults` tries ten thousand (FAULTS=all). What it finds becomes an `example`.
"""

import json
import shutil
import string
import struct
import sys
from argparse import Namespace
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from drawn import noise
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from odd_inputs import EVERY, JSON, TOML, examples, paths_in, refused_in_words, replaced
from parsers import PARSERS
from PIL import Image
from written import metrics_of

import report
from bloodcells import ROOT
from bloodcells.cli.arguments import Parser
from bloodcells.data import class_names, user_images
from bloodcells.data.bloodmnist import CLASS_NAMES
from bloodcells.errors import UserError
from bloodcells.inference.cards import read_card

ODD = ("", " ", "-1", "0", "1", "8", "1e999", "nan", "inf", "-0.0", "1e-320", "9" * 400, "\u0660")
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=20).filter(lambda text: "\0" not in text),
    st.sampled_from(["cnn-best", "data", "weights/cnn-robust.safetensors", "muon", "tpe", "/"]),
)


def flags_of(parse, script, monkeypatch):
    """The flags that a script knows."""
    made = []
    real = Parser.parse_known_args

    def spy(self, *rest, **more):
        made.append(self)
        return real(self, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Parser, "parse_known_args", spy)
        patch.setattr(sys, "argv", [script])
        with suppress(UserError):
            parse(str(ROOT / script))
    return sorted(
        {option for parser in made for a in parser._actions for option in a.option_strings}
    )


@pytest.mark.parametrize("script", PARSERS)
def test_command_lines(script, monkeypatch, capfd):
    options = flags_of(PARSERS[script], script, monkeypatch)
    words = st.lists(st.one_of(st.sampled_from(options), VALUES), max_size=6)

    @examples(20, 300)
    @given(words)
    @example(["--output", ""])
    @example(["--output="])
    @example(["--config", "\n"])
    @example(["--seed", "\u0661"])
    def parses_or_says_why(line):
        assume(not {"-h", "--help"} & set(line))
        monkeypatch.setattr(sys, "argv", [script, *line])
        with refused_in_words():
            PARSERS[script](str(ROOT / script))

    parses_or_says_why()


@pytest.mark.parametrize("script", ["model_cnn.py", "model_parameter_tuning.py", "robustness.py"])
def test_presets(script, monkeypatch, tmp_path):
    names = [x[2:] for x in flags_of(PARSERS[script], script, monkeypatch) if x.startswith("--")]
    path = tmp_path / "odd.toml"

    @examples(40, 400)
    @given(st.dictionaries(st.sampled_from([*names, "space", "base", "x"]), TOML, max_size=4))
    @example({"space": 3})
    @example({"base": "odd"})
    @example({"config": "odd.toml"})
    def read_or_refused(content):
        text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in content.items())
        path.write_text(text.replace("NaN", "nan").replace("Infinity", "inf"), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", [script, "--config", str(path)])
        with refused_in_words():
            PARSERS[script](str(ROOT / script))

    read_or_refused()


def whole_images(mode, form):
    """A small file of images as bytes."""
    file = BytesIO()
    pixels = noise(40, 36, 3)
    if form == "NPY":
        np.save(file, pixels)
    elif form == "NPZ":
        np.savez(file, images=pixels)
    else:
        Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


FILES = {
    f"{form}-{mode}": whole_images(mode, form)
    for form, modes in {
        "PNG": ("RGB", "RGBA", "L", "P", "1"),
        "JPEG": ("RGB", "L", "CMYK"),
        "TIFF": ("RGB", "CMYK", "F"),
        "BMP": ("RGB",),
        "GIF": ("P",),
        "NPY": ("RGB",),
        "NPZ": ("RGB",),
    }.items()
    for mode in modes
}


def usable_or_refused(path):
    """Each image is uint8 RGB of the final size, or has a reason why not."""
    images = list(user_images.read([str(path)], 28, "centre"))
    assert images
    for image in images:
        if image.problem is None:
            assert image.pixels.dtype == np.uint8
            assert image.pixels.shape == (28, 28, 3)
        else:
            assert image.problem.strip()
            assert image.pixels is None


@examples(60, 3000)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), max_size=6),
    st.integers(0, 6000),
)
def test_damaged_images(tmp_path, name, changes, kept):
    content = bytearray(FILES[name])
    for place, new in changes:
        content[place : place + len(new)] = new
    path = tmp_path / f"odd.{name.partition('-')[0].lower()}"
    path.write_bytes(content[:kept] if kept < len(content) else content)
    usable_or_refused(path)


@examples(60, 3000)
@given(
    arrays.arrays(
        st.one_of(
            *(arrays.integer_dtypes(endianness=e) for e in "<>"),
            *(arrays.floating_dtypes(endianness=e) for e in "<>"),
            st.sampled_from([np.dtype(bool), np.dtype(complex), np.dtype("U3")]),
        ),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=20),
        fill=st.nothing() if EVERY else None,
    ),
    st.booleans(),
)
@example(np.full((1, 28, 28, 3), np.nan), False)
@example(np.full((28, 28, 3), 2**63, np.uint64), True)
def test_arrays(tmp_path, array, fortran):
    path = tmp_path / "odd.npy"
    np.save(path, np.asfortranarray(array) if fortran else array)
    usable_or_refused(path)


@examples(30, 500)
@given(st.binary(max_size=200), st.sampled_from(["npy", "npz", "png", "tiff"]))
@example(b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000), "npy")
def test_files_of_anything(tmp_path, content, suffix):
    path = tmp_path / f"odd.{suffix}"
    path.write_bytes(content)
    usable_or_refused(path)


CARD = json.loads((ROOT / "weights" / "cnn-robust.json").read_text(encoding="utf-8"))


@examples(60, 1500)
@given(st.sampled_from(list(paths_in(CARD))), JSON)
@example(("calibration", "1", "temperature"), 10**400)
@example(("frequencies", 0), 1e-320)
def test_cards(path, new):
    with suppress(ValueError):
        card = read_card(json.dumps(replaced(CARD, path, new)))
        assert len(card["frequencies"]) == len(card["classes"])


@pytest.fixture(scope="module")
def finished(quick_run):
    """The metrics of a finished run."""
    return quick_run, metrics_of(quick_run)


def test_run_folders(finished, tmp_path, monkeypatch, capsys):
    source, metrics = finished
    monkeypatch.setattr(report, "write_comparison", lambda *rest: None)  # a second each
    odd = tmp_path / "odd"
    shutil.copytree(source, odd)
    asked = Namespace(compare=[source, odd], plots=tmp_path, data_root=None)

    @examples(60, 1000)
    @given(st.sampled_from(list(paths_in(metrics))), JSON)
    def compared_or_refused(path, new):
        (odd / "metrics.json").write_text(json.dumps(replaced(metrics, path, new)))
        with refused_in_words():
            report.compare(asked)

    compared_or_refused()


@examples(60, 600)
@given(st.text(max_size=30))
@example("neutrophils")
@example("_-")
def test_names_of_classes(name):
    assert class_names.Names(CLASS_NAMES).meaning(name) in (None, *CLASS_NAMES)


@examples(30, 300)
@given(st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), TOML, max_size=3))
def test_files_of_names(tmp_path, content):
    path = tmp_path / "names.toml"
    lines = (f"{key} = {json.dumps(value)}" for key, value in content.items())
    path.write_text("\n".join(lines), encoding="utf-8")
    with refused_in_words():
        class_names.Names(CLASS_NAMES, path)
