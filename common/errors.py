"""The errors that kipper raises on purpose.

Each message is one sentence: what was wrong and what would be right. The command line prints only
the sentence; a traceback means a bug in kipper.
"""

import errno
import os

# Errors of the machine, which no choice of a path avoids.
OF_THE_MACHINE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
    }
)


class KipperError(Exception):
    """Base of all errors kipper raises on purpose."""


class UserError(KipperError):
    """A setting, file or folder that the user gave cannot be used."""


class TemporaryError(KipperError):
    """Something outside failed that may recover: the same command may succeed later."""


class WriteError(TemporaryError, OSError):
    """The machine cannot write: the disk is full or fails, or descriptors ran out.

    The file still has its old content. Attributes are those of an OSError.
    """

    def __init__(self, path: os.PathLike[str], error: OSError):
        super().__init__(error.errno, error.strerror or str(error), os.fspath(path))

    def __str__(self) -> str:
        return f"{self.filename} cannot be written ({self.strerror})."


class NumericalError(KipperError):
    """A computation failed in floating point, although it is well posed."""


class Diverged(NumericalError):
    """A run has left the range in which its steps could still lead anywhere."""


class WorkerError(KipperError):
    """The workers could not finish the blocks they were given."""


class Interrupted(KipperError):
    """The user asked the run to stop; the same command resumes it."""

    def __init__(self, message: str = "The run was interrupted; the same command resumes it."):
        super().__init__(message)
