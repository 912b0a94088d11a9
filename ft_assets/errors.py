"""The two ways work ends early. Both carry one message that says what, where and what to do."""

import errno

INTERRUPTED = 130
"""The exit code of a command that was interrupted, as shells have it."""
WAITING = 4
"""The exit code of a command whose work is with a service that takes its time."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """The user's input is wrong: the command line exits 1."""


class StageError(Exception):
    """A stage could not do its work on input that was well formed: the command line exits 3."""


class WaitingError(StageError):
    """The work is with a service that takes its time, to be collected by a later run: exit code 4."""


def in_words(error: Exception) -> str:
    """One message for an error; one that is not the project's own is named by its type."""
    if isinstance(error, UserError | StageError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def exit_code(error: Exception) -> int:
    """What an error means for the command line."""
    if isinstance(error, WaitingError):
        return WAITING
    return 1 if isinstance(error, UserError) else 3


def gravest(*codes: int) -> int:
    """The exit code of a command that came to several; waiting is the least of all."""
    return max(codes, key=lambda code: 0.5 if code == WAITING else code)


def no_room(error: OSError, where: object) -> StageError | None:
    """The StageError for a disk that is full at `where`; None for any other error."""
    if error.errno not in _NO_ROOM:
        return None
    return StageError(
        f"no space left on device: {where} ({error.strerror}); the version before is still current. "
        "Free some space and refresh again"
    )
