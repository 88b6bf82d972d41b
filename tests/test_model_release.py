"""From a trained run to weights that predict.py takes: model_release.py on generated images."""

import errno
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from written import change, complaints, metrics_of

import model_release
from bloodcells.data import bloodmnist, out_of_distribution
from bloodcells.data.bloodmnist import Split
from bloodcells.errors import UserError
from bloodcells.evaluation import framed, uncertainty
from bloodcells.inference.classifier import load_classifier
from bloodcells.tracking import run_folder
from bloodcells.training.domain_randomisation import randomise_stored

SMALL = ("--config", "cnn-best", "--synthetic", "--widths", 4, 8, 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_once):
    folder = tmp_path_factory.mktemp("trained") / "small"
    run_once("model_cnn.py", *SMALL, "--runs", 2, "--epochs", 2, "--output", folder)
    return folder


@pytest.fixture
def release(run, trained, tmp_path, monkeypatch):
    """Runs model_release.py on the small run, with other flags as given."""
    monkeypatch.setattr(model_release, "OUTSIDERS", 20)
    monkeypatch.setattr(model_release, "CORRUPTED", 16)
    target = ("--weights", tmp_path / "small.safetensors", "--output", tmp_path / "release")
    return lambda *flags: run(
        "model_release.py", "--synthetic", "--run", trained, *target, "--device", "cpu", *flags
    )


def test_another_laboratory_s_images_are_scored(release, run, sorted_cells, tmp_path):
    images = sorted_cells(24, side=70, name="elsewhere")
    (images / "monocyte" / "text.png").write_text("no picture")
    outcome = release("--elsewhere", tmp_path / "elsewhere", "--slide", ".")
    assert outcome.code == 0, outcome
    content = metrics_of(tmp_path / "release")
    assert not {"elsewhere", "slide"} & set(content["config"])
    found = content["elsewhere"]
    assert (found["name"], found["images"], found["unusable"]) == ("elsewhere", 24, 1)
    assert sum(found["counts"].values()) == 24
    for views in ("1", "8"):
        part = found["views"][views]
        assert part["answers"].keys() == {name for name, n in found["counts"].items() if n}
        for shares in part["answers"].values():
            assert sum(share["mean"] for share in shares.values()) == pytest.approx(1)
        recalls = [part["answers"][name][name]["mean"] for name in part["answers"]]
        assert np.mean(recalls) == pytest.approx(part["balanced_accuracy"]["mean"])
        assert np.mean(recalls) == pytest.approx(part["over_slides"]["mean"])
        for scores in (part, part["given_classes"]):
            assert 0 <= scores["balanced_accuracy"]["mean"] <= 1
            assert scores["sets"]["0.95"]["coverage"]["std"] is not None
        assert part["given_classes"]["accuracy"]["mean"] >= part["accuracy"]["mean"]
    flags = ("--weights", tmp_path / "small.safetensors", "--labelled", "--views", 8)
    outcome = run("predict.py", tmp_path / "elsewhere", *flags)
    assert "balanced accuracy" in outcome.err
    assert outcome.code == 1  # the text

    outcome = release()
    assert outcome.code == 2
    assert "scores on another laboratory's images, which would be lost" in outcome.err
    assert metrics_of(tmp_path / "release") == content


@pytest.mark.usefixtures("drawn_figures")
def test_release_writes_what_predict_takes(release, run, trained, tmp_path):
    outcome = release()
    assert outcome.code == 0, outcome
    assert complaints(tmp_path / "release" / "metrics.json") == []
    content = metrics_of(tmp_path / "release")
    assert content["dataset"]["synthetic"]
    for views in ("1", "8"):
        part = content["views"][views]
        assert part["after"]["nll"]["mean"] <= part["before"]["nll"]["mean"] + 0.05
        assert part["sets"]["0.95"]["coverage"]["mean"] > 0.85
        assert len(part["sets"]["0.95"]["size_by_class"]["mean"]) == 8
    assert set(content["called_unlike"]) == {uncertainty.CELLS, *out_of_distribution.KINDS}
    assert content["float16"]["test"]["largest_difference"] < 0.02
    recalls = [recall["mean"] for recall in content["framed"]["recalls"].values()]
    assert content["framed"]["balanced_accuracy"]["mean"] == pytest.approx(np.mean(recalls))
    assert len(recalls) == 8
    for name in ("reliability", "risk_coverage", "sets", "unlike"):
        assert (tmp_path / "release" / f"{name}.png").stat().st_size > 10_000

    test = bloodmnist.load(synthetic=True).test
    np.save(tmp_path / "test.npy", test.images)
    flags = ("--weights", tmp_path / "small.safetensors", "--format", "json", "--views", "8")
    cut = framed.frame(test)
    np.save(tmp_path / "framed.npy", cut.images)
    rows = json.loads(run("predict.py", tmp_path / "framed.npy", *flags).out)
    right = np.array([bloodmnist.CLASS_NAMES.index(row["label"]) for row in rows]) == cut.labels
    recalls = [right[cut.labels == label].mean() for label in range(8)]
    assert content["framed"]["balanced_accuracy"]["values"][0] == pytest.approx(np.mean(recalls))
    rows = json.loads(run("predict.py", tmp_path / "test.npy", *flags).out)
    answers = [bloodmnist.CLASS_NAMES.index(row["label"]) for row in rows]
    assert np.mean(answers == test.labels) == content["released"]["accuracy"]["8"]
    shares = []
    for kind, images in out_of_distribution.make(20, 28, seed=0).items():
        np.save(tmp_path / "strange.npy", images)
        rows = json.loads(run("predict.py", tmp_path / "strange.npy", *flags).out)
        shares.append(np.mean([row["unlike_training"] for row in rows]))
        assert shares[-1] == content["called_unlike"][kind]["released"]
    assert max(shares) > 2 * content["called_unlike"][uncertainty.CELLS]["released"]
    card = json.loads((tmp_path / "small.json").read_text())
    assert card["training"]["run"] == trained.name
    assert card["training"]["seed"] == 0


def test_the_test_split_chooses_nothing(release, tmp_path, monkeypatch):
    """Means and frequencies are of training images; the first seed is released, not the best."""
    given, scores, fit_and_score = [], iter([0.1, 0.1, 0.9, 0.9]), uncertainty.fit_and_score

    def noted(name, place):
        real = getattr(model_release, name)
        monkeypatch.setattr(
            model_release, name, lambda *a: given.append(a[place].images) or real(*a)
        )

    def better_later(*arguments):
        found = fit_and_score(*arguments)
        return {**found, "after": {**found["after"], "accuracy": next(scores)}}

    noted("load_member", 2)
    noted("make_card", 3)
    monkeypatch.setattr(uncertainty, "fit_and_score", better_later)
    assert release().code == 0
    train = bloodmnist.load(synthetic=True).train.images
    assert len(given) == 4
    assert all(np.array_equal(images, train) for images in given)
    assert json.loads((tmp_path / "small.json").read_text())["training"]["seed"] == 0


def test_the_share_of_false_alarms_is_that_of_the_flag(release, tmp_path):
    assert release("--false-alarms", 0.3).code == 0
    model = load_classifier(tmp_path / "small.safetensors", 1, torch.device("cpu"))
    val = bloodmnist.load(synthetic=True).val.images
    _, distances = model.predict(val, np.zeros(len(val), bool), 128)
    assert (distances > model.farthest).mean() == pytest.approx(0.3, abs=0.03)


def test_runs_that_cannot_be_released(fails, trained, quick_run, tmp_path):
    def complaint(folder, *flags):
        target = ("--output", tmp_path / "r", "--weights", tmp_path / "w.safetensors")
        return fails("model_release.py", "--run", folder, *target, *flags)

    assert "only CellNet" in complaint(quick_run, "--synthetic")
    stages = shutil.copytree(quick_run, tmp_path / "stages")
    change(stages, config={"labels": "stages"})
    line = complaint(stages, "--synthetic", "--elsewhere", tmp_path)
    assert "--elsewhere: not allowed with a model of stages" in line
    assert "no finished experiment" in complaint(tmp_path, "--synthetic")
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    (other / "weights-seed-1.safetensors").write_bytes(b"no weights")
    assert "weights-seed-1.safetensors: not this run's weights" in complaint(other, "--synthetic")
    counts = metrics_of(other)["dataset"]["counts"]
    change(other, dataset={"counts": {"train": 1}})
    assert "its data set is not the one here: counts" in complaint(other, "--synthetic")
    change(other, dataset={"counts": counts})
    (other / "weights-seed-1.safetensors").unlink()
    assert "--save-weights" in complaint(other, "--synthetic")
    change(other, runs=[row | {"weights": None} for row in metrics_of(other)["runs"]])
    assert "--save-weights" in complaint(other, "--synthetic")


def test_runs_of_other_recipes_are_not_released(fails, trained, tmp_path):
    target = ("--output", tmp_path / "r", "--weights", tmp_path / "w.safetensors", "--synthetic")
    other = shutil.copytree(trained, tmp_path / "other")
    for spoilt, says in (
        ({"config": {"protocol": "cross-validation"}}, "its --protocol is not official"),
        ({"config": {"protocol": "official", "views": 4}}, "its --views is neither 1 nor 8"),
        ({"config": {"views": 8}, "code": {"edited": ["a.py"]}}, "its code is edited, a.py"),
    ):
        change(other, **spoilt)
        assert says in fails("model_release.py", "--run", other, *target)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_without_images_is_refused_before_anything_is_measured(trained, split, monkeypatch):
    monkeypatch.setattr(model_release, "refuse_unfit", lambda *a: None)  # it has other counts
    dataset, found = bloodmnist.load(synthetic=True), run_folder.read(trained)
    model_release.refuse_unreleasable(found, dataset)
    part = dataset.splits()[split]
    lacking = Split(part.images[part.labels != 2], part.labels[part.labels != 2], part.names)
    with pytest.raises(UserError, match=f"its data set has no {split} images of 'erythroblast'"):
        model_release.refuse_unreleasable(found, replace(dataset, **{split: lacking}))


def test_names_that_predictions_could_not_have_are_refused(trained, monkeypatch):
    monkeypatch.setattr(model_release, "refuse_unfit", lambda *a: None)
    dataset, names = bloodmnist.load(synthetic=True), ("label", *map(str, range(7)))
    splits = {name: replace(part, names=names) for name, part in dataset.splits().items()}
    with pytest.raises(UserError, match="names of its classes cannot be shown, or head a column"):
        model_release.refuse_unreleasable(run_folder.read(trained), replace(dataset, **splits))


def test_where_no_nucleus_is_found_framed_images_are_not_scored(release, tmp_path, monkeypatch):
    monkeypatch.setattr(framed, "frame", lambda images: None)
    outcome = release()
    assert outcome.code == 0, outcome
    assert "framed images are not scored" in outcome.out
    assert metrics_of(tmp_path / "release")["framed"] is None
    assert complaints(tmp_path / "release" / "metrics.json") == []


def test_edited_code_does_not_replace_weights_of_committed_code(tmp_path):
    path = tmp_path / "w.safetensors"
    edited, clean = SimpleNamespace(edited=["a.py"]), SimpleNamespace(edited=[])
    model_release.refuse_replacing_committed(path, edited)  # there are none
    path.with_suffix(".json").write_text(json.dumps({"code": {"edited": []}}))
    model_release.refuse_replacing_committed(path, clean)
    with pytest.raises(UserError, match=r"edited code did not make it.*a\.py"):
        model_release.refuse_replacing_committed(path, edited)
    path.with_suffix(".json").write_text(json.dumps({"code": {"edited": ["a.py"]}}))
    model_release.refuse_replacing_committed(path, edited)


def test_the_card_has_the_training_images_class_frequencies(trained):
    """By which the probabilities of another laboratory's images are divided."""
    labels = np.repeat(np.arange(8), [5, 1, 1, 1, 1, 1, 1, 9])
    train = Split(np.zeros((20, 28, 28, 3), np.uint8), labels, bloodmnist.CLASS_NAMES)
    args = SimpleNamespace(false_alarms=0.01, code=SimpleNamespace(describe=dict))
    member = {"views": {}, "farthest": 1.0}
    card = model_release.make_card(run_folder.read(trained), 0, member, train, args)
    assert card["frequencies"] == [0.25, *[0.05] * 6, 0.45]


def test_images_are_seen_as_the_recipe_shows_them():
    pixels = bloodmnist.load(synthetic=True).test.sample(6, 0)
    plain, changed = (
        model_release.seen(SimpleNamespace(metrics={"config": config}), pixels)
        for config in ({}, {"domain_randomisation": 0.5, "unchanged": "none"})
    )
    assert plain is pixels
    assert np.array_equal(changed.images[:6], pixels.images)
    assert changed.labels.tolist() == 2 * pixels.labels.tolist()
    assert (changed.images.dtype, changed.images.shape) == (np.uint8, (12, 28, 28, 3))
    before = torch.get_rng_state()
    stored = torch.from_numpy(pixels.images)
    again, other = (randomise_stored(stored, seed).numpy() for seed in (0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(again, changed.images[6:])
    assert not np.array_equal(again, pixels.images)
    assert not np.array_equal(again, other)


def test_weights_are_replaced_after_the_results(release, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "small.safetensors").write_text("released before")
    (tmp_path / "small.json").write_text(json.dumps({"md5": "0"}))
    monkeypatch.setattr(model_release, "draw_domains", full)
    assert release().code == 2
    assert (tmp_path / "small.safetensors").read_text() == "released before"
