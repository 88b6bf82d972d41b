"""The card of released weights, a JSON file: what it must say."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import models
from bloodcells.cli.arguments import SIZES

LEVELS = ("0.95", "0.99")  # coverage of the prediction sets
NORMALISATION = "pixel / 127.5 - 1"  # that of `bloodmnist.normalise`
VIEWS = (1, 8)  # numbers of views; a card has a calibration for each
MOST = 1024  # of channels, and of classes
TAKEN = (  # columns of predictions that no class may have the name of
    *("path", "label", "probability", "unlike_training", "foreign", "set", "x", "y", "side"),
    *("truth", "abstained"),
)


def read_card(text: str) -> dict[str, Any]:
    """The card in a JSON text. Raises `ValueError` for one that describes no model."""
    try:
        card = json.loads(text, parse_constant=refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(card, dict):
        raise ValueError("not an object")
    for key, (fits, what) in ENTRIES.items():
        check(card.get(key), fits, f"{key}: not {what}")
    if len(card["frequencies"]) != len(card["classes"]):
        raise ValueError("frequencies: not one for each class")
    if not math.isclose(sum(card["frequencies"]), 1, abs_tol=1e-3):
        raise ValueError("frequencies: they do not add up to 1")
    for views in map(str, VIEWS):
        part = card["calibration"].get(views)
        check(part, is_object, f"calibration: nothing for {views} views")
        check(part.get("temperature"), is_temperature, "temperature: not from 0.01 to 100")
        check(part.get("sets"), is_object, "sets: not an object")
        for level in LEVELS:
            check(part["sets"].get(level), is_share, f"sets: {level}: not a number from 0 to 1")
        if part["sets"][LEVELS[0]] < part["sets"][LEVELS[1]]:
            raise ValueError(f"sets: the bound of {LEVELS[0]} is below that of {LEVELS[1]}")
    return card


def check(value: object, fits: Callable[[Any], bool], problem: str) -> None:
    """Raise `ValueError` with the problem unless the value fits."""
    if not fits(value):
        raise ValueError(problem)


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def is_object(value: object) -> bool:
    """Whether a value is a JSON object."""
    return isinstance(value, Mapping)


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_temperature(value: Any) -> bool:
    """Whether a value is a temperature that leaves probabilities."""
    return is_number(value) and 0.01 <= value <= 100


def is_bound(value: Any) -> bool:
    """Whether a value is a number of at least 0."""
    return is_number(value) and value >= 0


def is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1


def is_size(value: Any) -> bool:
    """Whether a value is a side of the data set's images, in pixels."""
    return isinstance(value, int) and value in SIZES


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_width(value: Any) -> bool:
    """Whether a value is a number of channels."""
    return is_count(value) and value <= MOST


def is_normalisation(value: Any) -> bool:
    """Whether a value describes how images are normalised."""
    return value == NORMALISATION


def is_widths(value: Any) -> bool:
    """Whether a value is the widths of a network's stages, or null for its own."""
    return value is None or (isinstance(value, list) and bool(value) and all(map(is_width, value)))


def is_names(value: Any) -> bool:
    """Whether a value is a list of different names that can be shown as they are."""
    return (
        isinstance(value, list)
        and 2 <= len(value) <= MOST
        and all(isinstance(name, str) and is_printable(name) for name in value)
        and not set(value).intersection(TAKEN)
        and len(set(value)) == len(value)
    )


def is_printable(name: str) -> bool:
    """Whether a name is not empty and has no control, format or line characters."""
    return bool(name.strip()) and not any(
        unicodedata.category(letter)[0] in "CZ" and letter != " " for letter in name
    )


def is_frequencies(value: Any) -> bool:
    """Whether a value is a list of shares, none so small that its inverse is no weight."""
    return isinstance(value, list) and all(is_share(share) and share >= 1e-6 for share in value)


def is_md5(value: Any) -> bool:
    """Whether a value is an MD5 in hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None


def is_network(value: Any) -> bool:
    """Whether a value names a network that can be released."""
    network = models.MODELS.get(value) if isinstance(value, str) else None
    return network is not None and issubclass(network, models.CellNet)


ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (is_network, "CellNet or RobustNet"),
    "md5": (is_md5, "an MD5"),
    "size": (is_size, f"one of {', '.join(map(str, SIZES))} pixels"),
    "widths": (is_widths, "null or a list of whole numbers"),
    "parameters": (is_count, "a whole number"),
    "normalisation": (is_normalisation, NORMALISATION),
    "classes": (is_names, "a list of different names that are no column's"),
    "frequencies": (is_frequencies, "a list of shares of at least 1e-6"),
    "farthest": (is_bound, "a number of at least 0"),
    "calibration": (is_object, "an object"),
}
