"""`UserError`, which ends a script in one line, and how passwords are kept out of messages."""

from __future__ import annotations

import re


class UserError(Exception):
    """Something that the user can fix: shown as one line on stderr, exit code 2."""


def without_passwords(text: str) -> str:
    """Text with the user and password of each address, as in postgresql://..., left out."""
    text = re.sub(r"([?&]\w*password=)[^&\s]*", r"\1...", text)
    text = re.sub(r"(https?)://[^/\s]*@", r"\1://...@", text)
    # of a database, up to the last @ before white space: a password may itself hold one
    text = re.sub(r"(?<!http)(?<!https)://[^@\n]*@([^@\s]*@)*", "://...@", text)
    return re.sub(r"password=[^&\s]*", "password=...", text)
