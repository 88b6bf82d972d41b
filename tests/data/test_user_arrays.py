"""Arrays of images that a user passes: shapes, types, brightness, and what is refused."""

import io
import zipfile

import numpy as np
import pytest
from drawn import noise

from bloodcells.data import user_arrays, user_images
from bloodcells.data.user_images import BadImageError


@pytest.mark.parametrize(
    "shape", [(28, 28), (28, 28, 1), (28, 28, 3), (5, 28, 28), (5, 28, 28, 1), (5, 40, 28, 4)]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32", "float64"])
def test_arrays_of_any_shape_and_type(tmp_path, shape, dtype):
    values = noise(*shape).astype(dtype)
    np.save(tmp_path / "a.npy", values / 255 if values.dtype.kind == "f" else values)
    cells = list(user_images.read([str(tmp_path / "a.npy")], 28, "none"))
    assert len(cells) == (5 if shape[0] == 5 else 1)
    assert all(cell.pixels.shape == (28, 28, 3) for cell in cells)
    if shape == (28, 28):
        assert (cells[0].pixels == values[..., None]).all()


@pytest.mark.parametrize("top", [256, 1023, 16_383])
def test_integers_that_fill_little_of_the_range_are_refused(tmp_path, top):
    values = noise(2, 28, 28, 3).astype("uint16")
    values[0, 0, 0] = top
    np.save(tmp_path / "a.npy", values)
    (cell,) = user_images.read([str(tmp_path / "a.npy")], 28, "none")
    assert cell.problem.startswith(f"values up to {top}, few of 0 to ")


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_images_of_several_sizes_in_one_array(tmp_path, ending):
    images = np.empty(2, object)
    images[:] = noise(28, 28, 3), noise(30, 30, 3)
    if ending == "npy":
        np.save(tmp_path / "a.npy", images, allow_pickle=True)
    else:
        np.savez(tmp_path / "a.npz", images=images)
    (cell,) = user_images.read([str(tmp_path / f"a.{ending}")], 28, "none")
    assert cell.problem == "holds objects, perhaps images of several sizes"


def test_npz_takes_the_arrays_of_images(tmp_path):
    images = noise(3, 28, 28, 3)
    np.savez(tmp_path / "a.npz", test_images=images, train_images=images[:2], labels=np.arange(3))
    cells = list(user_images.read([str(tmp_path / "a.npz")], 28, "auto"))
    assert [cell.name.rpartition("a.npz")[2] for cell in cells] == [
        *(f":test_images[{i}]" for i in range(3)),
        *(f":train_images[{i}]" for i in range(2)),
    ]
    assert {cell.file for cell in cells} == {str(tmp_path / "a.npz")}


def test_npz_whose_parts_are_no_arrays_of_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.txt", "no array")
        file = io.BytesIO()
        np.save(file, np.zeros((28, 28, 3), np.uint8))
        archive.writestr("image.npy", file.getvalue())
    cells = list(user_images.read([str(tmp_path / "a.npz")], 28, "auto"))
    assert [cell.pixels is None for cell in cells] == [True, False]
    zipfile.ZipFile(tmp_path / "b.npz", "w").close()
    (empty,) = user_images.read([str(tmp_path / "b.npz")], 28, "auto")
    assert "holds no arrays" in empty.problem


def test_npz_that_claims_more_than_fits_into_memory(tmp_path):
    header = io.BytesIO()
    claimed = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 28, 28, 3)}
    np.lib.format.write_array_header_1_0(header, claimed)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue())
    (cell,) = user_images.read([str(tmp_path / "a.npz")], 28, "auto")
    assert cell.problem == "does not fit into memory"


def test_npz_whose_parts_share_a_name_but_for_the_suffix(tmp_path, monkeypatch):
    """The size that counts is that of the part that is read."""
    monkeypatch.setattr(user_arrays, "MOST_BYTES", 5000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, shape in (("image", (3, 28, 28, 3)), ("image.npy", (28, 28, 3))):
            file = io.BytesIO()
            np.save(file, np.zeros(shape, np.uint8))
            archive.writestr(name, file.getvalue())
    cells = list(user_images.read([str(tmp_path / "a.npz")], 28, "auto"))
    assert any("over 4 GiB" in str(cell.problem) for cell in cells)


@pytest.mark.parametrize("dtype", ["uint16", "float64"])
def test_brightness_of_a_stack_is_that_of_its_brightest_chunk(monkeypatch, dtype):
    monkeypatch.setattr(user_arrays, "CHUNK", 100)
    stack = np.zeros((9, 28, 28, 3), dtype)
    stack[7, 3, 3] = 3000 if dtype == "uint16" else 3.0
    assert user_arrays.full_scale(stack) == (4095 if dtype == "uint16" else 255)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_image_of_an_array_spoils_no_other(tmp_path, bad):
    values = np.full((3, 28, 28, 3), 0.5, np.float32)
    values[1, 0, 0] = bad
    np.save(tmp_path / "a.npy", values)
    cells = list(user_images.read([str(tmp_path / "a.npy")], 28, "auto"))
    assert [cell.problem is None for cell in cells] == [True, False, True]
    assert cells[1].name.endswith("a.npy[1]")
    assert str(bad) in cells[1].problem
    assert (cells[0].pixels == 128).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 3, 4, 5, 6)), "shape (2, 3, 4, 5, 6)"),
        (np.zeros((0, 28, 28, 3)), "shape (0, 28, 28, 3)"),
        (np.zeros((28, 28), complex), "holds complex128"),
        (np.full((28, 28), "a"), "holds <U1"),
    ],
)
def test_arrays_that_are_no_images(values, reason):
    with pytest.raises(BadImageError) as raised:
        user_arrays.to_stack(values)
    assert reason in str(raised.value)


@pytest.mark.parametrize("value", [-1, 70_000, -0.5, 300.0, np.inf, np.nan])
def test_values_out_of_range(value):
    values = np.array([[0, value]])
    with pytest.raises(BadImageError, match="values of"):
        user_arrays.to_bytes(values, user_arrays.full_scale(values))


@pytest.mark.parametrize(("bits", "dtype"), [(8, "int64"), (12, "uint16"), (16, "uint16")])
def test_brightness_scale_is_that_of_the_whole_array(tmp_path, bits, dtype):
    values = np.zeros((2, 28, 28), dtype)
    values[1] = 2**bits - 1
    values[0] = values[1] // 5
    np.save(tmp_path / "a.npy", values)
    dark, bright = user_images.read([str(tmp_path / "a.npy")], 28, "auto")
    assert (dark.pixels == 51).all()
    assert (bright.pixels == 255).all()


@pytest.mark.parametrize("top", [1.0000001, 1.015])
def test_values_that_interpolation_moved_out_are_clipped(top):
    values = np.full((2, 28, 28, 3), 0.5)
    values[0, 0, 0] = top
    values[1, 0, 0] = 1 - top
    full = user_arrays.full_scale(values)
    pixels = np.stack([user_arrays.to_bytes(one, full) for one in values])
    assert (full, pixels[0, 0, 0, 0], pixels[1, 0, 0, 0], pixels[0, 5, 5, 0]) == (1, 255, 0, 128)


def test_values_far_outside_are_refused():
    values = np.full((1, 28, 28, 3), 1.3)
    with pytest.raises(BadImageError, match="instead of 0 to 1"):
        user_arrays.to_bytes(values, user_arrays.full_scale(values))


@pytest.mark.parametrize("channels", [3, 4])
def test_channels_first_are_no_grey_images(tmp_path, channels):
    np.save(tmp_path / "a.npy", noise(channels, 28, 30))
    (cell,) = user_images.read([str(tmp_path / "a.npy")], 28, "none")
    assert "put the channels last" in cell.problem
    np.save(tmp_path / "a.npy", noise(channels, 28, 30, 1))
    assert len(list(user_images.read([str(tmp_path / "a.npy")], 28, "none"))) == channels


def test_images_of_two_scales_in_one_array(tmp_path):
    images = noise(3, 28, 28, 3) / 255
    images[1] *= 255
    np.save(tmp_path / "a.npy", images)
    cells = list(user_images.read([str(tmp_path / "a.npy")], 28, "none"))
    assert [cell.pixels is None for cell in cells] == [True, False, True]
    assert "scale all alike" in cells[0].problem


def test_transparent_pixels_of_an_array_are_white(tmp_path):
    values = np.full((1, 28, 28, 4), 90, np.uint8)
    values[..., 3] = 255
    values[0, :5, :, 3] = 0
    np.save(tmp_path / "a.npy", values)
    (cell,) = user_images.read([str(tmp_path / "a.npy")], 28, "none")
    assert (cell.pixels[:5] == 255).all()
    assert (cell.pixels[5:] == 90).all()
