"""What counts in the hash of a file of code."""

import pytest

from bloodcells.tracking.code_hash import classes, file_hash, network_parts


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


NETWORKS = b"""
from torch import nn
WIDTH = 8
def layer(n): return nn.Linear(n, n)
class A(nn.Module):
    one = layer(WIDTH)
class B(A):
    two = 2
NETWORKS = (A, B)
print(1)
def count(a): return len(a)
def build(name): return NETWORKS[name]()
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("NETWORKS = (A, B)", "class C(B): ...\nNETWORKS = (A, B, C)", ""),  # a new network
        ("WIDTH = 8", "WIDTH = 8\nimport math\nDEPTH = 3", ""),
        ("two = 2", "two = 3", "B"),
        ("WIDTH = 8", "WIDTH = 9", "AB"),
        ("nn.Linear(n, n)", "nn.Conv2d(n, n, 1)", "AB"),
        ("from torch import nn", "from ours import nn", "AB"),
        ("[name]()", "[name](1)", "AB"),
        ("print(1)", "A.one = 1", "AB"),
        ("return len", "return 1 + len", "AB"),  # whatever uses it
    ],
)
def test_a_network_is_changed_only_by_what_it_uses(old, new, changed):
    assert old.encode() in NETWORKS
    assert classes(NETWORKS) == {"A", "B"}
    edited = NETWORKS.replace(old.encode(), new.encode())
    for name in "AB":
        now = network_parts(edited, [name])
        same = all(now.get(n) == code for n, code in network_parts(NETWORKS, [name]).items())
        assert same == (name not in changed)
