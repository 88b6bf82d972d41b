"""The one error that is the user's to mend, and what no message or record may contain."""

from __future__ import annotations

import re


class UserError(Exception):
    """Something that the user can mend: shown as one line on stderr, exit code 2."""


def without_passwords(text: str) -> str:
    """Text with the user and password of each address, as in postgresql://..., left out."""
    text = re.sub(r"://[^@\n]*@", "://...@", text)  # a password may hold anything but an @
    return re.sub(r"password=[^&\s]*", "password=...", text)
