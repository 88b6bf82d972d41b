"""What the tests with hypothesis share: how many examples they try, and odd values."""

import copy
from contextlib import contextmanager

from disk_faults import EVERY
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from bloodcells.errors import UserError

SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def examples(few, all_of_them):
    """How many examples a test tries."""
    return settings(
        max_examples=all_of_them if EVERY else few,
        deadline=None,
        derandomize=not EVERY,
        suppress_health_check=SUPPRESSED,
    )


@contextmanager
def refused_in_words():
    """Within the block, nothing is raised but a `UserError` that says something."""
    try:
        yield
    except UserError as error:
        if not str(error).strip():
            raise


SCALARS = st.one_of(st.integers(-(2**60), 2**60), st.floats(), st.booleans(), st.text(max_size=8))
TOML = st.one_of(SCALARS, st.lists(st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=3))
FEW = st.one_of(TOML, st.none())
JSON = st.one_of(FEW, st.lists(FEW, max_size=3), st.dictionaries(st.text(max_size=3), FEW))


def paths_in(value, here=()):
    """The place of each entry in nested JSON."""
    yield here
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_in(inner, (*here, key))


def replaced(value, path, new):
    """A copy with one entry replaced."""
    if not path:
        return new
    found = copy.deepcopy(value)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return found
