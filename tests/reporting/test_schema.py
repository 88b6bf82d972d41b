"""Every metrics.json, committed or just written, is as docs/metrics.schema.json says."""

import json

import jsonschema
import pytest
from conftest import OLDER, QUICK, ROOT, SCHEMA, complaints

COMMITTED = sorted((ROOT / "plots").glob("*/metrics.json"))


def test_the_schema_is_one_and_describes_itself():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert len(COMMITTED) >= 12
    for name, part in SCHEMA["$defs"]["training"]["properties"].items():
        assert "description" in part or "$ref" in part, name


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_metrics(path):
    if f"{path.parent.name}/{path.name}" in OLDER and "code" not in json.loads(path.read_text()):
        pytest.skip("made before results knew their code")
    assert complaints(path) == []


def test_written_metrics(run, quick_run, tmp_path):
    assert complaints(quick_run / "metrics.json") == []
    flags = ("--protocol", "as-published", "--save-weights", "--output", tmp_path)
    assert run("model_cnn.py", *QUICK, *flags).code == 0
    assert complaints(tmp_path / "metrics.json") == []


def test_another_entry_is_noticed(quick_run, tmp_path):
    content = json.loads((quick_run / "metrics.json").read_text())
    for name, spoilt in (
        ("missing", {k: v for k, v in content.items() if k != "code"}),
        ("unknown", {**content, "note": "mine"}),
        ("wrong", {**content, "leaks_test_images": "no"}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(spoilt))
        assert complaints(tmp_path / f"{name}.json") != []
