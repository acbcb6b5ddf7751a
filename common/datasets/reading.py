"""Finds the files of data sets, and turns failures to read them into one sentence."""

import contextlib
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence

from kipper.common.errors import UserError
from kipper.common.files import read_regular_file
from kipper.common.printable import printable

_PART_BYTES = 2**20
_MOST_OF_A_REASON = 300  # libraries may cite the file


@contextlib.contextmanager
def expecting(path: str | pathlib.Path, expected: str) -> Iterator[None]:
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
        raise UserError(
            f"{path} cannot be read as {expected}: {printable(reason, _MOST_OF_A_REASON)}"
        ) from error


def read_whole(path: pathlib.Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        UserError: it is larger than that.
        OSError: see `read_regular_file`.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise UserError(f"{path} has {size:,} bytes, expected at most {most_bytes:,}")
    return read_regular_file(path)


def read_at_most(read: Callable[[int], bytes], size: int) -> bytes:
    """The next bytes of a file, fewer at its end; takes no more memory than there are."""
    content = io.BytesIO()
    while part := read(min(size - content.tell(), _PART_BYTES)):
        content.write(part)
    return content.getvalue()


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
