"""Pictures from files: found, decoded to 8-bit RGB to train on, or with all that they hold.

`FORMATS` says which module reads and writes what.
"""

import contextlib
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from noise2noise import ranges
from noise2noise.errors import InputError, reading
from noise2noise.fits import Fits
from noise2noise.oiio import Float, Png
from noise2noise.picture import DECODE_ERRORS, SUFFIXES, Picture, PictureFile, decoding
from noise2noise.pillow import PillowFile, load, open_picture
from noise2noise.tiff import Tiff

LUMINANCE = np.float32([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
FORMATS = (  # how a file begins, and what reads and writes it; Pillow all others
    (b"\x89PNG\r\n\x1a\n", Png),
    (b"II*\0", Tiff),
    (b"MM\0*", Tiff),
    (b"II+\0", Tiff),  # BigTIFF
    (b"MM\0+", Tiff),
    (b"SIMPLE  =", Fits),
    (b"\x76\x2f\x31\x01", Float),  # OpenEXR
    (b"#?R", Float),  # Radiance's HDR
)


def find_pictures(folder: Path) -> list[Path]:
    """Return the folder's pictures in order of their names, sub-folders not included.

    Raises `InputError` where there is no folder, or no picture in it.
    """
    with reading(folder):
        if not folder.is_dir():
            kind = "is not a folder" if folder.exists() else "does not exist"
            raise InputError(f"{folder} {kind}: name a folder of pictures")
        inside = sorted(path for path in folder.iterdir() if path.name[0] != ".")
        folders = [path for path in inside if path.is_dir()]
    paths = [path for path in inside if path.suffix.lower() in SUFFIXES and path not in folders]
    if not paths:
        others = f", but folders: name one, as {folders[0]}" if folders else ""
        raise InputError(f"{folder} holds no picture ({', '.join(SUFFIXES)}){others}")
    return paths


def open_file(path: Path) -> PictureFile:
    """Open a file of pictures, a context manager; `InputError` names it if it cannot be."""
    with decoding(path), path.open("rb") as file:
        beginning = file.read(16)
    if beginning.startswith(b"\x1f\x8b"):
        raise InputError(f"{path} is compressed by gzip: unpack it first")
    kind = next((kind for magic, kind in FORMATS if beginning.startswith(magic)), PillowFile)
    opened = kind(path)
    narrow = kind is Tiff and (opened.dtype is None or opened.dtype.itemsize == 1)
    if narrow and opened.pages == 1 and not opened.plain:
        opened.close()
        return PillowFile(path)  # palettes, fax, CMYK, JPEG's colours
    return opened


def read_picture(path: Path, page: int = 0) -> Picture:
    """Read a picture with all its bits; `InputError` names the file if it cannot be."""
    with open_file(path) as file:
        return file.read(page)


def read_rgb(path: Path) -> np.ndarray:
    """Decode a picture: uint8 (height, width, 3), upright; of a stack the first page.

    Grey and palette pictures become RGB, transparency is laid on white, deeper pictures
    are brought to 8 bits, and the EXIF orientation is applied. Of unsigned integers white is the
    largest that their type holds, or that the bits hold which are used: 4095 of 12 bits in 16.

    Raises
    ------
    InputError
        One line that names the file, whatever is wrong with it.
    """
    with open_file(path) as file:
        if file.deep or not (isinstance(file, PillowFile) or _pillow_reads(path)):
            picture = file.read()
            return upright(picture, _eight_bits(picture))
    image = open_picture(path)
    with decoding(path), image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(path, image)
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return np.asarray(image.convert("RGB"))


def _eight_bits(picture: Picture) -> np.ndarray:
    """Bring a picture of any type to 8-bit RGB, on white where it is transparent."""
    color, kind = picture.color, picture.pixels.dtype
    if kind.kind == "u":
        white = top = np.iinfo(kind).max
        if (largest := int(color.max())) < ranges.USED * top:
            white = 2 ** max(8, largest.bit_length()) - 1
        shown = ranges.to_8bit(color, (0, white))
    else:
        shown = ranges.to_8bit(color, ranges.measure([picture.shown], picture.nodata))
    if picture.alpha:
        opaque = ranges.to_network(picture.pixels[..., -1:])
        shown = np.rint(255 + opaque * (shown.astype(np.float32) - 255)).astype(np.uint8)
    return shown


def _pillow_reads(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except DECODE_ERRORS:
        return False


def upright(picture: Picture, color: np.ndarray, span: ranges.Range | None = None) -> np.ndarray:
    """Bring a picture's RGB to 8 bits and turn it as its EXIF orientation says, to show."""
    shown, orientation = ranges.to_8bit(color, span), 1
    with open_file(picture.path) as file:
        # By Pillow, when it was read.
        turned = isinstance(file, PillowFile) and file.format == "TIFF"
    with contextlib.suppress(*DECODE_ERRORS), Image.open(picture.path) as source:
        orientation = source.getexif().get(0x0112, 1)
    if turned or orientation == 1:
        return shown
    image = Image.fromarray(shown)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def middle(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the middle `size` pixels of an image, or all it has if it has fewer."""
    top, left = (max(0, (n - size) // 2) for n in image.shape[:2])
    return image[top : top + size, left : left + size]


def luminance(image: np.ndarray) -> np.ndarray:
    """Return uint8 RGB (height, width, 3) as grey: uint8 (height, width, 1)."""
    return np.rint(image @ LUMINANCE[:, None]).astype(np.uint8)
