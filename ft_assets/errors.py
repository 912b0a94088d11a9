"""The two ways work ends early. Both carry one message that says what, where and what to do."""


class UserError(Exception):
    """The user's input is wrong: the command line exits 1."""


class StageError(Exception):
    """A stage could not do its work on input that was well formed: the command line exits 3."""
