"""Command lines: a parser, and converters whose errors say what is wrong."""

import argparse
import re
from pathlib import Path

from noise2noise.ranges import HUGE
from noise2noise.tiles import SIZE_MULTIPLE


class Parser(argparse.ArgumentParser):
    """Ends with one line that says what is wrong, without the usage before it."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (--help shows the options)\n")


def positive(kind):
    """Return a converter to numbers above 0 of `kind`, int or float."""

    def convert(text: str):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    convert.__name__ = kind.__name__
    return convert


def natural(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:  # as Keras takes for a seed
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**32 - 1}")
    return value


def number(text: str) -> float:
    value = float(text)
    if not abs(value) < float(HUGE):
        raise argparse.ArgumentTypeError(f"{text} is not between {-HUGE:g} and {HUGE:g}")
    return value


def add_range(parser: argparse.ArgumentParser, help: str) -> None:
    """Add the option --range LOW HIGH, whose numbers may be negative."""
    parser._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.I)  # -1e3
    parser.add_argument("--range", nargs=2, type=number, metavar=("LOW", "HIGH"), help=help)


def check_range(parser: argparse.ArgumentParser, span: list[float] | None) -> None:
    if span and span[0] >= span[1]:
        parser.error("--range LOW HIGH: LOW must be below HIGH")


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def crop_size(text: str) -> int:
    value = int(text)
    if value <= 0 or value % SIZE_MULTIPLE:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of {SIZE_MULTIPLE}")
    return value


def not_empty(text: str) -> str:
    if not text:  # which would be the current folder
        raise argparse.ArgumentTypeError("a name is empty: is a variable of the shell not set?")
    return text


def given_path(text: str) -> Path:
    return Path(not_empty(text))


def existing_file(text: str) -> Path:
    try:
        if Path(text).is_file():
            return Path(text)
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    raise argparse.ArgumentTypeError(f"{text} is not a file")


def plain_name(text: str) -> str:
    if text != Path(text).name or text.startswith("."):
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder's name")
    return text
