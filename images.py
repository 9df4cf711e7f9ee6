"""Pictures from disk: find them, decode them to RGB, split them, keep the recent ones.

Needs Pillow and NumPy only, so that bad input is reported before Keras is loaded.
"""

import contextlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from errors import InputError, quiet_stderr

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
VALIDATION_EVERY = 8  # of the files in order of their names, every eighth is for validation
CACHE_BYTES = 1 << 30  # decoded pictures kept in memory
LARGE = 2000  # pictures from which on a folder's files are checked when used, not at the start
# What Pillow raises on damaged or hostile files, found by damaging them.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    ZeroDivisionError,
    OverflowError,
    MemoryError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    AttributeError,
    AssertionError,
    Image.DecompressionBombError,
)


def find_images(folder: Path) -> list[Path]:
    """Return the folder's image files in order of their names, sub-folders not included.

    Raises `InputError` where there is no folder, or no image in it.
    """
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {kind}: name a folder of images")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise InputError(f"{folder} holds no image ({', '.join(SUFFIXES)})")
    return paths


def open_image(path: Path) -> Image.Image:
    """Open a picture and check its header, without decoding it; `InputError` names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata beside sound pixels, large sizes
            return Image.open(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except DECODE_ERRORS as error:
        raise unreadable(path, error) from None


def read_rgb(path: Path) -> np.ndarray:
    """Decode a picture: uint8 (height, width, 3), upright.

    Grey and palette pictures become RGB, transparency is laid on white, deeper pictures
    are brought to 8 bits, and the EXIF orientation is applied.

    Raises
    ------
    InputError
        One line that names the file, whatever is wrong with it.
    """
    image = open_image(path)
    try:
        with image, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(path, image)
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                return _grey_to_rgb(np.asarray(image))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(image.convert("RGB"))
    except DECODE_ERRORS as error:
        raise unreadable(path, error) from None


def load(path: Path, image: Image.Image) -> None:
    """Decode an opened picture; of a damaged TIFF, libtiff would write lines of its own."""
    with quiet_stderr() if image.format == "TIFF" else contextlib.nullcontext():
        try:
            image.load()
        except DECODE_ERRORS as error:
            raise unreadable(path, error) from None


def _grey_to_rgb(values: np.ndarray) -> np.ndarray:
    """Bring grey values of 16 or 32 bits, or floats in [0, 1], to uint8 RGB."""
    # Pillow gives 16-bit files as uint16, or as int32 in older versions and from TIFF.
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    grey = np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def unreadable(path: Path, error: BaseException) -> InputError:
    """Return the one line for what Pillow raised on a file."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    reason = reason.replace(f": {str(path)!r}", "").replace(f" {str(path)!r}", "")
    return InputError(f"{path} cannot be read as an image ({reason}): mend or remove it")


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split pictures into (training, validation) by a fixed rule: whole pictures, by name.

    Every `VALIDATION_EVERY`-th validates; of fewer pictures, the last one does.
    """
    step = min(VALIDATION_EVERY, len(paths))
    validation = list(paths[step - 1 :: step])
    return [path for path in paths if path not in set(validation)], validation


class ImageFiles:
    """A sequence of picture files, decoded when asked for and kept while there is room.

    `images[k]` is uint8 (height, width, 3). Safe to use from several threads.

    Raises
    ------
    InputError
        On creation for a header that cannot be read or a picture smaller than
        `min_size` pixels on a side, on access for damaged contents; for `LARGE` folders
        all of it on access. It names the file.
    """

    def __init__(self, paths: Sequence[Path], min_size: int = 1):
        self.paths = list(paths)
        self._min_size = min_size
        if len(self.paths) < LARGE:
            for path in self.paths:
                with open_image(path) as image:
                    self._check_size(path, image.size)
        self._cached = Cache(self._read)

    def _read(self, k: int) -> np.ndarray:
        picture = read_rgb(self.paths[k])
        self._check_size(self.paths[k], picture.shape[1::-1])
        return picture

    def _check_size(self, path: Path, size: tuple[int, int]) -> None:
        if min(size) < self._min_size:
            raise InputError(
                f"{path} has {size[0]} x {size[1]} pixels, fewer than the crop's "
                f"{self._min_size}: take a smaller --crop or remove it"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> np.ndarray:
        return self._cached[k]


class Cache:
    """The arrays `make(k)` used last, up to `CACHE_BYTES` of them, for several threads.

    Another process gets it empty.
    """

    def __init__(self, make: Callable[[int], np.ndarray]):
        self._make = make
        self._arrays: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self):
        return Cache, (self._make,)

    def __getitem__(self, k: int) -> np.ndarray:
        with self._lock:
            if k in self._arrays:
                self._arrays.move_to_end(k)
                return self._arrays[k]
        array = self._make(k)  # outside the lock: two threads may make two at a time
        with self._lock:
            if k not in self._arrays:
                self._arrays[k] = array
                self._bytes += array.nbytes
            while self._bytes > CACHE_BYTES:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array
