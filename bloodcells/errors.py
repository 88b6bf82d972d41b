"""The one error that is the user's to mend."""


class UserError(Exception):
    """Something that the user can mend: shown as one line on stderr, exit code 2."""
