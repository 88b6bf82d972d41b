"""What scripts write, as the tests read and change it: metrics, predictions, pages."""

import json
import re
from html.parser import HTMLParser

import jsonschema
import numpy as np

from bloodcells import ROOT

SCHEMA = json.loads((ROOT / "docs" / "metrics.schema.json").read_text(encoding="utf-8"))


def metrics_of(folder):
    """The metrics.json of a run folder."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def probabilities_of(folder):
    """The probabilities in a run folder, (models, images, classes)."""
    with np.load(folder / "predictions.npz") as saved:
        return saved["probabilities"]


def change(folder, name="metrics.json", **changes):
    """Change entries of a JSON file; those of dictionaries are merged, all others replaced."""
    path = folder / name
    path.write_text(json.dumps(merged(json.loads(path.read_text()), changes)))


def merged(old, new):
    """`old` with the entries of `new`, at any depth."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: merged(old.get(key), value) for key, value in new.items()}


def complaints(path):
    """How a metrics.json breaks docs/metrics.schema.json; empty if it does not."""
    content = json.loads(path.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    error = jsonschema.exceptions.best_match(validator.iter_errors(content))
    return [f"{error.json_path}: {error.message[:200]}"] if error else []


class Addresses(HTMLParser):
    """The addresses in a page's tags, but for those of embedded data and of its own parts."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "poster", "action"):
                self.found += [value] * (not (value or "").startswith(("data:", "#")))


def fetches_nothing(page):
    """Whether a page links to nothing, and forbids all that is neither in it nor its own script."""
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    allowed = r"default-src 'none'|img-src data:|style-src 'unsafe-inline'|script-src 'sha256-\S+'"
    allowed += "|base-uri 'none'|form-action 'none'"
    parts = policy[1].split("; ")
    strict = "default-src 'none'" in parts and all(re.fullmatch(allowed, part) for part in parts)
    return strict and not Addresses(page).found
