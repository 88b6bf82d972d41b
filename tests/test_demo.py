"""demo.py: what the page says of images, and the page in a real browser."""

import asyncio
import base64
import csv
import io
import json
import os
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import torch
import warm
from fastapi import HTTPException
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

import demo
from bloodcells.data import synthetic_cells
from bloodcells.inference.classifier import load_classifier

CELLS = synthetic_cells.make()["test"][0][:12]


@pytest.fixture(scope="module")
def huge():
    """A JPEG of 40 million pixels."""
    file = io.BytesIO()
    Image.fromarray(CELLS[0]).resize((8000, 5000)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def uploads(tmp_path, huge):
    """Images as people drop them, good ones and bad ones."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    for number, pixels in enumerate(CELLS):
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / "huge.jpg").write_bytes(huge)
    Image.fromarray(CELLS[0]).resize((280, 280)).convert("CMYK").save(folder / "print.jpg")
    (folder / "text.png").write_text("no picture")
    (folder / "<img src=x onerror=alert(1)>.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def model(weights):
    return load_classifier(weights, 1, torch.device("cpu"))


def test_what_is_said_of_images(model, uploads):
    names = sorted(map(str, uploads.iterdir()))
    page = demo.answer(names, model, uploads)
    assert page.count("<li>") == 14
    assert page.count("could not be used: not an image that can be read.") == 2
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert "probability and set promise nothing." in page
    assert "Differential count" in page
    table = base64.b64decode(re.findall(r"data:text/csv;base64,([^\"]*)", page)[0]).decode()
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    said = r"<b>(.*?)</b>, probability ([\d.]+)</div>\s*<div>95 % set: (.*?)</div>"
    assert re.findall(said, page) == [
        (
            row["label"],
            f"{float(row['probability']):.3f}",
            row["set"].replace(" | ", ", ") or "none",
        )
        for row in rows
    ]
    assert str(uploads) not in page + table
    assert list(uploads.iterdir()) == []  # kept nowhere


def test_weights_fitted_to_a_laboratory_keep_their_promise_there(model, uploads):
    page = demo.answer(
        [str(uploads / "print.jpg")], model, uploads, fitted="the laboratory fitted to"
    )
    assert "promise nothing but for the laboratory fitted to." in page


def test_few_images_and_none(model, uploads):
    page = demo.answer([str(uploads / "00.png")], model, uploads)
    assert page.count("<li>") == 1
    assert "Differential count" not in page
    assert "<li>" not in demo.answer([], model, uploads)
    Image.fromarray(CELLS[0]).resize((64, 64)).save(uploads / "64.png")
    page = demo.answer([str(uploads / "64.png")], model, uploads)
    assert "64.png: has a size of the data set" in re.sub(r"<.*?>", "", page)
    example = demo.EXAMPLES / "monocyte.png"
    assert "<li>" in demo.answer([str(example)], model, uploads)
    assert example.exists()


def test_images_are_framed_as_the_weights_need(model, uploads):
    for frame, says in (("auto", "no stained cell found"), ("none", "<li>")):
        Image.new("RGB", (100, 100), "white").save(uploads / "blank.png")
        assert says in demo.answer([str(uploads / "blank.png")], model, uploads, frame)


def test_only_uploads_are_deleted(model, uploads, tmp_path):
    outside = tmp_path / "mine.png"
    Image.fromarray(CELLS[0]).save(outside)
    (uploads / "link.png").symlink_to(outside)
    for name in (outside, uploads / "link.png", uploads / ".." / "mine.png"):
        assert demo.answer([str(name)], model, uploads).count("<li>") == 1
    assert outside.exists()
    (uploads / "hash").mkdir()  # as Gradio leaves them
    Image.fromarray(CELLS[0]).save(uploads / "hash" / "cell.png")
    (uploads / "tmp123").touch()
    os.utime(uploads / "tmp123", (0, 0))
    (uploads / "tmp456").touch()  # perhaps being received
    (uploads / "tmp789").write_text("in use")
    demo.answer([str(uploads / "hash" / "cell.png")], model, uploads)
    assert not (uploads / "hash").exists()
    assert sorted(path.name for path in uploads.glob("tmp*")) == ["tmp456", "tmp789"]
    page = demo.answer([str(uploads / "hash" / "cell.png")], model, uploads)
    assert "could not be used: gone: dropped twice at the same time" in page


def test_page_is_served_to_this_machine_alone_and_fetches_no_address(
    run, fails, weights, monkeypatch
):
    import gradio  # takes seconds, so not in the processes that have no test of this file

    kept = {}

    def served(page, **given):
        kept.update(given)
        raise KeyboardInterrupt

    for module, name in demo.FETCHING:  # to be put back at the end
        monkeypatch.setattr(getattr(gradio, module), name, None)
    monkeypatch.setattr(gradio.Blocks, "launch", served)
    assert run("demo.py", "--weights", weights).code == 130
    assert (kept["server_name"], kept["share"]) == ("127.0.0.1", False)
    assert kept["max_file_size"] == demo.MOST_BYTES
    for module, name in demo.FETCHING:
        with pytest.raises(HTTPException, match="not fetched"):
            asyncio.run(getattr(getattr(gradio, module), name)("https://example.org/x.png", "."))
    monkeypatch.delattr(gradio.routes, "secure_url_stream_response")
    assert "pip install -r requirements-demo.txt" in fails("demo.py", "--weights", weights)


def test_too_many_images(model, uploads, monkeypatch):
    monkeypatch.setattr(demo, "MOST_IMAGES", 3)
    page = demo.answer(sorted(str(path) for path in uploads.glob("0*.png")), model, uploads)
    assert page.count("<li>") == 3
    assert "7 more images were not looked at" in page
    assert list(uploads.glob("0*.png")) == []


def test_maps_mark_what_speaks_for_the_class(model, uploads):
    images = demo.user_images.read([str(uploads / "00.png")], 28, "auto")
    (found,) = demo.classify(images, model, {}, 128, "0.95", 0.0)
    other = replace(found, label=next(x for x in model.classes if x != found.label))
    marked, of_other = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(url)))).astype(float)
        for url in demo.maps(model, [found, other])
    )
    assert (marked != of_other).any()
    blue = found.pixels[..., 2].astype(float)  # of which the colour of the mark has none
    share = 1 - marked[..., 2] / blue.clip(1)
    assert share.max() == pytest.approx(0.7, abs=0.02)
    assert -0.01 <= share.min() < 0.2


def test_without_gradio(fails, uninstalled):
    uninstalled("gradio")
    assert "pip install -r requirements-demo.txt" in fails("demo.py")


def test_addresses_that_cannot_be_served(fails):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        hosts = ["127.0.0.1"]
        hosts += ["127.0.0.2"] * (sys.platform == "linux")  # others do not have it
        for host in hosts:  # Gradio asks for the first in any case
            line = fails("demo.py", "--host", host, "--port", port)
            assert f"--port {port}: Address already in use" in line
    assert "an empty name" in fails("demo.py", "--host", "")
    assert "--host b\u00fc..x " in fails("demo.py", "--host", "b\u00fc..x")
    assert "--host 192.0.2.1 " in fails("demo.py", "--host", "192.0.2.1")


@pytest.fixture(scope="module")
def address(weights, tmp_path_factory):
    """The address of a served page, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path_factory.mktemp("served") / "out"
    process = warm.start("demo.py", "--weights", weights, "--port", port, out=out)
    try:
        deadline = time.monotonic() + 120
        while not (out.exists() and f"open http://127.0.0.1:{port}" in out.read_text()):
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        os.kill(process.pid, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 130
    finally:
        process.kill()


def test_page_in_a_browser(address, browser, uploads, tmp_path):
    browser.get_log("performance")  # of earlier tests
    browser.get(address)
    wait = WebDriverWait(browser, 120)
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "input[type=file]"))
    assert "Not for clinical use" in browser.find_element(By.TAG_NAME, "body").text
    field = browser.find_element(By.CSS_SELECTOR, "input[type=file]")
    files = [uploads / name for name in ("00.png", "huge.jpg", "print.jpg", "text.png")]
    field.send_keys("\n".join(map(str, files)))
    wait.until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".cells li")) == 3)
    text = browser.find_element(By.CSS_SELECTOR, "[role=status]").text
    assert "text.png could not be used: not an image that can be read." in text
    link = browser.find_element(By.CSS_SELECTOR, "[role=status] a[download]")
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    link.click()
    wait.until(lambda page: list(tmp_path.glob("*.csv")))
    (table,) = tmp_path.glob("*.csv")
    wait.until(lambda page: table.read_bytes().startswith(b"path,label,probability"))
    assert len(table.read_bytes().split(b"\r\n")) == 4

    for press in (WebElement.click, lambda one: one.send_keys(Keys.ENTER)):  # one, and again
        wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "input[type=file]"))
        field = browser.find_element(By.CSS_SELECTOR, "input[type=file]")
        field.send_keys(str(uploads / "01.png"))
        wait.until(lambda page: names(page) == ["01.png"])
        press(browser.find_element(By.CSS_SELECTOR, ".gallery-item, .gallery button, tbody tr"))
        wait.until(lambda page: names(page) == ["basophil.png"])

    phone = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) <= 0
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    }
    places = {url.split("/")[2] for url in urls if url.startswith("http")}
    assert places == {address.removeprefix("http://")}


def names(page):
    """The images that the page answers."""
    texts = "[...document.querySelectorAll('.cells small')].map(one => one.textContent)"
    return page.execute_script(f"return {texts}")  # at one moment


def upload(address, size):
    """Send the page a file of so many bytes; returns the status, None for a closed connection."""
    body = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
    body += bytes(size) + b"\r\n--x--\r\n"
    request = urllib.request.Request(
        f"{address}/gradio_api/upload",
        data=body,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_page_fetches_no_address_that_a_request_names(address):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/gradio_api/file=https://example.org/x.png")
    assert refused.value.code == 403
    assert "addresses are not fetched" in refused.value.read().decode()


def test_nothing_is_kept_in_the_browser(address):
    with urllib.request.urlopen(f"{address}/config") as page:
        assert json.load(page)["run_history"] is False


def test_page_refuses_a_file_that_is_too_large(address):
    assert upload(address, 1000) == 200
    assert upload(address, demo.MOST_BYTES + 2**20) in (413, None)
