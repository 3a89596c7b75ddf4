"""The errors that a verb turns into a line and an exit status of its own; warnings that name the user's line."""

from __future__ import annotations

import os
import sys
import warnings


class UserError(ValueError):
    """Something the user gave cannot be used: a path, a table, a setting, a checkpoint.

    The message is one line and says what was wrong, where, and what to do about it. Anything else that is raised is our own
    mistake and keeps its traceback (exit status 1).
    """


class Preempted(Exception):
    """A run was asked to stop and can be resumed; a verb ends with `status`, 128 + signal as in shells (143, 130, 129)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class LicenceWarning(UserWarning):
    """The weights that were loaded may be used under conditions that many users cannot meet (non-commercial ones)."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """A Python warning at the line that called this package, however deep the caller of this function stands in it."""
    package = os.path.dirname(__file__) + os.sep
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
