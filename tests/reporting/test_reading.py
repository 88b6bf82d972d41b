"""Results of older code are told from today's."""

from pathlib import Path

import pytest

from bloodcells.reporting.tables.reading import older_commit
from bloodcells.tracking import code_hash, provenance

COMMIT = "0123456789ab"


def code_with(*changed, script="model_cnn.py"):
    """The code entry of results, made before these files of a script changed."""
    files = provenance.committed_code(script) | dict.fromkeys(changed, "0" * 12)
    return {"script": script, "commit": COMMIT, "files": files}


@pytest.mark.parametrize(("share", "older"), [(0.0, None), (0.5, COMMIT)])
def test_domain_randomisation_may_change_where_there_was_none(share, older):
    setting, path = "domain_randomisation", "bloodcells/training/domain_randomisation.py"
    assert older_commit({"code": code_with(path), "config": {setting: share}}) == older
    for uses, found in (
        (True, {"config": {"space": {"domain-randomisation": [0, share]}}}),
        (True, {"variants": [{"changes": {setting: share}}]}),
        (False, {"variants": [{"changes": {"lr": 1}}]}),
        (share > 0, {"config": {}, "runs": {"cnn-x": {setting: share}}}),
        (False, {"config": {}, "runs": [{"seed": 0}]}),
    ):
        assert (older_commit({"code": code_with(path), **found}) is not None) == uses
    assert older_commit({"code": code_with(path, "models.py"), "config": {setting: share}})


@pytest.mark.parametrize(
    ("found", "older"),
    [
        ({"environment": {"processes": 1}}, None),
        ({"environment": {"processes": 2}}, COMMIT),
        ({"environment": {}}, None),
        ({"environment": {}, "averaging_seconds": 0.1}, COMMIT),
    ],
)
def test_code_for_torchrun_may_change_where_it_was_not_used(found, older):
    code = code_with("bloodcells/training/distributed.py")
    assert older_commit({"code": code, **found}) == older


@pytest.mark.parametrize("path", [p for p, s in code_hash.ONLY_WITH.items() if s == "elsewhere"])
def test_code_for_other_laboratories_may_change_where_none_was_scored(path):
    assert (provenance.ROOT / path).is_file()
    for script, scored, older in (
        ("ablation.py", {}, None),
        ("ablation.py", {"elsewhere": "chula_wbc"}, COMMIT),
        ("model_release.py", {"elsewhere": {"name": "chula_wbc"}}, COMMIT),
        ("finetune.py", {}, COMMIT),
    ):
        code = code_with(path, script=script)
        assert older_commit({"code": code, "config": {}, **scored}) == older


@pytest.mark.parametrize(
    ("script", "scored", "older"),
    [
        ("ablation.py", {}, None),
        ("ablation.py", {"elsewhere": "chula_wbc"}, COMMIT),
        ("model_release.py", {}, COMMIT),  # it scores framed images, too
        ("finetune.py", {}, COMMIT),
    ],
)
def test_scores_elsewhere_may_change_where_there_are_none(script, scored, older):
    code = code_with("bloodcells/evaluation/elsewhere.py", script=script)
    assert older_commit({"code": code, "config": {}, **scored}) == older


@pytest.mark.parametrize(
    ("found", "older"),
    [
        ({"config": {"model": "ConvNet"}}, None),
        ({"config": {"model": "RobustNet"}}, COMMIT),  # a kind of CellNet
        ({"model": {"name": "Baseline"}}, None),
        ({"model": {"name": "CellNet"}}, COMMIT),
        ({"config": {}}, COMMIT),  # of all networks
        ({"config": {"model": "ConvNet", "space": {"model": ["CellNet"]}}}, COMMIT),
        ({"config": {"model": "ConvNet"}, "variants": [{"changes": {"model": "CellNet"}}]}, COMMIT),
        ({"runs": {"cnn-best": {"model": "CellNet"}}}, COMMIT),
        ({"runs": {"cnn-paper": {"model": "ConvNet"}}}, None),
        ({"config": {"model": "ConvNet", "released": "cnn-robust.safetensors"}}, COMMIT),
        ({"config": {"model": "ConvNet", "teacher": "plots/cnn-best"}}, COMMIT),
    ],
)
def test_other_networks_may_change(found, older, monkeypatch):
    then = Path("models.py").read_bytes()
    now = then.replace(b"for _ in range(halvings - 1)", b"for _ in range(halvings)")
    now = now.replace(b"NETWORKS = (", b"class Mine(Baseline): ...\n\n\nNETWORKS = (Mine, ")
    code = code_with("models.py")
    today = code["files"] | {"models.py": code_hash.file_hash(now)}
    code["files"]["models.py"] = code_hash.file_hash(then)
    monkeypatch.setattr(provenance, "at_commit", lambda commit, path: then)
    monkeypatch.setattr(provenance, "at_head", lambda path: now)
    monkeypatch.setattr(provenance, "committed_code", lambda script: today)
    assert older_commit({"code": code, **found}) == older
    monkeypatch.setattr(provenance, "at_commit", lambda commit, path: None)
    assert older_commit({"code": code, **found}) == COMMIT  # unknown
