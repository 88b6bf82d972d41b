"""What `pip install .` says: this is a collection of scripts."""

from typing import NoReturn

MESSAGE = (
    "This is a collection of scripts, not a package: install what it needs with 'make setup', or "
    "'pip install -r requirements.txt', and run the scripts where they are. To use the released "
    "network in a program of your own, call torch.hub.load(FOLDER, 'cellnet', source='local')."
)


def build_wheel(*_: object, **__: object) -> NoReturn:
    """Refuse to build. Raises `SystemExit`."""
    raise SystemExit(MESSAGE)


build_editable = build_sdist = build_wheel
