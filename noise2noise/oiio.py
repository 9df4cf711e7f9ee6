"""What OpenImageIO reads and writes: PNG of 16 bits, OpenEXR and Radiance HDR."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from noise2noise.errors import InputError, quiet_stderr
from noise2noise.picture import PictureFile, decoding
from noise2noise.pillow import PillowFile

LOSSY = "dwa", "b44"  # OpenEXR's compressions that smear noise
KEPT_PNG_CHUNKS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"eXIf", b"tEXt", b"iTXt", b"zTXt")
KEPT_PNG_CHUNKS += (b"cICP", b"mDCV", b"cLLI")  # colours of HDR


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
            self.lossy = self._spec.get_string_attribute("compression").startswith(LOSSY)
            if self._spec.deep or self._file.seek_subimage(1, 0):
                raise InputError(f"{path} has several parts or depths: save one flat picture of it")
            if "uint" in map(str, self._spec.channelformats):
                raise InputError(f"{path} has channels of integers beside others: save it without")

    def close(self) -> None:
        self._file.close()

    def size(self, n: int = 0) -> tuple[int, int]:
        return self._spec.width, self._spec.height

    def colors(self, n: int = 0) -> int:
        names = self._spec.channelnames
        return 3 if names[:3] == ("R", "G", "B") else len(set(names) - {"A"}) or 1

    def _has_alpha(self, n: int) -> bool:
        return set(self._spec.channelnames) <= {*"RGBAY"}

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
