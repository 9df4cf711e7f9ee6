"""What a picture is, and an open file of pictures: what the modules for its kinds have in common.

A picture is what a person has, a file or a page of one; an image is its array.
"""

import contextlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from noise2noise import ranges
from noise2noise.errors import InputError

MAX_PIXELS = 178_956_970  # of a page: Pillow's limit, so that a damaged header is no order of GBs
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".avif", ".exr", ".hdr")
SUFFIXES += (".heic", ".heif", ".hif", ".fits", ".fit", ".fts")
# What Pillow, tifffile, OpenImageIO and astropy raise on damaged files, found by damaging them.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    EOFError,
    RuntimeError,
    AttributeError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Picture:
    """A picture as it is stored: not turned, nothing converted but palettes.

    `pixels` is (height, width, channels), of any real type. Its first `colors` channels are
    restored: 3 are red, green and blue, other numbers are grey ones, each alone. What comes
    behind them stays, and so does the value `nodata`, which stands for none: the file says so, or
    it looks like that (`ranges.mask_value`). `alpha` says whether the last one is transparency.
    """

    path: Path
    pixels: np.ndarray
    colors: int
    nodata: float | None = None
    alpha: bool = False

    @cached_property
    def grey(self) -> bool:
        """Whether it shows no colours: it has other channels than three, or three equal ones."""
        return self.colors != 3 or is_grey(self.pixels)

    @property
    def color(self) -> np.ndarray:
        """The pixels without alpha, (height, width, 3), of one grey channel or of three colours."""
        if self.colors == 3:
            return self.pixels[..., :3]
        return np.repeat(self.pixels[..., :1], 3, axis=2)

    @property
    def hidden(self) -> np.ndarray | None:
        """Where it is transparent, (height, width), so that its colours stand for nothing.

        None where nothing is, or all, as files have it whose alpha means nothing; nor is what
        glows, in floats.
        """
        if not self.alpha:
            return None
        hidden = self.pixels[..., -1] == 0
        if self.pixels.dtype.kind == "f":
            hidden &= (self.pixels[..., :-1] == 0).all(axis=2)
        return hidden if hidden.any() and not hidden.all() else None

    @property
    def shown(self) -> np.ndarray:
        """The values that are restored, (pixels, colors), or (height, width, colors)."""
        hidden = self.hidden
        return (self.pixels if hidden is None else self.pixels[~hidden])[..., : self.colors]

    def with_color(self, color: np.ndarray) -> np.ndarray:
        """Put restored RGB in place of the pixels' own; grey takes the mean, alpha stays."""
        if self.colors != 3:
            grey = np.empty_like(color[..., :1])
            for row, three in zip(grey, color, strict=True):  # in the memory of a row
                with np.errstate(over="ignore"):
                    mean = three.mean(axis=1, keepdims=True, dtype=np.float64)
                mean = mean if color.dtype.kind == "f" else np.rint(mean)
                # Of what the network did not see all three are the same, and stay.
                alike = (three == three[:, :1]).all(axis=1, keepdims=True)
                row[:] = np.where(alike, three[:, :1], mean)
            color = grey
        if color.shape == self.pixels.shape:
            return color
        return np.concatenate((color, self.pixels[..., color.shape[2] :]), axis=2)


def is_grey(image: np.ndarray) -> bool:
    """Whether an image (height, width, channels) has three equal channels, or one."""
    first, nan = image[..., 0], image.dtype.kind == "f"
    return all(
        np.array_equal(first, image[..., k], equal_nan=nan) for k in range(1, image.shape[2])[:2]
    )


class PictureFile:
    """An open file of pictures, a context manager: pages to read, and to write one like it.

    `lost` is what `write` could not keep, in words.
    """

    format: str  # in Pillow's and OpenImageIO's words
    lossy = False  # compressed with losses, which make pixels share noise
    nodata: float | None = None  # the value that stands for none, where the file names one
    pages = 1  # pictures
    deep = True  # they may have more than 8 bits
    planes = False  # its colours lie one after the other: tifffile writes 3 or 4 pages so
    channels = 1  # its pages are of so many, where it says so
    slices = 1

    def __init__(self, path: Path):
        self.path = path
        self.lost: list[str] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Let go of the file."""

    def size(self, n: int = 0) -> tuple[int, int]:
        """Return (width, height) of a page, without decoding it."""
        raise NotImplementedError

    def colors(self, n: int = 0) -> int:
        """Return how many of a page's channels are restored (`Picture`)."""
        raise NotImplementedError

    def read(self, n: int = 0) -> Picture:
        """Decode a page; `InputError` names the file if it cannot be."""
        width, height = self.size(n)
        if width * height > MAX_PIXELS:
            raise InputError(f"{self.path} has {width} x {height} pixels, too many: cut it up")
        with decoding(self.path):
            pixels = self._pixels(n)
        if pixels.dtype.kind not in "iuf":
            raise InputError(f"{self.path} holds {pixels.dtype} values: save it with real numbers")
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        colors = self.colors(n)
        alpha = self._has_alpha(n) and pixels.shape[2] == colors + 1
        none = ranges.mask_value(pixels[..., :colors]) if self.nodata is None else self.nodata
        return Picture(self.path, pixels, colors, none, alpha)

    def _has_alpha(self, n: int) -> bool:
        """Whether what comes behind a page's colours is transparency."""
        return True

    def _pixels(self, n: int) -> np.ndarray:
        raise NotImplementedError

    def write(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        """Write a file like this one with other pixels: an array for each page, of its shape."""
        raise NotImplementedError


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into the one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path} has more than {MAX_PIXELS:,} pixels, too many: cut it up"
        ) from None
    except DECODE_ERRORS as error:
        reason = _reason(error).replace(f": {str(path)!r}", "").replace(f" {str(path)!r}", "")
        raise InputError(
            f"{path} cannot be read as a picture ({reason}): mend or remove it"
        ) from None


@contextlib.contextmanager
def encoding(path: Path) -> Iterator[None]:
    """Turn what a library raises on a picture that it cannot write into one line; no full disk."""
    try:
        yield
    except OSError:
        raise
    except DECODE_ERRORS as error:
        raise InputError(f"{path} cannot be written like it is ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, LookupError) or not str(error):  # which says what was looked up only
        return f"{type(error).__name__} {error}".strip()
    return str(error).splitlines()[0]
