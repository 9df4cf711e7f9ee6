"""What every script does with bad input: one line on stderr, exit code 2, no traceback."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path


class InputError(Exception):
    """Something the user gave or the machine lacks; the message names it and the way out."""


def run_main(main: Callable[[], int | None]) -> None:
    """Call `main` and leave the process with its exit code.

    `InputError` becomes one line and exit code 2, Ctrl-C exit code 130; a bug keeps its
    traceback.
    """
    try:
        code = main()
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def read_failure(path: Path, error: OSError) -> InputError:
    """Return the `InputError` for a file or folder that could not be read."""
    return InputError(f"cannot read {error.filename or path}: {error.strerror or error}")


def write_failure(path: Path, error: OSError) -> InputError:
    """Return the `InputError` for a file or folder that could not be written."""
    # Not Path.is_dir, which raises where permissions or the length of a name forbid to look.
    folder = next((p for p in (path, *path.parents) if os.path.isdir(p)), Path())  # noqa: PTH112
    free = shutil.disk_usage(folder).free / 1e6
    reason = error.strerror or str(error)
    return InputError(f"cannot write {path}: {reason} ({free:,.0f} MB free in {folder})")
