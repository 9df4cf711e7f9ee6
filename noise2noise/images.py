"""Pictures from and to files: found, decoded to 8-bit RGB to train on, or with all they hold.

A picture is what a person has, a file; an image is its array. Needs Pillow and NumPy, so that
bad input is reported before Keras is loaded. Pillow reads and writes what has 8 bits, and all
metadata; colour pictures of 16 bits, which it would cut to 8, go through OpenCV and tifffile.
"""

import contextlib
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin

from noise2noise.errors import InputError, quiet_stderr

LUMINANCE = np.float32([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
KEPT_PNG_CHUNKS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"eXIf", b"tEXt", b"iTXt", b"zTXt")
# Description, worker, model, orientation, resolution and its unit, software, date, artist,
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

    @property
    def color(self) -> np.ndarray:
        """The pixels without alpha, (height, width, 3)."""
        channels = self.pixels.shape[2]
        return self.pixels[..., :3] if channels > 2 else np.repeat(self.pixels[..., :1], 3, axis=2)

    def with_color(self, color: np.ndarray) -> np.ndarray:
        """Put restored RGB in place of the pixels' own; grey takes the mean, alpha stays."""
        channels = self.pixels.shape[2]
        if channels == 3:
            return color
        if channels == 4:
            return np.concatenate((color, self.pixels[..., 3:]), axis=2)
        grey = np.rint(color.mean(axis=2, keepdims=True)).astype(color.dtype)
        return np.concatenate((grey, self.pixels[..., 1:]), axis=2)


def read_picture(path: Path) -> Picture:
    """Read a picture with all its bits; `InputError` names the file if it cannot be."""
    image = open_picture(path)
    try:
        with image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # whose others are a preview or a depth map
                raise InputError(f"{path} holds {frames} pictures: save each as a file of its own")
            if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
                raise InputError(f"{path} has 32 bits per value: save it with 16 or 8")
            if image.format == "TIFF":
                load(path, image)
            if _has_16_bits(path, image):
                pixels = _read_16_bits(path, image)
            else:
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


def _read_16_bits(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # grey, which Pillow reads whole
        return np.asarray(image).astype(np.uint16)
    import cv2

    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    with quiet_stderr():  # what it says of damaged files
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("its 16-bit pixels cannot be decoded")
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, order)


def _plain_mode(image: Image.Image) -> Image.Image:
    """Bring an 8-bit picture to grey, grey and alpha, RGB or RGBA, whichever loses nothing."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        if image.has_transparency_data and not image.mode.endswith("A"):
            return image.convert(image.mode + "A")
        image.load()
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
    with open_picture(picture.path) as source:
        if picture.format == "PNG":
            return _encode_png(picture, pixels)
        if pixels.dtype == np.uint16:
            return _encode_tiff16(picture, source, pixels)
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
            lossless = b"VP8L" in riff_chunks(picture.path.read_bytes())
            options |= {"lossless": lossless, "quality": JPEG_QUALITY}
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
        return file.getvalue()


def upright(picture: Picture, color: np.ndarray) -> np.ndarray:
    """Bring a picture's RGB to 8 bits and turn it as its EXIF orientation says, to show."""
    eight = color if color.dtype == np.uint8 else (color // 257).astype(np.uint8)
    with open_picture(picture.path) as source:
        shown = Image.fromarray(eight)
        shown.getexif()[0x0112] = source.getexif().get(0x0112, 1)
    return np.asarray(ImageOps.exif_transpose(shown))


def _squeezed(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _encode_png(picture: Picture, pixels: np.ndarray) -> bytes:
    """Encode a PNG of 8 or 16 bits and give it the ancillary chunks of the source."""
    if pixels.dtype == np.uint8 or pixels.shape[2] == 1:
        file = io.BytesIO()
        Image.fromarray(_squeezed(pixels)).save(file, "PNG")
        encoded = file.getbuffer()
    else:
        import cv2

        order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        encoded = cv2.imencode(".png", cv2.cvtColor(pixels, order))[1].data
    kept = b"".join(
        chunk for name, chunk in png_chunks(picture.path.read_bytes()) if name in KEPT_PNG_CHUNKS
    )
    header_end = 8 + 25  # the signature and IHDR
    return b"".join((encoded[:header_end], kept, encoded[header_end:]))


def png_chunks(contents: bytes):
    """Yield (name, whole chunk) of a PNG file, in order."""
    place = 8
    while place + 12 <= len(contents):
        length, name = struct.unpack(">I4s", contents[place : place + 8])
        yield name, contents[place : place + 12 + length]
        place += 12 + length


def riff_chunks(contents: bytes) -> list[bytes]:
    """Return the names of a WebP file's chunks: VP8L holds lossless pixels."""
    names, place = [], 12
    while place + 8 <= len(contents):
        name, length = struct.unpack("<4sI", contents[place : place + 8])
        names.append(name)
        place += 8 + length + length % 2
    return names


def _encode_tiff16(picture: Picture, source: Image.Image, pixels: np.ndarray) -> bytes:
    import tifffile

    file = io.BytesIO()
    grey = pixels.shape[2] < 3
    alpha = pixels.shape[2] in (2, 4)
    tags = source.tag_v2
    extra = []
    for tag in KEPT_TIFF_TAGS:
        if isinstance(tags.get(tag), str):
            # As Pillow decoded it, so that any text's bytes stay as they were.
            extra.append((tag, 2, 0, tags[tag].encode("latin-1", "replace"), True))
        elif tag == 274 and tag in tags:
            extra.append((tag, 3, 1, tags[tag], True))
    resolution = [float(tags[tag]) for tag in (282, 283) if tag in tags]
    tifffile.imwrite(
        file,
        _squeezed(pixels),
        photometric=("miniswhite" if tags.get(262) == 0 else "minisblack") if grey else "rgb",
        extrasamples=["unassalpha"] if alpha else None,
        compression="zlib" if source.info.get("compression", "raw") != "raw" else None,
        iccprofile=source.info.get("icc_profile"),
        resolution=resolution if len(resolution) == 2 else None,
        resolutionunit=tags.get(296),
        extratags=extra,
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
