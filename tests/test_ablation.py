"""The ablation, which must not see the test split."""

import json
import signal

import numpy as np
import pytest
import torch

import ablation
from bloodcells.data import bloodmnist, corruptions
from bloodcells.data.folds import make_folds
from bloodcells.training import checkpoint, checkpoint_folder

SMALL = ("--widths", "4", "4", "8", "--views", "1")


def test_ablation(run, tmp_path, predicted):
    flags = ["--synthetic", "--epochs", "2", "--replicates", "2", "--batch-size", "64", *SMALL]
    outcome = run("ablation.py", *flags, "--only", "no-shift", "--output", tmp_path)
    assert outcome.code == 0
    found = json.loads((tmp_path / "ablation.json").read_text())
    whole, variant = found["variants"]
    assert (whole["name"], whole["changes"]) == ("whole recipe", {})
    assert (variant["name"], variant["changes"]) == ("no shift", {"shift": 0})
    assert found["config"]["shift"] > 0
    assert whole["change"] == [0, 0]
    changes = np.subtract(variant["accuracy"], whole["accuracy"])
    np.testing.assert_allclose(variant["change"], changes)
    assert changes.any()
    more_right = variant["mcnemar"]["only_first"] - variant["mcnemar"]["only_second"]
    assert more_right == pytest.approx(changes.sum() * 576 / 5, abs=1)  # images of a fold
    assert outcome.out.splitlines()[-3].startswith("| no shift | ")
    assert (tmp_path / "ablation.png").exists()
    test = {image.tobytes() for image in bloodmnist.load(None, 28, synthetic=True).test.images}
    assert predicted
    assert not any(one.tobytes() in test for images in predicted for one in images[:].numpy())


def test_no_variant_is_trained_on_what_it_is_scored_on(run, tmp_path, monkeypatch, predicted):
    trained, train_epoch = [], ablation.train_epoch

    def noted(model, batches, *rest):
        trained.append({image.tobytes() for image in batches.images[:].numpy()})
        return train_epoch(model, batches, *rest)

    monkeypatch.setattr(ablation, "train_epoch", noted)
    flags = ("--synthetic", "--epochs", 1, "--focus", 0, "--replicates", 2, *SMALL)
    assert run("ablation.py", *flags, "--only", "no-shift", "--output", tmp_path).code == 0
    scored = predicted[::2]  # after the epoch; and again at the end
    for own, shown in zip(trained, scored, strict=True):
        assert not any(image.tobytes() in own for image in shown[:].numpy())


def test_ablation_of_domain_randomisation(run, fails, sorted_cells, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "CORRUPTED", 16)
    scored, scores = [], ablation.unseen_scores

    def noted(networks, parts, *rest):
        scored.append(parts)
        return scores(networks, parts, *rest)

    monkeypatch.setattr(ablation, "unseen_scores", noted)
    sorted_cells(8, side=84, name="elsewhere")
    flags = ["--synthetic", "--epochs", "2", "--replicates", "2", "--config", "ablation-robust"]
    flags += ["--only", "colour-unchanged", "--views", "1", "--widths", "4", "8", "8"]
    out = tmp_path / "out"
    outcome = run("ablation.py", *flags, "--output", out, "--elsewhere", tmp_path / "elsewhere")
    assert outcome.code == 0, outcome
    found = json.loads((out / "ablation.json").read_text())
    assert "elsewhere" not in found["config"]
    assert (found["elsewhere"], found["corrupted_images"]) == ("elsewhere", 16)
    pool, folds = make_folds("cross-validation", bloodmnist.load(synthetic=True), 5, 1, 0)
    for parts in scored:  # of each variant: what each fold holds out
        for part, fold in zip(parts, folds, strict=False):
            held_out = pool.to(torch.device("cpu")).choose(fold.held_out)
            assert torch.equal(part.images[:], held_out.images[:])
    for row in found["variants"]:
        assert len(row["corrupted"]) == len(row["elsewhere"]) == 2
        assert set(row["corrupted"][0]) == set(corruptions.CORRUPTIONS)
        for part in row["elsewhere"]:
            assert 0 <= part["all"] <= part["given"] <= 1
    flags += ["--output", out, "--resume", "--elsewhere"]
    assert "finished already" in run("ablation.py", *flags, tmp_path / "elsewhere").out
    line = fails("ablation.py", *flags, sorted_cells(8, side=84, name="other"))
    assert "different elsewhere elsewhere there, other now" in line
    whole, variant = found["variants"]
    assert whole["corrupted"] != variant["corrupted"]
    line = fails("ablation.py", "--synthetic", "--elsewhere", tmp_path, "--output", out)
    assert "--elsewhere does nothing without --domain-randomisation" in line


def test_ablation_ends_after_the_batch(run, tmp_path, monkeypatch):
    save = checkpoint.Checkpoint.save

    def save_then_ctrl_c(*args):
        save(*args)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(checkpoint.Checkpoint, "save", save_then_ctrl_c)
    flags = ["--synthetic", "--epochs", "2", "--replicates", "2", *SMALL]
    flags += ["--checkpoint-every", "9"]
    # a background shell ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        outcome = run("ablation.py", *flags, "--only", "no-shift", "--output", tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.code == 130
    first, *_, last = outcome.err.strip().splitlines()
    assert first == "stopping after this batch; again to stop at once"
    assert last.startswith("stopped; resume with: python ablation.py")
    kept = tmp_path / "checkpoint" / "whole-recipe-seed-0-fold-0.pt"
    assert len(torch.load(kept, weights_only=True)["history"]) == 1  # flushed at the stop


def test_ablation_refuses_what_it_cannot_tell(fails, run, tmp_path):
    flags = ["--synthetic", "--output", tmp_path]
    assert "the variants are whole-recipe, no-focus" in fails("ablation.py", *flags, "--only", "x")
    for protocol in ("as-published", "official"):
        line = fails("ablation.py", *flags, "--protocol", protocol)
        assert "the ablation needs cross-validation" in line
    idle = ("--schedule", "constant", "--focus", 0, "--warmup", 0.3)
    assert "--warmup does nothing without" in fails("ablation.py", *flags, *idle)
    assert "only 2 folds" in fails("ablation.py", *flags, "--folds", "2", "--replicates", "3")
    line = fails("ablation.py", *flags, "--shift", 0, "--only", "no-shift")
    assert "--only no-shift: it changes nothing in this recipe" in line


def test_ablation_with_variants_of_one_s_own(run, fails, tmp_path, monkeypatch):
    """One changes nothing in this recipe, one trains for longer."""
    variants = {ablation.WHOLE: {}, "no-shift": {"shift": 0}, "longer": {"epochs": 2}}
    monkeypatch.setattr(ablation, "VARIANTS", variants)
    flags = ("--synthetic", "--epochs", 1, "--focus", 0, "--replicates", 2, "--shift", 0, *SMALL)
    outcome = run("ablation.py", *flags, "--output", tmp_path)
    assert "no-shift: skipped, it changes nothing in this recipe" in outcome.out
    assert "longer, fold 0\nrun 2/4 epoch 1/2:" in outcome.out
    rows = json.loads((tmp_path / "ablation.json").read_text())["variants"]
    assert [row["name"] for row in rows] == ["whole recipe", "longer"]
    variants["lr/2"] = {"lr": 0.0025}
    line = fails("ablation.py", *flags, "--output", tmp_path / "new")
    assert "variant 'lr/2': use letters" in line
    del variants["lr/2"]
    variants["hardly"] = {"domain_randomisation": 0.001}
    line = fails("ablation.py", *flags, "--output", tmp_path / "new")
    assert "--domain-randomisation 0.001: of 64 images at a time it would change none" in line


def test_ablation_resumes(run, tmp_path, stop_after):
    flags = ("--synthetic", "--epochs", 2, "--replicates", 2, "--batch-size", 96, *SMALL)
    flags += ("--only", "no-shift", "--output", tmp_path)
    with stop_after(checkpoint_folder.CheckpointFolder, "finish", 3):
        assert run("ablation.py", *flags).code == 130
    outcome = run("ablation.py", *flags, "--resume")
    assert outcome.code == 0, outcome
    assert outcome.out.count(" epoch ") == 2  # of the one model that was left


def test_a_variant_without_its_warmup(run, tmp_path):
    """A constant rate has no warm-up, whatever that of the recipe."""
    flags = ["--config", "cnn-fast-15", "--synthetic", "--protocol", "cross-validation"]
    flags += ["--replicates", 2, "--focus", 0, "--warmup", 0.1, "--epochs", 1, *SMALL]
    outcome = run("ablation.py", *flags, "--only", "constant-rate", "--output", tmp_path)
    assert outcome.code == 0, outcome


@pytest.mark.parametrize("name", ["label_smothing", "seed", "size"])
def test_a_variant_of_no_setting_is_refused(run, tmp_path, monkeypatch, name):
    monkeypatch.setitem(ablation.VARIANTS, "mine", {name: 64})
    with pytest.raises(ValueError, match=f"mine: not of the recipe or network: {name}"):
        run("ablation.py", "--synthetic", "--only", "mine", "--output", tmp_path)


def test_scores_elsewhere_are_not_replaced_by_none(fails, tmp_path):
    (tmp_path / "ablation.json").write_text('{"elsewhere": "wbc"}')
    flags = ("--config", "ablation-robust", "--synthetic", "--output", tmp_path, "--overwrite")
    assert "which would be lost" in fails("ablation.py", *flags)
    (tmp_path / "checkpoint").mkdir()  # of a command that is to replace them
    assert "which would be lost" in fails("ablation.py", *flags[:-1], "--resume")
