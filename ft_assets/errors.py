"""The errors that end work early. Each has one message that says what, where and what to do."""

import errno

INTERRUPTED = 130
"""The exit code of an interrupted command, as in shells: 128 + SIGINT."""
WAITING = 4
"""The exit code of a command that waits for a slow service."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """The user's input is wrong: the command line exits 1."""


class StageError(Exception):
    """A stage failed on well-formed input: the command line exits 3."""


class WaitingError(StageError):
    """A slow service is still working, and a later run collects the result: the command line exits 4."""


def in_words(error: Exception) -> str:
    """The message of an error; errors that are not the project's own start with their type."""
    if isinstance(error, UserError | StageError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def exit_code(error: Exception) -> int:
    """The exit code of the command line for an error."""
    if isinstance(error, WaitingError):
        return WAITING
    return 1 if isinstance(error, UserError) else 3


def gravest(*codes: int) -> int:
    """The most severe of several exit codes; WAITING is more severe only than 0."""
    return max(codes, key=lambda code: 0.5 if code == WAITING else code)


def no_room(error: OSError, where: object) -> StageError | None:
    """The StageError for a full disk at `where`; None for any other error."""
    if error.errno not in _NO_ROOM:
        return None
    return StageError(
        f"no space left on device: {where} ({error.strerror}); the previous version is still current. "
        "Free some space and refresh again"
    )
