"""The error that a user can put right, which every verb turns into one line and exit status 2; and one warning."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave cannot be used: a path, a table, a setting, a checkpoint.

    The message is one line and says what was wrong, where, and what to do about it. Anything else that is raised is our own
    mistake and keeps its traceback (exit status 1).
    """


class LicenceWarning(UserWarning):
    """The weights that were loaded may be used under conditions that many users cannot meet (non-commercial ones)."""
