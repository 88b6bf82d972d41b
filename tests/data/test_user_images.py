"""Images of users: found, read in every form, prepared as the official ones, or refused."""

import io
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from drawn import field, noise, png_of
from PIL import Image, PngImagePlugin
from torchvision import transforms

from bloodcells.data import image_files, preparation, user_images
from bloodcells.data.framing import cut
from bloodcells.data.preparation import prepare

PHOTOGRAPH = Image.fromarray(  # coarse squares, so that pixels survive JPEG
    np.kron(noise(37, 36, 3), np.ones((10, 10, 1), np.uint8))[:363]
)


def read_one(path, frame="auto"):
    (cell,) = user_images.read([str(path)], size=28, frame=frame)
    return cell


def saved(image, path, **options):
    image.save(path, **options)
    return read_one(path)


def test_photograph_goes_through_the_chain_of_the_data_set(tmp_path):
    cell = saved(PHOTOGRAPH, tmp_path / "field.png")
    reduced = PHOTOGRAPH.crop((80, 82, 280, 282)).resize((28, 28), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    reduced.save(file, "JPEG", quality=75, subsampling="4:2:0")
    assert PHOTOGRAPH.size in preparation.PHOTOGRAPHS
    assert (cell.pixels == np.asarray(Image.open(file))).all()
    assert abs(cell.pixels.astype(int) - np.asarray(reduced)).max() > 0  # JPEG did something


def test_crop_flag(tmp_path):
    PHOTOGRAPH.save(tmp_path / "a.png")
    PHOTOGRAPH.crop((80, 82, 280, 282)).save(tmp_path / "b.png")
    assert (
        read_one(tmp_path / "a.png", frame="200").pixels
        == read_one(tmp_path / "b.png", frame="none").pixels
    ).all()
    whole = read_one(tmp_path / "a.png", frame="none").pixels
    assert (whole != read_one(tmp_path / "a.png").pixels).any()
    assert "smaller than --crop 361" in read_one(tmp_path / "a.png", frame="361").problem


def test_image_of_the_final_size_is_taken_as_it_is(tmp_path):
    pixels = noise(28, 28, 3)
    assert (saved(Image.fromarray(pixels), tmp_path / "a.png").pixels == pixels).all()
    np.save(tmp_path / "a.npy", pixels)
    assert (read_one(tmp_path / "a.npy").pixels == pixels).all()


@pytest.mark.parametrize(
    ("size", "corner"),
    [
        *(((360, 363), (80, 82)), ((366, 369), (83, 84)), ((360, 360), (80, 80))),
        *(((360, 361), (80, 80)), ((361, 360), (80, 80)), ((362, 360), (81, 80))),
        *(((359, 360), (80, 80)), ((363, 360), (82, 80))),  # the last: rotated by 90 degrees
    ],
)
def test_photographs_of_all_sizes_are_cropped_as_torchvision_does(tmp_path, size, corner):
    photograph = Image.new("RGB", size, "white")
    left, top = corner
    photograph.paste((0, 0, 0), (left, top, left + 200, top + 200))
    assert saved(photograph, tmp_path / "a.png").pixels.max() < 10
    reference = transforms.CenterCrop(200)(photograph)
    assert np.asarray(reference).max() == 0


def test_every_mode_gives_the_same_grey(tmp_path):
    grey = Image.new("L", (28, 28), 200)
    wide = np.full((28, 28), 200 * 257, np.uint16)
    forms = {
        "rgb.png": grey.convert("RGB"),
        "grey.png": grey,
        "palette.png": grey.convert("P"),
        "palette.gif": grey.convert("P"),
        "grey.bmp": grey,
        "grey.tiff": grey,
        "wide.png": Image.fromarray(wide),
        "wide.tif": Image.fromarray(wide),
        "real.tif": Image.fromarray(np.full((28, 28), 200 / 255, np.float32)),
        "cmyk.tif": grey.convert("RGB").convert("CMYK"),
        "alpha.png": Image.merge("LA", (grey, Image.new("L", (28, 28), 255))),
    }
    for name, image in forms.items():
        assert (saved(image, tmp_path / name).pixels == 200).all(), name


def test_transparent_is_white(tmp_path):
    clear = Image.new("RGBA", (28, 28), (10, 20, 30, 0))
    assert "transparent everywhere" in saved(clear, tmp_path / "a.png").problem
    clear.putpixel((0, 0), (10, 20, 30, 255))
    pixels = saved(clear, tmp_path / "a.png").pixels
    assert (pixels[1:] == 255).all()
    assert tuple(pixels[0, 0]) == (10, 20, 30)


def test_a_transparent_grey_value_of_16_bits_is_white(tmp_path):
    grey = np.full((28, 28), 30000, np.uint16)
    grey[0, 0] = 5
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=5)
    pixels = read_one(tmp_path / "a.png").pixels
    assert (pixels[0, 0] == 255).all()
    assert (pixels[1:] < 255).all()


def test_exif_rotation_is_undone(tmp_path):
    image = Image.new("RGB", (80, 60), "white")
    image.paste((200, 0, 0), (0, 0, 80, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned by a quarter: the red edge is on the right
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    cell = read_one(tmp_path / "a.jpg", frame="none")
    assert cell.pixels[14, 22, 1] < 60 < cell.pixels[14, 5, 1]


def test_a_png_with_long_notes_is_not_damaged(tmp_path):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("settings", "x" * 2**21, zip=True)
    image = Image.new("RGB", (28, 28), (200, 100, 150))
    assert saved(image, tmp_path / "a.png", pnginfo=notes).problem is None


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_damaged_exif_data_do_not_cost_an_image(tmp_path, ending):
    image = Image.new("RGB", (28, 28), (200, 100, 150))
    cell = saved(image, tmp_path / f"a.{ending}", exif=bytes(20), lossless=True)
    assert cell.problem is None
    assert cell.note == "damaged EXIF data, so it may lie on its side"
    assert (cell.pixels == (200, 100, 150)).all()


def test_what_is_not_square_is_widened_not_squeezed(tmp_path):
    image = Image.new("RGB", (100, 50), (240, 220, 225))
    image.paste((90, 20, 120), (25, 0, 75, 50))
    image.save(tmp_path / "a.png")
    pixels = read_one(tmp_path / "a.png", frame="none").pixels.astype(int)
    assert abs(pixels[1] - (240, 220, 225)).max() < 25
    assert abs(pixels[14, 14] - (90, 20, 120)).max() < 25


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (28, 28), (shade, 0, 0)) for shade in (250, 10, 20)]
    cell = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert cell.pixels[..., 0].min() > 240
    assert "first" in cell.note


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    PHOTOGRAPH.save(tmp_path / "a.png")
    monkeypatch.setattr(user_images, "to_rgb", fail)
    with pytest.raises(MemoryError):
        read_one(tmp_path / "a.png")


def test_bad_files_are_refused_by_reason(tmp_path):
    jpeg = io.BytesIO()
    PHOTOGRAPH.save(jpeg, "JPEG")
    nothing = io.BytesIO()
    np.save(nothing, np.array([None, 1]), allow_pickle=True)
    bad = {
        "cut.jpg": (jpeg.getvalue()[:2000], "damaged"),
        "text.png": (b"no picture\n", "not an image"),
        "empty.png": (b"", "not an image"),
        "bomb.png": (png_of(30_000, 30_000), "over 50,000,000 pixels"),
        "large.png": (png_of(9_000, 9_000), "9000 x 9000 pixels, over 50,000,000"),
        "short.png": (png_of(40, 40), "damaged"),
        "pickle.npy": (nothing.getvalue(), "holds objects"),
        "text.npz": (b"no arrays", "not an array file"),
        "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        cell = read_one(tmp_path / name)
        assert cell.pixels is None
        assert reason in cell.problem, name


def test_long_thin_image_needs_no_square_of_its_length(tmp_path):
    Image.new("RGB", (100_000, 28)).save(tmp_path / "a.png")
    assert read_one(tmp_path / "a.png", frame="none").pixels.shape == (28, 28, 3)
    assert "no stained cell found" in read_one(tmp_path / "a.png").problem


def test_files_that_are_gone_or_no_files(tmp_path):
    assert "gone" in read_one(tmp_path / "gone.png").problem
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
        assert image_files.find([str(tmp_path)]) == [str(tmp_path / "pipe.png")]
        assert "not a regular file" in read_one(tmp_path / "pipe.png").problem


def test_standard_input_that_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert "cannot be read" in read_one("-").problem


def test_one_pixel_is_refused(tmp_path):
    assert "1 x 1 pixels: too few" in saved(Image.new("RGB", (1, 1)), tmp_path / "a.png").problem


def test_many_files_keep_their_order_and_few_are_read_ahead(tmp_path, monkeypatch):
    names = [str(tmp_path / f"{number:02}.png") for number in range(40)]
    for number, name in enumerate(names):
        Image.new("RGB", (28, 28), (number, 0, 0)).save(name)
    taken, real = [], user_images.open_image

    def listed():
        for name in names:
            taken.append(name)
            yield name

    def slow(source):
        time.sleep(0.02 * (int(Path(source).stem) % 2 == 0))  # so the second is read first
        return real(source)

    monkeypatch.setattr(user_images, "open_image", slow)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    cells = user_images.read(listed(), 28, "auto")
    assert next(cells).name == names[0]
    assert len(taken) == 5  # two for each thread, and one
    rest = list(cells)
    assert [cell.name for cell in rest] == names[1:]
    assert [int(cell.pixels[0, 0, 0]) for cell in rest] == list(range(1, 40))


def test_a_folder_of_links_in_a_circle_and_a_file_that_vanishes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    for name in ("cell.png", "gone.png"):
        Image.new("RGB", (28, 28)).save(tmp_path / "a" / name)
    names = image_files.find([str(tmp_path)])
    assert [Path(name).name for name in names] == ["up", "cell.png", "gone.png"]
    (tmp_path / "a" / "gone.png").unlink()
    link, there, gone = user_images.read(names, 28, "auto")
    assert link.problem == "a link to a folder, not followed; name it in the command"
    assert there.problem is None
    assert gone.problem == "not a regular file, or gone"
    whole = image_files.find([str(tmp_path / "a" / "up"), str(tmp_path / "a")])
    assert len(whole) == 4  # by both names


def test_a_middle_of_the_final_size_is_not_foreign(tmp_path):
    image = PHOTOGRAPH.crop((0, 0, 28, 28))
    assert not saved(image, tmp_path / "a.png").foreign
    assert not read_one(tmp_path / "a.png", frame="28").foreign


def test_a_first_frame_without_a_cell_is_told(tmp_path):
    blank = Image.new("RGB", (300, 300), "white")
    blank.save(tmp_path / "a.tif", save_all=True, append_images=[blank])
    problem = read_one(tmp_path / "a.tif").problem
    assert problem == "no stained cell found; the first of several frames"


def test_a_cell_of_a_field_is_cut_once(tmp_path):
    """Beside a larger nucleus, of which a second search would find the edge."""
    image = field((400, 300), (120, 150, 12), (200, 150, 34), (320, 150, 30))
    image.save(tmp_path / "field.png")
    found = list(user_images.read([str(tmp_path / "field.png")], 28, "detect"))
    assert found
    for one in found:
        expected = prepare(cut(image, one.square), 28, "none").pixels
        assert (one.pixels == expected).all()
