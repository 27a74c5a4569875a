"""Errors that are meant for a person: what happened, where, and what to do next."""


class UserError(Exception):
    """Something the reader can act on; the command line prints it without a traceback.

    `hint` is the next step, as a sentence or a command.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
