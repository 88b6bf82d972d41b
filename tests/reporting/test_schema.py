"""What docs/metrics.schema.json asks of a metrics.json."""

import json

import jsonschema
from shared import QUICK_CNN
from written import SCHEMA, complaints, metrics_of


def test_the_schema_is_one_and_describes_itself():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for name, part in SCHEMA["$defs"]["training"]["properties"].items():
        assert "description" in part or "$ref" in part, name


def test_written_metrics(run, quick_run, tmp_path):
    assert complaints(quick_run / "metrics.json") == []
    flags = ("--protocol", "as-published", "--save-weights", "--output", tmp_path)
    assert run("model_cnn.py", *QUICK_CNN, *flags).code == 0
    assert complaints(tmp_path / "metrics.json") == []


def test_another_entry_is_noticed(quick_run, tmp_path):
    content = metrics_of(quick_run)
    for name, spoilt in (
        ("missing", {k: v for k, v in content.items() if k != "code"}),
        ("unknown", {**content, "note": "mine"}),
        ("wrong", {**content, "leaks_test_images": "no"}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(spoilt))
        assert complaints(tmp_path / f"{name}.json") != []
