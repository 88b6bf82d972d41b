"""The two training scripts: they learn, repeat themselves, and read the test split only once."""

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import QUICK_CNN, QUICK_OF
from written import complaints, metrics_of, probabilities_of

import model_baseline
import model_cnn
from bloodcells.cli.recipe import Recipe
from bloodcells.data import bloodmnist
from bloodcells.data.bloodmnist import Labelled
from bloodcells.data.folds import Fold
from bloodcells.data.photographs import STAGES
from bloodcells.evaluation import prediction
from bloodcells.training.augmentation import Batches

SCRIPTS = {"model_baseline.py": model_baseline, "model_cnn.py": model_cnn}
pytestmark = pytest.mark.usefixtures("no_figures")
SMALL_NETWORK = ("--model", "CellNet", "--widths", 4, 4, 8)
FOLD = Fold(seed=0, fold=None, train=np.arange(0), held_out=None, scored=False)


@pytest.fixture(scope="module")
def four_corners():
    """Images of 8 px, dark in the corner that their label names."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (256, 8, 8, 3), dtype=torch.uint8)
    labels = torch.arange(256) % 4
    images[labels == 0, :4, :4] = 0
    images[labels == 1, 4:, :4] = 0
    images[labels == 2, :4, 4:] = 0
    return Labelled(images, labels)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_once, quick_run):
    """The run folder of each script."""
    folder = tmp_path_factory.mktemp("runs") / "cnn"
    run_once("model_cnn.py", *QUICK_CNN, "--output", folder)
    return {"model_baseline.py": quick_run, "model_cnn.py": folder}


@pytest.mark.parametrize("script", SCRIPTS)
def test_stages_instead_of_classes(run, tmp_path, script):
    flags = (*QUICK_OF[script], "--labels", "stages", "--output", tmp_path)
    assert run(script, *flags).code == 0
    assert complaints(tmp_path / "metrics.json") == []
    metrics = metrics_of(tmp_path)
    assert [row["class"] for row in metrics["test_per_class"]] == list(STAGES)
    assert metrics["config"]["labels"] == "stages"
    with np.load(tmp_path / "predictions.npz") as saved:
        assert saved["probabilities"].shape[2] == 11


def test_photographs_are_refused_where_they_make_no_sense(fails, tmp_path):
    flags = ("model_cnn.py", "--photographs", tmp_path)
    assert "not allowed with --synthetic" in fails(*flags, "--synthetic")
    assert "--no-jpeg does nothing" in fails("model_cnn.py", "--no-jpeg", "--synthetic")
    assert "PLATELET_137525.jpg cannot be read" in fails(*flags, "--output", tmp_path / "run")


def test_cnn_learns(four_corners):
    args = Namespace(model="ConvNet", size=8, widths=None, dropout=None, labels="classes")
    recipe = Recipe(epochs=20, batch_size=32, lr=1e-3)
    training = model_cnn.set_up(args, recipe, FOLD, four_corners)
    history = [
        model_cnn.train_epoch(*training, recipe)
        | prediction.score(training[0], four_corners, recipe)
        for _ in range(recipe.epochs)
    ]
    assert history[0]["train_loss"] > 1
    assert history[-1]["val_accuracy"] == 1
    assert history[-1]["val_loss"] < 0.1


def test_baseline_learns(four_corners):
    recipe = Recipe(epochs=20, batch_size=32, lr=1e-2)
    torch.manual_seed(0)
    model = model_baseline.Baseline(image_size=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    batches = Batches(*four_corners, recipe, torch.Generator().manual_seed(0))
    rows = [model_baseline.train_epoch(model, batches, optimizer, recipe) for _ in range(20)]
    assert rows[0]["train_loss"] > 10 * rows[-1]["train_loss"]
    assert rows[-1]["train_accuracy"] == 1
    assert rows[-1]["lr"] == recipe.lr
    assert rows[-1]["train_seconds"] > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_is_as_the_flags_say(four_corners, precision):
    args = Namespace(model="ConvNet", size=28, widths=None, dropout=0.4, labels="classes")
    dropouts = [m.p for m in model_cnn.build(args).modules() if isinstance(m, torch.nn.Dropout)]
    assert set(dropouts) == {0.4}
    args = Namespace(model="Baseline", size=8, widths=None, dropout=None, labels="classes")
    recipe = Recipe(epochs=1, batch_size=256, label_smoothing=0.3, precision=precision)
    training, kinds = model_cnn.set_up(args, recipe, FOLD, four_corners), []
    with torch.no_grad():
        logits = training[0](bloodmnist.normalise(four_corners.images))
    training[0].register_forward_hook(lambda module, given, found: kinds.append(found.dtype))
    loss = torch.nn.functional.cross_entropy(logits, four_corners.labels, label_smoothing=0.3)
    row = model_cnn.train_epoch(*training, recipe)
    assert row["train_loss"] == pytest.approx(loss.item(), abs=0.01)
    assert kinds == [getattr(torch, precision)]


def test_schedule_is_in_the_history(four_corners):
    args = Namespace(model="CellNet", size=8, widths=[4, 4, 8], dropout=None, labels="classes")
    recipe = Recipe(epochs=2, batch_size=64, lr=0.1, schedule="triangle", warmup=0.5)
    training = model_cnn.set_up(args, recipe, FOLD, four_corners)
    rates = [model_cnn.train_epoch(*training, recipe)["lr"] for _ in range(2)]
    assert rates == pytest.approx([0.1, 0.02])  # of the fourth of eight steps, and of the last


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_seed_gives_one_result(run, finished, tmp_path, script):
    for name, seed in (("again", 0), ("other", 4)):
        assert run(script, *QUICK_OF[script], "--seed", seed, "--output", tmp_path / name).code == 0
    folders = (finished[script], tmp_path / "again", tmp_path / "other")
    first, again, other = map(probabilities_of, folders)
    assert (first == again).all()
    assert (first != other).any()
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_fold_does_not_depend_on_the_folds_before(run, finished, tmp_path, script):
    for fold in (1, 0):
        run(script, *QUICK_OF[script], "--only-fold", fold, "--output", tmp_path / "apart")
    assert (probabilities_of(tmp_path / "apart") == probabilities_of(finished[script])).all()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("protocol", "first_is_scored"),
    [
        ("cross-validation", True),
        ("as-published", False),
        ("official", True),
        ("train-and-validation", True),
    ],
)
def test_each_scored_model_reads_the_test_split_once_after_its_last_epoch(
    run, tmp_path, monkeypatch, script, protocol, first_is_scored
):
    module, events, trained = SCRIPTS[script], [], set()
    predict, train_epoch = prediction.predict, module.train_epoch
    test = bloodmnist.load(synthetic=True).test.images

    def spy_predict(model, images, *rest, **settings):
        shown = images[:].numpy()
        if (shown[:1] == test[:1]).all():
            events.append("test")
        else:
            seen = any(image.tobytes() in trained for image in shown)
            events.append("trained on" if seen else "held out")
        return predict(model, images, *rest, **settings)

    def spy_train(model, batches, *rest):
        events.append("epoch")
        trained.clear()
        trained.update(image.tobytes() for image in batches.images[:].numpy())
        return train_epoch(model, batches, *rest)

    monkeypatch.setattr(prediction, "predict", spy_predict)
    monkeypatch.setattr(module, "train_epoch", spy_train)
    many = ("--folds", 2) if protocol in ("cross-validation", "as-published") else ("--runs", 2)
    flags = ("--synthetic", "--device", "cpu", *many, "--epochs", 3, "--protocol", protocol)
    flags += () if script == "model_baseline.py" else SMALL_NETWORK
    assert run(script, *flags, "--output", tmp_path).code == 0
    shown = ["held out"] * (protocol != "train-and-validation")
    expected = []
    for scored in (first_is_scored, True):  # by model
        expected += 3 * ["epoch", *shown] + shown + ["test"] * scored
    assert events == expected
    metrics = metrics_of(tmp_path)
    assert [row["test"] is not None for row in metrics["runs"]] == [first_is_scored, True]


def test_the_history_ends_with_the_held_out_accuracy_of_the_run(finished):
    folder = finished["model_cnn.py"]
    rows = (folder / "history.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[2].split(","), strict=True))
    metrics = metrics_of(folder)
    assert float(last["val_accuracy"]) == pytest.approx(metrics["runs"][1]["val"]["accuracy"])


def test_predictions_at_the_end(four_corners):
    args = Namespace(model="CellNet", size=8, widths=[4, 4, 8], dropout=None, labels="classes")
    model = model_cnn.build(args)
    recipe, halves = Recipe(views=8), (slice(128), slice(128, None))
    held_out, test = (Labelled(*(part[rows] for part in four_corners)) for rows in halves)
    found = prediction.final_predictions(model, held_out, test, recipe)
    assert torch.equal(found.pop("val_labels"), held_out.labels)
    expected = {
        "val_probabilities": prediction.predict(model, held_out.images, 8),
        "test_probabilities": prediction.predict(model, test.images, 8),
        "test_one_view": prediction.predict(model, test.images, 1),
    }
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    nothing = prediction.final_predictions(model, None, None, replace(recipe, views=1))
    assert nothing == {}
