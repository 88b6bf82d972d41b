"""What counts in the hash of a file of code."""

import pytest

from bloodcells.tracking.code_hash import file_hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f()", "f()  # why"),
        ('def f():\n    """One."""\n    g()', 'def f():\n    """Two."""\n    g()'),
        ('raise DivergedError("lower --lr")', 'raise DivergedError("try a lower --lr")'),
        ("def f(x: int) -> int: ...", "def f(x): ..."),
        ("x: int = 1", "x = 1"),
        ("f(cast(T, x))", "f(x)"),
        ("@overload\ndef f(x: None): ...\ndef f(x): ...", "def f(x): ..."),
        ("from collections.abc import Callable\nf()", "from typing import Callable\nf()"),
        ('f(help="images per step")', 'f(help="images of a step")'),
    ],
)
def test_what_changes_no_number_does_not_count(one, other):
    assert file_hash(one.encode()) == file_hash(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("f(x)", "f(y)"),
        ("class A:\n    x: int", "class A:\n    x: int = 1"),
        ("class A:\n    x: int", "class A:\n    y: int"),
    ],
)
def test_what_may_change_a_number_counts(one, other):
    assert file_hash(one.encode()) != file_hash(other.encode())
