"""What Pillow reads and writes: pictures of 8 bits."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from noise2noise.errors import InputError, quiet_stderr
from noise2noise.picture import SUFFIXES, PictureFile, decoding, encoding
from noise2noise.tiff import LOST_TAGS, WRITTEN_TAGS

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # or it refuses long texts

# TIFF tags that Pillow writes anew (sizes, offsets, JPEG's tables), so they are not copied; the
# resolution is.
ANEW_TIFF_TAGS = {*WRITTEN_TAGS, 347, *range(512, 522), *range(529, 533)} - {282, 283, 296}
ANEW_TIFF_TAGS |= {320, *range(332, 338)}  # the palette and the inks, of what becomes RGB
ICC_PROFILE = 34675
PILLOW_TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
QUALITY = 95  # of JPEG, WebP, AVIF and HEIC
LOSSY_FORMATS = "JPEG", "HEIF", "AVIF"  # for all that is known
MOST_EXIF = 65533  # bytes that one segment of a JPEG holds
XMP_TELLS_OF = {  # what follows a JPEG's picture, or is in segments of its own
    rb"(MotionPhoto|MicroVideo)(=[\"']|>)1": "a motion photo's video",
    rb"HasExtendedXMP": "extended XMP",
}
PLAIN_MODES = "L", "LA", "RGB", "RGBA"


def open_picture(path: Path) -> Image.Image:
    """Open a picture with Pillow and check its header, without decoding it; errors name it."""
    with decoding(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata beside sound pixels, large sizes
        try:
            image = Image.open(path)
        except UnidentifiedImageError:
            if _is_heif(path):
                _register_heif(path)
            elif path.suffix.lower() not in SUFFIXES:
                raise InputError(
                    f"{path} is of no kind that is read here ({', '.join(SUFFIXES)}): convert it"
                ) from None
            image = Image.open(path)
    if image.format == "TIFF":
        image.filename = ""  # lest Pillow maps the file, where it mistakes the sides of turned ones
    elif image.format == "PNG" and image.mode == "L" and image.tile:
        top = {"L;2": 3, "L;4": 15}.get(image.tile[0].args, 255)
        clear = image.info.get("transparency")
        if isinstance(clear, int) and clear <= top:  # which Pillow leaves as it is in the file
            image.info["transparency"] = clear * (255 // top)
    return image


def _is_heif(path: Path) -> bool:
    """Whether a file is what phones save, HEIC, by its main brand (ISO/IEC 23008-12)."""
    with path.open("rb") as file:
        beginning = file.read(12)
    return beginning[4:8] == b"ftyp" and beginning[8:10] in (b"he", b"mi", b"ms")


def _register_heif(path: Path) -> None:
    """Have Pillow read and write HEIC, too, where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            f"{path} is HEIC, which pillow-heif reads: pip install pillow-heif"
        ) from None
    pillow_heif.register_heif_opener()


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

    @property
    def lossy(self) -> bool:
        if self.format == "TIFF":
            return self._image.info.get("compression") == "jpeg"
        if self.format == "WEBP":
            pixels = re.search(rb"VP8[ L]", self.path.read_bytes())  # VP8L: lossless
            return pixels is None or pixels[0] != b"VP8L"
        return self.format in LOSSY_FORMATS

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
        if frames > 1 and self._image.format not in ("MPO", "HEIF"):
            raise InputError(f"{self.path} holds {frames} pictures: save each as a file of its own")

    def write(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        Image.init()
        if self.format not in Image.SAVE or self.format in ("GIF", "ICO"):  # few colours, sizes
            raise InputError(f"{self.path} is {self.format}, which is not written: save it as PNG")
        (pixels,) = pages
        self._note_what_is_lost()
        options = self._options(pixels.shape[2])
        encoded = io.BytesIO()  # of a full disk Pillow's encoders would say nothing
        with encoding(self.path):
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
            image.save(encoded, self.format, **options)
        target.write_bytes(encoded.getbuffer())

    def _note_what_is_lost(self) -> None:
        """Put into `lost` what no file of this format keeps of the picture's mode."""
        mode = self._image.mode
        if mode == "1":
            self.lost.append("1 bit became 8")
        elif mode in ("P", "PA"):
            self.lost.append("the palette became RGB")
        elif mode not in PLAIN_MODES:
            self.lost.append(f"{mode} became RGB")
        elif self._image.has_transparency_data and not mode.endswith("A"):
            self.lost.append("the transparent colour became alpha")
        if self.format == "BMP" and mode == "RGBA":
            self.lost.append("alpha left out")
        if getattr(self._image, "n_frames", 1) > 1:  # MPO's, HEIC's
            self.lost.append("what follows the first picture left out")

    def _options(self, channels: int) -> dict:
        """Return what to save pixels of so many channels with: the source's metadata and kind."""
        source = self._image
        if self.format == "PNG":  # whose texts may be called like these; `Png` copies all there is
            return {}
        kept = ("icc_profile", "exif", "dpi", "xmp", "comment")
        options = {key: source.info[key] for key in kept if source.info.get(key)}
        options["quality"] = QUALITY
        if source.mode in ("CMYK", "LAB"):  # it becomes RGB, of which its profile says nothing
            options.pop("icc_profile", None)
        if self.format == "JPEG":
            self._add_jpeg_options(options)
        elif self.format == "TIFF":
            self._add_tiff_options(options)
        elif self.format == "WEBP":
            options["lossless"] = not self.lossy
            options["exact"] = True  # colours where alpha is 0
        elif self.format == "AVIF":
            depth, sampling = _avif_kind(self.path)
            if depth > 8:
                self.lost.append(f"{depth} bits became 8")
            if channels > 2:
                options["subsampling"] = sampling
        elif self.format == "HEIF":
            if (depth := source.info.get("bit_depth", 8)) > 8:
                self.lost.append(f"{depth} bits became 8")
            if source.info.get("depth_images") or source.info.get("aux"):
                self.lost.append("depth and gain maps left out")
            for key in ("chroma", "nclx_profile"):  # colours' sampling, and what they mean
                if key in source.info:
                    options[key] = source.info[key]
        return options

    def _add_jpeg_options(self, options: dict) -> None:
        source = self._image
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

    def _add_tiff_options(self, options: dict) -> None:
        source = self._image
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


def _avif_kind(path: Path) -> tuple[int, str]:
    """Return the bits of an AVIF's values and the sampling of its colours.

    They are in its decoder's configuration.
    """
    _, _, configuration = path.read_bytes().partition(b"av1C")
    flags = configuration[2] if len(configuration) > 2 else 0x0C
    depth = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return depth, {0x00: "4:4:4", 0x08: "4:2:2"}.get(flags & 0x0C, "4:2:0")
