"""Results of older code are told from today's."""

import pytest

from bloodcells.reporting.tables.reading import older_commit
from bloodcells.tracking import code_hash, provenance

COMMIT = "0123456789ab"


def code_with(*changed):
    """The code entry of results, made before these files of model_cnn.py changed."""
    files = provenance.committed_code("model_cnn.py") | dict.fromkeys(changed, "0" * 12)
    return {"script": "model_cnn.py", "commit": COMMIT, "files": files}


@pytest.mark.parametrize(("share", "older"), [(0.0, None), (0.5, COMMIT)])
def test_domain_randomisation_may_change_where_there_was_none(share, older):
    setting, path = "domain_randomisation", code_hash.ONLY_WITH["domain_randomisation"]
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
    code = code_with(code_hash.ONLY_WITH["torchrun"])
    assert older_commit({"code": code, **found}) == older
