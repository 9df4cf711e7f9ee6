"""What every script does with bad input: one line on stderr, exit code 2, no traceback."""

import contextlib
import errno
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

_one_thread = threading.RLock()


class InputError(Exception):
    """Something the user gave or the machine lacks; the message names it and the way out."""


multi_process = False  # whether this process trains with others: backend.join_processes


def run_main(main: Callable[[], int | None]) -> None:
    """Call `main` and leave the process with its exit code.

    `InputError` becomes one line and exit code 2, Ctrl-C and SIGTERM exit code 130; a bug keeps
    its traceback.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is tidied up
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # `>&-`, `2>&-`, and what is started without
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        with contextlib.suppress(AttributeError):  # a test's
            getattr(sys, name).reconfigure(errors="backslashreplace")  # of names that aren't UTF-8
    try:
        code = main()
    except InputError as error:
        code = report(error)
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:  # `| head` has read enough
            code = 141  # as of a process that SIGPIPE ended
        else:
            raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except Exception:
        traceback.print_exc()
        code = 1
    # TensorFlow's iterators wait for the batch that their threads make: at the interpreter's end,
    # when these run no Python any more, for ever.
    gc.collect()
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # of `| head`, or `| tee` that Ctrl-C ended first
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if multi_process and code in {1, 2}:  # in an orderly exit each waits for the others
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def report(error: InputError) -> int:
    """Print an error's one line; return the exit code that goes with it."""
    print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
    return 2


class WriteError(InputError):
    """A file or folder cannot be written, as the next ones could not either."""


class ModelError(InputError):
    """A trained network's file cannot be used, for this picture or the next one."""


class NetworkError(InputError):
    """A file cannot be fetched, as one without a network finds."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the file system says of a path that may not be read into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot read {error.filename or path}: {reason}") from None


def write_failure(path: Path, error: OSError) -> WriteError:
    """Return the error for a file or folder that could not be written."""
    # Not Path.is_dir, which raises where permissions or the length of a name forbid to look.
    folder = next((p for p in (path, *path.parents) if os.path.isdir(p)), Path())  # noqa: PTH112
    free = shutil.disk_usage(folder).free / 1e6
    reason = error.strerror or str(error)
    return WriteError(f"cannot write {path}: {reason} ({free:,.0f} MB free in {folder})")


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Turn what TensorFlow says of a full disk, in an error of its own, into one line."""
    try:
        yield
    except Exception as error:
        theirs = type(error).__module__.startswith("tensorflow")
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if theirs and os.strerror(number) in str(error):
                raise write_failure(folder, OSError(number, os.strerror(number))) from None
        raise


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what native code writes to stderr, one thread at a time.

    It is shown after all where the block fails, unless by an `InputError`, which says enough.
    """
    with _one_thread:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all
            yield
            return
        with tempfile.TemporaryFile() as log:
            sys.stderr.flush()
            os.dup2(log.fileno(), 2)
            try:
                yield
            except Exception as error:
                if isinstance(error, InputError):
                    raise
                os.dup2(saved, 2)
                log.seek(0)
                sys.stderr.write(log.read().decode(errors="replace"))
                raise
            finally:
                os.dup2(saved, 2)
                os.close(saved)
