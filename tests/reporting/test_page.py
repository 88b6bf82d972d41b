"""The page of all runs, in a real browser and with runs that are not fit to be shown."""

import base64
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from written import change, fetches_nothing, metrics_of

from bloodcells import ROOT
from bloodcells.errors import UserError
from bloodcells.reporting.html import caption, inline
from bloodcells.reporting.page import experiment_section, overview_row, write_page

HOSTILE = "\ud800" + '<img src=x onerror="document.title=1"> & <script>document.title=2</script>'
BLOCKS = {
    "small": lambda plots: (
        "| a `b` | n |\n|---|---|\n| x | 10 |\n| y | 9.5 |\n\nSome <b>words</b>.\n\n- one\n- `two`"
    )
}


@pytest.fixture
def plots(quick_run, tmp_path):
    """Two generated runs relabelled as real, one with hostile names, and some that are unfit."""
    folder = tmp_path / "plots"
    unfit = ("synthetic", "other-schema", "unfinished", "damaged", "edited", "photographs")
    for name in ("good", "hostile", *unfit):
        shutil.copytree(quick_run, folder / name)
    for name in ("good", "hostile", "other-schema", "edited", "photographs"):
        change(folder / name, dataset={"synthetic": False, "name": "BloodMNIST"})
    change(folder / "hostile", config={HOSTILE: HOSTILE}, model={"name": HOSTILE})
    change(folder / "hostile", test={"accuracy": {"mean": 0.5}})
    change(folder / "good", test={"accuracy": {"mean": 0.25}})
    change(folder / "other-schema", test_per_class=None)
    change(folder / "edited", code={"edited": ["models.py"]})
    change(folder / "photographs", dataset={"name": "BloodMNIST from photographs"})
    (folder / "unfinished" / "metrics.json").unlink()
    (folder / "damaged" / "metrics.json").write_text("{")
    return folder


def test_overview_and_command_of_a_run(quick_run, tmp_path):
    metrics, elsewhere = metrics_of(quick_run), tmp_path.resolve() / "runs"
    metrics["runs"][0]["test"] = None  # as published, the last model alone is scored
    assert overview_row(quick_run, metrics)[3] == "1"
    for folder, written in ((ROOT / "plots/my run", "plots/my run"), (elsewhere, str(elsewhere))):
        command = experiment_section(folder, metrics)["command"]
        assert shlex.split(command)[2:] == [
            *("--config", f"{written}/config.toml", "--output", written, "--overwrite"),
        ]


def test_unfit_runs_are_named_and_left_out(plots):
    (plots / ".writing-killed").mkdir()
    left_out = write_page(plots, BLOCKS, {}, plots / "report.html")
    text = (plots / "report.html").read_text()
    assert [line.partition(":")[0] for line in left_out] == [
        *("damaged", "edited", "other-schema", "photographs", "synthetic", "unfinished"),
    ]
    for line in left_out:
        name = line.partition(":")[0]
        assert f'id="run-{name}"' not in text
        assert f"<li>{name}: " in text
    assert 'id="run-good"' in text
    assert "<li>one</li><li><code>two</code></li>" in text
    assert "<p>Some &lt;b&gt;words&lt;/b&gt;.</p>" in text
    assert fetches_nothing(text)


def test_only_pictures_of_the_folder_itself_are_shown(plots, tmp_path):
    (tmp_path / "secret.txt").write_text("the secret")
    (plots / "good" / "link.png").symlink_to(tmp_path / "secret.txt")
    (plots / "good" / "text.png").write_text("the secret")
    (plots / "good" / "picture.png").symlink_to(plots / "good" / "confusion_matrix.png")
    shutil.copytree(plots / "good", plots / "deep")
    (plots / "deep" / "metrics.json").write_text("[" * 100_000)
    left_out = write_page(plots, BLOCKS, {}, plots / "report.html")
    assert "deep: metrics.json is nested too deeply" in left_out
    text = (plots / "report.html").read_text()
    assert base64.b64encode(b"the secret").decode() not in text
    assert 'id="run-good"' in text
    assert ">picture; data" not in text


def test_markdown_of_a_table_s_words():
    assert inline("**[a](b)** `b*c`, *d*, [e f](g.md#h): 3 * 4 <i>") == (
        "<strong>a</strong> <code>b*c</code>, <em>d</em>, e f: 3 * 4 &lt;i&gt;"
    )


def test_names_are_no_markdown_and_sections_have_ids_of_their_own(plots):
    for name in ("a *b* [c](d)", "a b", "a_b", "运行一", "运行二"):
        shutil.copytree(plots / "good", plots / name)
    write_page(plots, {}, {}, plots / "report.html")
    text = (plots / "report.html").read_text()
    assert "<td>a *b* [c](d)</td>" in text
    ids = re.findall(r' id="(run-[^"]+)"', text)
    assert len(ids) == len(set(ids)) == 7
    assert all(f'href="#{one}"' in text for one in ids)


def test_a_figure_of_earlier_results_is_not_shown(plots):
    for name in ("ladder.png", "errors_by_stage.png"):
        shutil.copy(plots / "good" / "confusion_matrix.png", plots / name)
    left_out = write_page(plots, {}, {"ladder.png": "a recipe is missing"}, plots / "report.html")
    text = (plots / "report.html").read_text()
    assert "ladder.png: a recipe is missing" in left_out
    assert "<figcaption>errors by stage: error rate of each stage of maturation" in text
    assert "its share of all errors; data: test split</figcaption>" in text
    assert "<figcaption>ladder: " not in text


def test_captions_of_a_folder_s_own_figures():
    for path, words in (
        ("tuning/learning_curves.png", "loss by epoch, of the best and the worst trial"),
        ("cnn-x/learning_curves.png", "loss and accuracy by epoch"),
        ("architecture/CellNet.png", "layer by layer: shapes, parameters, operations"),
        ("cnn-x/mine.png", ""),
    ):
        assert caption(Path(path)) == f"{Path(path).stem.replace('_', ' ')}: {words}".rstrip(": ")


def test_a_study_in_a_folder_of_its_own_is_no_unfinished_training(plots):
    (plots / "mine").mkdir()
    code = {"script": "ablation.py", "edited": [], "files": {}}
    (plots / "mine" / "ablation.json").write_text(json.dumps({"code": code}))
    left_out = write_page(plots, {}, {}, plots / "report.html")
    assert "mine: of ablation.py, no training experiment" in left_out


def test_a_copied_script_s_results_are_shown(plots):
    change(plots / "good", code={"script": "mine.py"})
    write_page(plots, {}, {}, plots / "report.html")
    assert 'id="run-good"' in (plots / "report.html").read_text()


def test_figures_say_what_they_show():
    assert caption(Path("CellNet")) == "CellNet"
    assert caption(Path("montage_20x20")) == "montage 20x20: training images side by side"
    assert caption(Path("errors_by_stage")).startswith("errors by stage: error rate of each stage")
    assert [path for path in (ROOT / "plots").glob("*/*.png") if ":" not in caption(path)] == []


@pytest.mark.parametrize("name", ["metrics.json", "a.png", "history.csv"])
def test_what_is_no_file_is_left_out(plots, name):
    (plots / "good" / name).unlink(missing_ok=True)
    os.mkfifo(plots / "good" / name)  # reading it would wait for ever
    (plots / "hostile" / "b.png").mkdir()
    write_page(plots, BLOCKS, {}, plots / "report.html")
    text = (plots / "report.html").read_text()
    assert ('id="run-good"' in text) == (name != "metrics.json")
    assert 'id="run-hostile"' in text


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "1" + "0" * 400])
def test_a_run_with_a_number_that_is_not_finite_is_left_out(fails, plots, quick_run, number):
    path = plots / "good" / "metrics.json"
    text = path.read_text().replace('"mean": 0.25', f'"mean": {number}')
    path.write_text(text)
    left_out = write_page(plots, BLOCKS, {}, plots / "report.html")
    assert any(line.startswith("good: ") and "not a finite number" in line for line in left_out)
    line = fails("report.py", "--compare", plots / "good", quick_run)
    assert "the results are damaged" in line


def test_studies_of_generated_images_and_without_results(plots, quick_run):
    shutil.copytree(quick_run, plots / "robustness")
    (plots / "explain").mkdir()
    left_out = write_page(plots, {"bad": lambda plots: {}["no"]}, {}, plots / "report.html")
    assert "robustness: made from generated images: not a result" in left_out
    assert "explain: not finished, as it has no metrics.json" in left_out
    assert "table bad: it lacks 'no'" in left_out
    assert 'id="run-robustness"' not in (plots / "report.html").read_text()


def test_nothing_left(fails, plots, tmp_path):
    for name in ("good", "hostile"):
        shutil.rmtree(plots / name)
    with pytest.raises(UserError, match="no finished experiment there: damaged"):
        write_page(plots, BLOCKS, {}, plots / "report.html")
    assert not (plots / "report.html").exists()
    assert "no finished experiment there" in fails(
        "report.py", "--plots", plots, "--root", tmp_path
    )


def column(browser, number, table=0):
    rows = browser.find_elements(By.TAG_NAME, "table")[table].find_elements(
        By.CSS_SELECTOR, f"tbody td:nth-child({number})"
    )
    return [row.text for row in rows]


def test_page_in_a_browser(plots, browser):
    page = plots / "report.html"
    write_page(plots, BLOCKS, {}, page)
    browser.get(page.as_uri())
    assert "BloodMNIST" in browser.title  # no hostile script changed it
    text = browser.find_element(By.TAG_NAME, "body").get_attribute("textContent")
    assert HOSTILE.replace("\ud800", "\ufffd") in text

    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 8
    for picture in pictures:
        loaded = "return arguments[0].decode().then(() => arguments[0].naturalWidth)"
        assert browser.execute_script(loaded, picture) > 100
        assert picture.get_attribute("alt")

    heads = browser.find_elements(By.CSS_SELECTOR, "#overview th button")
    accuracy = [head.text for head in heads].index("accuracy")
    heads[accuracy].click()
    assert [text[:6] for text in column(browser, accuracy + 1)] == ["0.2500", "0.5000"]
    heads[accuracy].send_keys(Keys.ENTER)  # by keyboard, the other way
    assert [text[:6] for text in column(browser, accuracy + 1)] == ["0.5000", "0.2500"]
    head = browser.find_elements(By.CSS_SELECTOR, "#overview th")[accuracy]
    assert head.get_attribute("aria-sort") == "descending"
    small = browser.find_elements(By.CSS_SELECTOR, "#table-small th button")
    small[1].click()  # 9.5 before 10: as numbers
    rows = browser.find_elements(By.CSS_SELECTOR, "#table-small tbody tr")
    assert [row.text for row in rows] == ["y 9.5", "x 10"]

    for width in (360, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert browser.execute_script("return innerWidth") == width
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(wide) <= 0  # nothing but tables scrolls sideways
    assert [line for line in browser.get_log("browser") if line["level"] != "INFO"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    }
    assert {url.partition(":")[0] for url in urls} <= {"file", "data"}
    assert len([url for url in urls if url.startswith("file")]) == 1
