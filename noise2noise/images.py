"""Pictures from and to files: found, decoded to 8-bit RGB to train on, or with all they hold.

`FORMATS` says which library reads and writes what: tifffile TIFF, OpenImageIO PNG of 16 bits,
OpenEXR and HDR, astropy FITS, and Pillow the kinds of 8 bits.
"""

import contextlib
import errno
import io
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import (
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from noise2noise import ranges
from noise2noise.errors import InputError, quiet_stderr, reading
from noise2noise.fits import Fits
from noise2noise.picture import DECODE_ERRORS, Picture, PictureFile, decoding, encoding
from noise2noise.tiff import LOST_TAGS, WRITTEN_TAGS, Tiff

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # or it refuses long texts

LUMINANCE = np.float32([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".avif", ".exr", ".hdr")
SUFFIXES += (".fits", ".fit", ".fts")
KEPT_PNG_CHUNKS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"eXIf", b"tEXt", b"iTXt", b"zTXt")
KEPT_PNG_CHUNKS += (b"cICP", b"mDCV", b"cLLI")  # colours of HDR
# TIFF tags that Pillow writes anew (sizes, offsets, JPEG's tables), so they are not copied; the
# resolution is.
ANEW_TIFF_TAGS = {*WRITTEN_TAGS, 347, *range(512, 522), *range(529, 533)} - {282, 283, 296}
ANEW_TIFF_TAGS |= {320, *range(332, 338)}  # the palette and the inks, of what becomes RGB
ICC_PROFILE = 34675
PILLOW_TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
QUALITY = 95  # of JPEG, WebP and AVIF
MOST_EXIF = 65533  # bytes that one segment of a JPEG holds
XMP_TELLS_OF = {  # what follows a JPEG's picture, or is in segments of its own
    rb"(MotionPhoto|MicroVideo)(=[\"']|>)1": "a motion photo's video",
    rb"HasExtendedXMP": "extended XMP",
}
PLAIN_MODES = "L", "LA", "RGB", "RGBA"


def find_pictures(folder: Path) -> list[Path]:
    """Return the folder's pictures in order of their names, sub-folders not included.

    Raises `InputError` where there is no folder, or no picture in it.
    """
    with reading(folder):
        if not folder.is_dir():
            kind = "is not a folder" if folder.exists() else "does not exist"
            raise InputError(f"{folder} {kind}: name a folder of pictures")
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
    if not paths:
        raise InputError(f"{folder} holds no picture ({', '.join(SUFFIXES)})")
    return paths


def open_picture(path: Path) -> Image.Image:
    """Open a picture with Pillow and check its header, without decoding it; errors name it."""
    with decoding(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata beside sound pixels, large sizes
        try:
            image = Image.open(path)
        except UnidentifiedImageError:
            if path.suffix.lower() in SUFFIXES:
                raise
            raise InputError(
                f"{path} is of no kind that is read here ({', '.join(SUFFIXES)}): convert it"
            ) from None
    if image.format == "TIFF":
        image.filename = ""  # lest Pillow maps the file, where it mistakes the sides of turned ones
    elif image.format == "PNG" and image.mode == "L" and image.tile:
        top = {"L;2": 3, "L;4": 15}.get(image.tile[0].args, 255)
        clear = image.info.get("transparency")
        if isinstance(clear, int) and clear <= top:  # which Pillow leaves as it is in the file
            image.info["transparency"] = clear * (255 // top)
    return image


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
        shown = ranges.to_8bit(color, ranges.measure([color], picture.nodata))
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


def load(path: Path, image: Image.Image) -> None:
    """Decode an opened picture; of a damaged TIFF, libtiff would write lines of its own."""
    with decoding(path), quiet_stderr() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()


class PillowFile(PictureFile):
    """A picture of 8 bits, by Pillow."""

    deep = False

    def __init__(self, path: Path):
        super().__init__(path)
        self._image = open_picture(path)
        # MPO is JPEG with more behind it: a preview or a depth map.
        self.format = "JPEG" if self._image.format == "MPO" else self._image.format

    def close(self) -> None:
        self._image.close()

    def size(self, n: int = 0) -> tuple[int, int]:
        return self._image.size

    def colors(self, n: int = 0) -> int:
        return 1 if self._image.mode in ("1", "L", "LA", "La") or self._image.mode[0] in "IF" else 3

    def _pixels(self, n: int) -> np.ndarray:
        self._check_frames()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(self.path, self._image)
            return np.asarray(_plain_mode(self._image))

    def _check_frames(self) -> None:
        frames = getattr(self._image, "n_frames", 1)
        if frames > 1 and self._image.format != "MPO":
            raise InputError(f"{self.path} holds {frames} pictures: save each as a file of its own")

    def write(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        (pixels,), source = pages, self._image
        Image.init()
        if self.format not in Image.SAVE or self.format in (
            "GIF",
            "ICO",
        ):  # few colours, other sizes
            raise InputError(f"{self.path} is {self.format}, which is not written: save it as PNG")
        kept = ("icc_profile", "exif", "dpi", "xmp", "comment")
        options = {key: source.info[key] for key in kept if source.info.get(key)}
        if self.format == "PNG":  # whose texts may be called so; `Png` copies all there is
            options.clear()
        if source.mode in ("CMYK", "LAB"):  # it becomes RGB, of which its profile says nothing
            options.pop("icc_profile", None)
            self.lost.append(f"{source.mode} became RGB")
        elif source.mode in ("1", "P", "PA"):
            self.lost.append("1 bit became 8" if source.mode == "1" else "the palette became RGB")
        elif source.mode not in PLAIN_MODES:
            self.lost.append(f"{source.mode} became RGB")
        if self.format == "BMP" and source.mode == "RGBA":
            self.lost.append("alpha left out")
        if getattr(source, "n_frames", 1) > 1:  # MPO's
            self.lost.append("what follows the first picture left out")
        options["quality"] = QUALITY
        if self.format == "JPEG":
            sampling = JpegImagePlugin.get_sampling(source)
            if source.mode == "CMYK":  # of which it tells nothing
                sampling = 0
            if sampling > -1:
                options["subsampling"] = sampling
            if len(options.get("exif", b"")) > MOST_EXIF:
                options.pop("exif")
                self.lost.append("EXIF left out")
            for words, what in XMP_TELLS_OF.items():
                if re.search(words, options.get("xmp", b"")):
                    self.lost.append(f"{what} left out")
            # What photo agencies say of a picture: caption, copyright.
            iptc = [data for name, data in getattr(source, "applist", ()) if name == "APP13"]
            options["extra"] = b"".join(
                b"\xff\xed" + (len(data) + 2).to_bytes(2) + data for data in iptc
            )
        elif self.format == "WEBP":
            pixel_chunk = re.search(rb"VP8[ L]", self.path.read_bytes())  # VP8L: lossless
            options["lossless"] = pixel_chunk[0] == b"VP8L"
            options["exact"] = True  # colours where alpha is 0
        elif self.format == "TIFF":
            options.pop("exif", None)
            options.pop("dpi", None)  # the tags have it, where it is there
            compression = source.info.get("compression", "raw")
            if compression not in (*PILLOW_TIFF_COMPRESSIONS, "jpeg"):
                compression = "tiff_adobe_deflate"  # fax codes hold black and white only
            if compression != "jpeg":
                options.pop("quality")
            options["compression"] = compression
            options["tiffinfo"] = tags = TiffImagePlugin.ImageFileDirectory_v2()
            for tag, value in source.tag_v2.items():
                if tag in LOST_TAGS:
                    self.lost.append(f"{LOST_TAGS[tag]} left out")
                elif tag not in ANEW_TIFF_TAGS and (tag != ICC_PROFILE or "icc_profile" in options):
                    tags[tag], tags.tagtype[tag] = value, source.tag_v2.tagtype[tag]
        elif self.format == "AVIF":
            depth, sampling = _avif_kind(self.path)
            if depth > 8:
                self.lost.append(f"{depth} bits became 8")
            if pixels.shape[2] > 2:
                options["subsampling"] = sampling
        encoded = io.BytesIO()  # of a full disk Pillow's encoders would say nothing
        with encoding(self.path):
            Image.fromarray(_squeezed(pixels)).save(encoded, self.format, **options)
        target.write_bytes(encoded.getbuffer())


class Png(PillowFile):
    """A PNG, with all its metadata; of 16 bits, which Pillow would cut to 8, by OpenImageIO."""

    def __init__(self, path: Path):
        super().__init__(path)
        with path.open("rb") as file:
            self._depth, self._kind = file.read(26)[24:]  # as IHDR has them
        self.deep = self._depth == 16

    def colors(self, n: int = 0) -> int:
        return 3 if self._kind & 2 else 1

    def _pixels(self, n: int) -> np.ndarray:
        self._check_frames()
        return _read(_open_input(self.path)) if self.deep else super()._pixels(n)

    def write(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        (pixels,) = pages
        if pixels.dtype == np.uint16:
            import OpenImageIO as oiio

            spec = oiio.ImageSpec(*pixels.shape[1::-1], pixels.shape[2], oiio.UINT16)
            spec.attribute("oiio:UnassociatedAlpha", 1)
            _write("png", target, spec, pixels)
        else:
            super().write(target, [pixels])
            if self._kind == 0 and 1 < self._depth < 8:
                self.lost.append(f"{self._depth} bits became 8")
        encoded = target.read_bytes()
        if encoded[-8:-4] != b"IEND":
            raise _full(target)
        target.write_bytes(_with_chunks(self.path, encoded))


class Float(PictureFile):
    """OpenEXR or Radiance HDR, by OpenImageIO: what it says of itself is written again."""

    def __init__(self, path: Path):
        super().__init__(path)
        with decoding(path):
            self._file = _open_input(path)
            self._spec = self._file.spec()
            self.format = self._file.format_name().upper()
            if self._spec.deep or self._file.seek_subimage(1, 0):
                raise InputError(f"{path} has several parts or depths: save one flat picture of it")
            if "uint" in map(str, self._spec.channelformats):
                raise InputError(f"{path} has channels of integers beside others: save it without")
            self.alpha = set(self._spec.channelnames) <= {*"RGBAY"}

    def close(self) -> None:
        self._file.close()

    def size(self, n: int = 0) -> tuple[int, int]:
        return self._spec.width, self._spec.height

    def colors(self, n: int = 0) -> int:
        names = self._spec.channelnames
        return 3 if names[:3] == ("R", "G", "B") else len(set(names) - {"A"}) or 1

    def _pixels(self, n: int) -> np.ndarray:
        self._file.seek_subimage(0, 0)
        return _read(self._file)

    def write(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        (pixels,) = pages
        _write(self.format.lower(), target, self._spec.copy(), pixels)
        try:
            _read(_open_input(target))
        except ValueError:
            raise _full(target) from None


def _open_input(path: Path):
    import OpenImageIO as oiio

    options = oiio.ImageSpec()
    options.attribute("oiio:UnassociatedAlpha", 1)  # not multiplied into the colours
    with quiet_stderr():  # what libpng says of damaged files
        file = oiio.ImageInput.open(str(path), options)
    if file is None:
        raise ValueError(oiio.geterror() or "it cannot be decoded")
    return file


def _read(file) -> np.ndarray:
    with quiet_stderr():
        pixels = file.read_image(file.spec().format)
    if pixels is None:
        raise ValueError(file.geterror() or "its pixels cannot be decoded")
    return pixels


def _write(kind: str, target: Path, spec, pixels: np.ndarray) -> None:
    import OpenImageIO as oiio

    file = oiio.ImageOutput.create(kind)
    pixels = np.ascontiguousarray(pixels)
    if not (file.open(str(target), spec) and file.write_image(pixels) and file.close()):
        raise OSError(f"{target}: {file.geterror()}")


def _full(target: Path) -> OSError:
    """Return what OpenImageIO should have said of a file that ends too early."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))


def _plain_mode(image: Image.Image) -> Image.Image:
    """Bring an 8-bit picture to grey, grey and alpha, RGB or RGBA, whichever loses nothing."""
    if image.mode in PLAIN_MODES:
        if image.has_transparency_data and not image.mode.endswith("A"):
            return image.convert(image.mode + "A")
        return image
    if image.mode == "1":
        return image.convert("LA" if image.has_transparency_data else "L")
    if image.mode.startswith(("I", "F")):  # Pillow would cut them off at 255
        raise ValueError(f"{image.format} of this depth is not supported: save it as 16-bit PNG")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


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


def _avif_kind(path: Path) -> tuple[int, str]:
    """Return the bits of an AVIF's values and the sampling of its colours.

    They are in its decoder's configuration.
    """
    _, _, configuration = path.read_bytes().partition(b"av1C")
    flags = configuration[2] if len(configuration) > 2 else 0x0C
    depth = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return depth, {0x00: "4:4:4", 0x08: "4:2:2"}.get(flags & 0x0C, "4:2:0")


def _squeezed(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def middle(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the middle `size` pixels of an image, or all it has if it has fewer."""
    top, left = (max(0, (n - size) // 2) for n in image.shape[:2])
    return image[top : top + size, left : left + size]


def luminance(image: np.ndarray) -> np.ndarray:
    """Return uint8 RGB (height, width, 3) as grey: uint8 (height, width, 1)."""
    return np.rint(image @ LUMINANCE[:, None]).astype(np.uint8)


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
