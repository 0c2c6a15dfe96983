"""What can go wrong, one class a cause.

Every error carries what happened and what the user can do about it. The command line prints
``str(error)`` on one line and exits with ``error.exit_code``; nothing here knows of that.
"""

from __future__ import annotations


class HsifcnError(Exception):
    """Root of all errors that hsifcn raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong, naming the file where there is one.
    remedy : str
        What the user can do about it; empty where nothing can be said.
    """

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.message}; {self.remedy}" if self.remedy else self.message
        return " ".join(text.split())


class UnreadableFileError(HsifcnError):
    """A file is missing, damaged, truncated or not of a format that hsifcn reads."""


class NoCubeError(UnreadableFileError):
    """A file holds a map, which may be labels, where a cube is wanted."""


class AmbiguousInputError(HsifcnError):
    """Several things in a file or folder could be meant; the message lists them."""


class LabelError(HsifcnError):
    """Labels that cannot be used: empty, of another size than the scene, negative."""


class OutsideError(LabelError):
    """Labels of which none lies in the scene."""


class SplitError(HsifcnError):
    """A split that cannot be made: unknown recipe, no training or no test pixels."""


class MismatchError(HsifcnError):
    """A model and a scene that do not belong together: other bands or wavelengths."""


class SettingError(HsifcnError):
    """An option with a value that makes no sense, alone or with the others."""


class ExistingOutputError(HsifcnError):
    """An output that exists and may not be overwritten."""


class MemoryCeilingError(HsifcnError):
    """The work does not fit into the memory that it was given."""


class FailedError(HsifcnError):
    """The input was good but the work failed: disk full, training diverged, child killed."""

    exit_code = 1


class Notice(UserWarning):
    """What was chosen or taken for granted, and is as it should be: told, but no warning."""
