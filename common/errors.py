"""The errors that kipper raises on purpose.

Every message is one sentence: what was wrong, what it was, what would be right. The command line
prints the sentence alone; a traceback means a defect in kipper.
"""


class KipperError(Exception):
    """Base of all errors kipper raises on purpose."""


class UserError(KipperError):
    """Something the user gave cannot be used: a setting, a file, a folder."""


class NumericalError(KipperError):
    """A computation that was well posed on paper failed in floating point."""


class WorkerError(KipperError):
    """The workers could not finish the blocks they were given."""


class Interrupted(KipperError):
    """The user asked the run to stop; the same command resumes it."""

    def __init__(self, message: str = "The run was interrupted; the same command resumes it."):
        super().__init__(message)
