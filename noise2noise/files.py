"""What is asked of files of any kind; needs nothing that takes long to import."""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from noise2noise.errors import InputError, write_failure

PART = ".part-"  # how the names of files begin that are not whole yet
LEFT_SECONDS = 3600  # from which on they are left of a process that was killed


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write a file under, that it is there whole or as it was; errors name it."""
    # Another process may write it too. Keras goes by the suffix; a name may be as long as can be.
    part = path.with_name(f"{PART}{secrets.token_hex(4)}-{path.name[-60:]}")
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise write_failure(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def remove_parts(folder: Path, age: float = LEFT_SECONDS) -> None:
    """Remove the unfinished files of processes that were killed, at least `age` seconds ago."""
    for part in folder.glob(f"{PART}{8 * '[0-9a-f]'}-*"):  # `whole`'s alone
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime >= age:
                part.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if need be; `InputError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder} is a file: name a folder") from None
    except NotADirectoryError:
        raise InputError(f"{folder} runs through a file: name a folder") from None
    except OSError as error:
        raise write_failure(folder, error) from None


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file so that it is there whole or as it was; `InputError` where it cannot be."""
    with whole(path) as part:
        part.write_bytes(contents)
