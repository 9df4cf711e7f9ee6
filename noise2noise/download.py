"""Fetch a file so that it is there whole and verified, or not there; for both downloads."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from noise2noise.errors import InputError, write_failure

DATA = Path(__file__).resolve().parent.parent / "data"
TIMEOUT = (10, 30)  # seconds to connect, and between two chunks
RETRY_DELAYS = (0.5, 1.0, 2.0)  # seconds before the second, third and fourth try
CHUNK = 1 << 16
STALE = 3600.0  # seconds without a byte after which a temporary file belongs to nobody


class WrongContents(Exception):  # noqa: N818, reads as what it is
    """What arrived is not what was asked for; the message says in which way."""


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar with bytes and speed, on stderr so that stdout stays clean; none in a log file."""
    from rich.console import Console

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_interactive
    ) as progress:
        yield progress


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents; `InputError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder} is a file: name a folder with --output-dir") from None
    except NotADirectoryError:
        raise InputError(f"{folder} runs through a file: name a folder with --output-dir") from None
    except OSError as error:
        raise write_failure(folder, error) from None


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    url: str,
    path: Path,
    check: Callable[[Path], None],
    progress: Progress,
    max_bytes: int,
) -> None:
    """Download `url` to `path`, by way of a temporary name beside it.

    Network failures, 429 and 5xx answers and wrong contents are tried again with growing
    delays. Whatever happens, `path` holds the verified file or what it held before.

    Parameters
    ----------
    check : callable
        Called with the temporary file; raises `WrongContents`.
    max_bytes : int
        A longer answer is not what was asked for, and is not allowed to fill the disk.

    Raises
    ------
    InputError
        One line with the address or the file, and what to do.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # another process may fetch it too
    task = progress.add_task(path.name, total=None)
    try:
        for left in path.parent.glob(f".{path.name}.*.part"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink(missing_ok=True)
        for delay in (*RETRY_DELAYS, None):
            try:
                _stream(url, part, progress, task, max_bytes)
                check(part)
                part.replace(path)
                return
            except requests.RequestException as error:
                reason, retry = _reason(error)
            except WrongContents as error:
                reason, retry = str(error), True
            if not retry or delay is None:
                raise InputError(
                    f"{url}: {reason}. Check the network and the address (a mirror can be "
                    "named: see --help), then run this again"
                )
            notice = f"{url}: {reason}; trying again in {delay:g} s"
            progress.console.print(notice, markup=False, highlight=False, soft_wrap=True)
            time.sleep(delay)
    except OSError as error:
        raise write_failure(path, error) from None
    finally:
        part.unlink(missing_ok=True)
        progress.remove_task(task)


def _stream(url: str, part: Path, progress: Progress, task, max_bytes: int) -> None:
    progress.reset(task)
    try:
        answer = requests.get(url, stream=True, timeout=TIMEOUT)
    except ValueError as error:  # not all malformed addresses in a redirection are wrapped
        raise requests.exceptions.InvalidURL(error) from None
    with answer, part.open("wb") as file:
        answer.raise_for_status()
        progress.update(task, total=answer.raw.length_remaining)  # of a checked Content-Length
        got = 0
        for chunk in answer.iter_content(CHUNK):
            got += len(chunk)
            if got > max_bytes:
                raise WrongContents(f"more than {max_bytes:,} bytes came, which cannot be right")
            file.write(chunk)
            progress.update(task, advance=len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _reason(error: requests.RequestException) -> tuple[str, bool]:
    """Why a request failed, in a few words, and whether another try may help."""
    if error.response is not None:
        status = error.response.status_code
        reason = f"the server answered {status} {error.response.reason}"
        return reason, status == 429 or status >= 500
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return "no answer in time", True
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut half-way", True
    if isinstance(error, requests.ConnectionError):
        return "no connection", True
    return str(error).rstrip("."), False  # a malformed address, too many redirects


def describe_start(path: Path) -> str:
    """What a file of wrong contents looks like, for an error message."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    size = path.stat().st_size
    if start.startswith((b"<!doctype html", b"<html")):
        return f"an HTML page of {size:,} bytes (a log-in or proxy page?)"
    return f"{size:,} bytes of something else"
