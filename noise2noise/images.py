"""Pictures from and to files: found, decoded to 8-bit RGB to train on, or with all they hold.

A picture is what a person has, a file; an image is its array. Needs Pillow and NumPy, so that
bad input is reported before Keras is loaded. Pillow reads and writes what has 8 bits; OpenImageIO
reads what has 16, of which Pillow would cut colours to 8, and writes it as PNG, tifffile as TIFF.
"""

import contextlib
import io
import re
import tempfile
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin

from noise2noise.errors import InputError, quiet_stderr

LUMINANCE = np.float32([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
KEPT_PNG_CHUNKS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"eXIf", b"tEXt", b"iTXt", b"zTXt")
# Description, maker, model, orientation, resolution and its unit, software, date, artist,
# copyright: what a TIFF says of its picture rather than of its bytes.
KEPT_TIFF_TAGS = (270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432)
PILLOW_TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
JPEG_QUALITY = 95
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


def find_pictures(folder: Path) -> list[Path]:
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


def open_picture(path: Path) -> Image.Image:
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
    image = open_picture(path)
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


@dataclass(frozen=True)
class Picture:
    """A picture as it is stored: not turned, nothing converted but palettes.

    `pixels` is uint8 or uint16, (height, width, channels): grey, grey and alpha, RGB, or RGBA.
    """

    path: Path
    format: str
    pixels: np.ndarray

    @cached_property
    def grey(self) -> bool:
        """Whether it shows no colours: it has one channel, or three that are equal."""
        pixels = self.pixels
        return pixels.shape[2] < 3 or bool(
            np.array_equal(pixels[..., 0], pixels[..., 1])
            and np.array_equal(pixels[..., 0], pixels[..., 2])
        )

    @property
    def color(self) -> np.ndarray:
        """The pixels without alpha, (height, width, 3)."""
        channels = self.pixels.shape[2]
        return self.pixels[..., :3] if channels > 2 else np.repeat(self.pixels[..., :1], 3, axis=2)

    def with_color(self, color: np.ndarray) -> np.ndarray:
        """Put restored colours in place of the pixels' own; grey takes the mean, alpha stays."""
        channels = self.pixels.shape[2]
        if channels > 2:
            color = np.broadcast_to(color, (*color.shape[:2], 3))
            return np.concatenate((color, self.pixels[..., 3:]), axis=2)
        grey = np.rint(color.mean(axis=2, keepdims=True)).astype(color.dtype)
        return np.concatenate((grey, self.pixels[..., 1:]), axis=2)


def read_picture(path: Path) -> Picture:
    """Read a picture with all its bits; `InputError` names the file if it cannot be."""
    image = open_picture(path)
    try:
        with image, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # whose others are a preview or a depth map
                raise InputError(f"{path} holds {frames} pictures: save each as a file of its own")
            if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
                raise InputError(f"{path} has 32 bits per value: save it with 16 or 8")
            if _has_16_bits(path, image):
                pixels = _read_16_bits(path)
            else:
                load(path, image)
                pixels = np.asarray(_plain_mode(image))
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            return Picture(path, "JPEG" if image.format == "MPO" else image.format, pixels)
    except DECODE_ERRORS as error:
        raise unreadable(path, error) from None


def _has_16_bits(path: Path, image: Image.Image) -> bool:
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24] == 16  # the depth in IHDR
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,))) == 16  # BitsPerSample
    return False


def _read_16_bits(path: Path) -> np.ndarray:
    """Read uint16, (height, width, channels), with alpha apart: not multiplied into the colours."""
    import OpenImageIO as oiio

    options = oiio.ImageSpec()
    options.attribute("oiio:UnassociatedAlpha", 1)
    with quiet_stderr():  # what libpng says of damaged files
        file = oiio.ImageInput.open(str(path), options)
        pixels = file and file.read_image(oiio.UINT16)
    if pixels is None:
        raise ValueError((file or oiio).geterror() or "its pixels cannot be decoded")
    white_is_zero = file.spec().get_int_attribute("tiff:PhotometricInterpretation", 1) == 0
    return ~pixels if white_is_zero else pixels


def _plain_mode(image: Image.Image) -> Image.Image:
    """Bring an 8-bit picture to grey, grey and alpha, RGB or RGBA, whichever loses nothing."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        if image.has_transparency_data and not image.mode.endswith("A"):
            return image.convert(image.mode + "A")
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith(("I", "F")):  # Pillow would cut them off at 255
        raise ValueError(f"{image.format} of this depth is not supported: save it as 16-bit PNG")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def encode(picture: Picture, pixels: np.ndarray) -> bytes:
    """Return `pixels` as a file of `picture`'s format, with its metadata.

    Parameters
    ----------
    pixels : of the shape and type of `picture.pixels`
    """
    if pixels.dtype == np.uint16 and picture.format == "TIFF":
        return _encode_tiff16(picture.path, pixels)
    if pixels.dtype == np.uint16:
        return _with_chunks(picture.path, _encode_png16(pixels))
    with open_picture(picture.path) as source:
        kept = ("icc_profile", "exif", "dpi", "xmp", "comment")
        options = {key: source.info[key] for key in kept if source.info.get(key)}
        if source.mode == "CMYK":  # it becomes RGB, of which its profile says nothing
            options.pop("icc_profile", None)
        if picture.format == "JPEG":
            options["quality"] = JPEG_QUALITY
            sampling = JpegImagePlugin.get_sampling(source)
            if sampling > -1:
                options["subsampling"] = sampling
        elif picture.format == "WEBP":
            pixel_chunk = re.search(rb"VP8[ L]", picture.path.read_bytes())  # VP8L: lossless
            options |= {"lossless": pixel_chunk[0] == b"VP8L", "quality": JPEG_QUALITY}
        elif picture.format == "TIFF":
            options.pop("exif", None)
            compression = source.info.get("compression", "raw")
            if compression == "jpeg":
                options["quality"] = JPEG_QUALITY
            elif compression not in PILLOW_TIFF_COMPRESSIONS:
                compression = "tiff_adobe_deflate"  # fax codes hold black and white only
            options["compression"] = compression
            options["tiffinfo"] = {
                tag: source.tag_v2[tag] for tag in KEPT_TIFF_TAGS if tag in source.tag_v2
            }
        file = io.BytesIO()
        Image.fromarray(_squeezed(pixels)).save(file, picture.format, **options)
        encoded = file.getvalue()
    return _with_chunks(picture.path, encoded) if picture.format == "PNG" else encoded


def upright(picture: Picture, color: np.ndarray) -> np.ndarray:
    """Bring a picture's RGB to 8 bits and turn it as its EXIF orientation says, to show."""
    eight = color if color.dtype == np.uint8 else (color // 257).astype(np.uint8)
    with open_picture(picture.path) as source:
        shown = Image.fromarray(eight)
        shown.getexif()[0x0112] = source.getexif().get(0x0112, 1)
    return np.asarray(ImageOps.exif_transpose(shown))


def _squeezed(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _encode_png16(pixels: np.ndarray) -> bytes:
    import OpenImageIO as oiio

    pixels = np.ascontiguousarray(pixels)
    height, width, channels = pixels.shape
    spec = oiio.ImageSpec(width, height, channels, oiio.UINT16)
    spec.attribute("oiio:UnassociatedAlpha", 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "restored.png")
        file = oiio.ImageOutput.create("png")
        if not (file.open(str(path), spec) and file.write_image(pixels) and file.close()):
            raise InputError(f"cannot write {path}: {file.geterror()}")
        return path.read_bytes()


def _with_chunks(path: Path, encoded: bytes) -> bytes:
    """Put the source's metadata, byte for byte, in place of an encoded PNG's own.

    OpenImageIO would lose some: it mixes texts with EXIF, drops XMP, maker notes and what comes
    after the pixels, spoils texts beyond Latin-1, and says sRGB where the source says nothing.
    """
    kept = [chunk for name, chunk in _chunks(path.read_bytes()) if name in KEPT_PNG_CHUNKS]
    header, *rest = (chunk for name, chunk in _chunks(encoded) if name.isupper())
    return b"".join((encoded[:8], header, *kept, *rest))


def _chunks(contents: bytes):
    """Yield (name, whole chunk) of a PNG file, in order; names all in capitals hold the image."""
    place = 8
    while place + 12 <= len(contents):
        end = place + 12 + int.from_bytes(contents[place : place + 4])
        yield contents[place + 4 : place + 8], contents[place:end]
        place = end


def _encode_tiff16(path: Path, pixels: np.ndarray) -> bytes:
    import tifffile

    file = io.BytesIO()
    with quiet_stderr(), tifffile.TiffFile(path) as source:  # what it logs of odd tags
        page = source.pages[0]
        cmyk = page.photometric == tifffile.PHOTOMETRIC.SEPARATED  # RGB by now
        unit = page.resolutionunit
        tifffile.imwrite(
            file,
            _squeezed(pixels),
            byteorder=source.byteorder,  # that of the tags as they are
            photometric="rgb" if pixels.shape[2] > 2 else "minisblack",
            extrasamples=page.extrasamples or None,
            compression="zlib" if page.compression != 1 else None,
            iccprofile=None if cmyk else page.iccprofile,
            resolution=page.resolution,
            resolutionunit=unit if unit in (1, 2, 3) else None,  # None: damaged
            extratags=[tag.astuple() for tag in page.tags if tag.code in KEPT_TIFF_TAGS],
            metadata=None,
            software=False,
        )
    return file.getvalue()


def luminance(image: np.ndarray) -> np.ndarray:
    """Return uint8 RGB (height, width, 3) as grey: uint8 (height, width, 1)."""
    return np.rint(image @ LUMINANCE[:, None]).astype(np.uint8)


def is_grey(path: Path) -> bool:
    """Whether a picture is stored without colours; told by its header alone."""
    with open_picture(path) as picture:
        return picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith(("I", "F"))
