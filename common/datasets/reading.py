"""Finds the files of data sets, and turns failures to read them into one sentence."""

import contextlib
import pathlib
import stat
from collections.abc import Iterator, Sequence

from kipper.common.errors import UserError


@contextlib.contextmanager
def expecting(path: pathlib.Path, expected: str) -> Iterator[None]:
    """Turns any exception of the block, which reads `path`, into a UserError.

    A corrupt pickle, zip or .mat file can raise nearly any exception, so the block should only
    read. A UserError passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        described = error.strerror if isinstance(error, OSError) else None
        reason = " ".join((described or str(error)).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as {expected}: {reason}") from error


def read_whole(path: pathlib.Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        UserError: it is larger than that, or a pipe or device, which could be without an end.
        OSError: it cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{path} is not a regular file, expected one")
    if about.st_size > most_bytes:
        raise UserError(f"{path} has {about.st_size:,} bytes, expected at most {most_bytes:,}")
    return path.read_bytes()


def find_folder(
    name: str, data_dir: pathlib.Path, subfolders: Sequence[str], any_of: Sequence[str]
) -> pathlib.Path:
    """The first of data_dir/<subfolder>, then data_dir itself, with one of the named files."""
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is not a folder, expected one with the files of {name}")
    for folder in (*(data_dir / subfolder for subfolder in subfolders), data_dir):
        if any((folder / file_name).is_file() for file_name in any_of):
            return folder
    raise UserError(
        f"{data_dir} holds no {' or '.join(any_of)}, expected the files of {name} there "
        f"or in its subfolder {' or '.join(subfolders)}"
    )
