"""Fetch a file so that it is there whole and verified, or not there; for both downloads."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from noise2noise.errors import NetworkError
from noise2noise.files import whole

TIMEOUT = (10, 30)  # seconds to connect, and between two chunks
RETRY_DELAYS = (0.5, 1.0, 2.0)  # seconds before the second, third and fourth try
CHUNK = 1 << 16


class WrongContents(Exception):  # noqa: N818, reads as what it is
    """What arrived is not what was asked for; the message says in which way."""


def fetch(url: str, path: Path, check: Callable[[Path], None], max_bytes: int) -> None:
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
    NetworkError
        One line with the address, and what to do.
    WriteError
        One that names the file.
    """
    with whole(path) as part:
        for delay in (*RETRY_DELAYS, None):
            try:
                _stream(url, part, path.name, max_bytes)
                check(part)
                return
            except (requests.RequestException, WrongContents) as error:
                reason, retry = _reason(error)
            if not retry or delay is None:
                raise NetworkError(
                    f"{url}: {reason}. Check the network and the address (a mirror can be "
                    "named: see --help), then run this again"
                )
            print(f"{url}: {reason}; trying again in {delay:g} s", file=sys.stderr)
            time.sleep(delay)


def _stream(url: str, part: Path, name: str, max_bytes: int) -> None:
    """Write the answer to `part`, with a bar on stderr: none in a log file, stdout stays clean."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    progress = Progress(
        *columns, console=console, transient=True, disable=not console.is_interactive
    )
    with part.open("wb") as file, progress:
        task = progress.add_task(name, total=None)
        try:
            answer = requests.get(url, stream=True, timeout=TIMEOUT)
        except ValueError as error:  # not all malformed addresses in a redirection are wrapped
            raise requests.exceptions.InvalidURL(error) from None
        with answer:
            answer.raise_for_status()
            progress.update(task, total=answer.raw.length_remaining)  # of a checked Content-Length
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                progress.update(task, advance=len(chunk))
                if file.tell() > max_bytes:
                    raise WrongContents(
                        f"more than {max_bytes:,} bytes came, which cannot be right"
                    )


def _reason(error: requests.RequestException | WrongContents) -> tuple[str, bool]:
    """Why a try failed, in a few words, and whether another may help."""
    if isinstance(error, WrongContents):
        return str(error), True
    if error.response is not None:
        status = error.response.status_code
        reason = f"the server answered {status} {error.response.reason}"
        return reason, status == 429 or status >= 500
    if isinstance(error, requests.Timeout):
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
