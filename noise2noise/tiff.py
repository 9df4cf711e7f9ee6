"""TIFF files by tifffile: any depth, stacks, planar, tiled, BigTIFF, OME's and ImageJ's."""

import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile

from noise2noise.errors import InputError
from noise2noise.picture import PictureFile, decoding, encoding

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what it finds odd
BIG = 2**32 - 2**25  # bytes that a TIFF whose offsets have 32 bits holds for sure
SUB_IFDS = 330
# Tags that point to directories of their own (IFDs), which are not copied.
LOST_TAGS = {SUB_IFDS: "smaller copies", 34665: "EXIF", 34853: "GPS position"}
DNG_VERSION, NODATA = 50706, 42113  # of raw files; GDAL's, a number in words
WHITE_IS_ZERO, RGB, PALETTE, MASK, CMYK = 0, 2, 3, 4, 5
LOSSY = 6, 7, 33003, 33004, 33005, 34892  # JPEG, and JPEG 2000 as slide scanners write it
PLAIN = WHITE_IS_ZERO, 1, RGB
ALPHA = 1, 2  # of ExtraSamples: alpha, multiplied into the colours or not


class Tiff(PictureFile):
    """A TIFF file; its pages are its own, whichever volumes or time series they make up."""

    format = "TIFF"

    def __init__(self, path: Path):
        super().__init__(path)
        with decoding(path):
            # OME's XML stays text: its pages may be in other files.
            self._file = tifffile.TiffFile(path, is_ome=False)
            self.pages = len(self._file.pages)
            if not self.pages:
                raise ValueError("it has no pages")
            self._first = self._file.pages.first
            self.dtype = self._first.dtype
            self.lossy = self._first.compression in LOSSY and self._first.bitspersample == 8
            self.nodata = _number(self._first.tags.valueof(NODATA))
            if self.nodata is not None and _is_inverted(self._first):
                self.nodata = np.iinfo(self.dtype).max - self.nodata
            thumbnail = self._first.subfiletype & 1 and SUB_IFDS in self._first.tags
            if thumbnail or DNG_VERSION in self._first.tags:
                raise InputError(f"{path} is a camera's raw file: develop it to 16-bit TIFF first")
            # ImageJ shows values in false colours by a palette: they are grey all the same.
            self._photometrics = (*PLAIN, PALETTE) if self._first.is_imagej else PLAIN
            self.planes = _is_planar(self._first) and self._first.is_shaped and self.pages == 1
            if self._first.samplesperpixel == 1:
                self.channels = self._said("channels", "SizeC")
            self.slices = self._said("slices", "SizeZ")
            self._described = self.pages
            self._last = 0, self._first
            if self.pages == 1:
                self.pages = self._undescribed_pages()
            some = {0, min(1, self._described - 1), self._described - 1}  # 0 may be a small copy
            self.deep = any(self._page(n).dtype != np.uint8 for n in some)

    def close(self) -> None:
        self._file.close()

    @property
    def plain(self) -> bool:
        """Whether its only page's pixels stand for themselves: no palette, fax, JPEG's colours."""
        page = self._first
        known = page.photometric in self._photometrics and page.bitspersample >= 8
        return known and page.compression not in (6, 7)

    def _said(self, imagej: str, ome: str) -> int:
        """Return how many of something the pages are of, in ImageJ's words or in OME's."""
        found = rf'^{imagej}=(\d+)|\b{ome}="(\d+)"'
        said = re.search(found, self._first.description, re.M)
        return int(said[1] or said[2]) if said else 1

    def _undescribed_pages(self) -> int:
        """Return the pages of a stack of which only the first is described: ImageJ's of 4 GB."""
        series, page = self._file.series[0], self._first
        whole = series.dataoffset is not None and _lies_as_it_is(page)
        return max(1, series.size // max(page.size, 1)) if whole else 1

    def _page(self, n: int) -> tifffile.TiffPage:
        """Return what describes a page; anew, but for the one asked for last."""
        if self._described == 1:
            return self._first
        if n != self._last[0]:
            with decoding(self.path):
                self._last = n, self._file.pages[n]
        return self._last[1]

    def _offset(self, n: int) -> int:
        """Return where a page's pixels begin, if they lie in the file as they are."""
        beginning = self._page(n).dataoffsets[0]
        return beginning if self._described > 1 else beginning + n * self._first.nbytes

    def size(self, n: int = 0) -> tuple[int, int]:
        page = self._page(n)
        return page.imagewidth, page.imagelength

    def colors(self, n: int = 0) -> int:
        page = self._page(n)
        if page.photometric == RGB and page.samplesperpixel >= 3:
            return 3
        return max(1, page.samplesperpixel - sum(kind in ALPHA for kind in page.extrasamples))

    def _has_alpha(self, n: int) -> bool:
        return self._page(n).extrasamples[-1:] in [(kind,) for kind in ALPHA]

    def _pixels(self, n: int) -> np.ndarray:
        page = self._page(n)
        if page.imagedepth > 1:
            raise InputError(f"{self.path} holds volumes as pages: save each slice as a page")
        if page.dtype is None or page.nbytes == 0:
            raise ValueError("it has no pixels")
        if page.photometric == MASK:
            raise InputError(f"{self.path} holds a mask beside its pictures: save it without")
        if page.bitspersample < 8:
            raise InputError(f"{self.path} holds {page.bitspersample} bits: save it with 8 or 16")
        if page.photometric not in (*self._photometrics, CMYK):  # CMYK's are restored each alone
            raise InputError(f"{self.path} holds {page.photometric.name} colours: save it as RGB")
        if n and self._described == 1:
            with self.path.open("rb") as file:
                file.seek(self._offset(n))
                pixels = np.fromfile(file, self._stored_type(page), page.size).reshape(page.shape)
        else:
            pixels = page.asarray()
        return _inverted(page, np.moveaxis(pixels, 0, -1) if _is_planar(page) else pixels)

    def write(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        if all(_lies_as_it_is(self._page(n)) for n in range(self._described)):
            self._overwrite(target, pages)
        else:
            self._rewrite(target, pages)

    def _overwrite(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        """Copy the file and put other pixels in place of its own: all else stays, to the byte."""
        shutil.copyfile(self.path, target)
        with target.open("r+b") as file:
            for n, pixels in enumerate(pages):
                page = self._page(n)
                if SUB_IFDS in page.tags:
                    self._lose(f"{LOST_TAGS[SUB_IFDS]} stay as they are")
                file.seek(self._offset(n))
                file.write(_stored(page, pixels).astype(self._stored_type(page)))

    def _stored_type(self, page: tifffile.TiffPage) -> np.dtype:
        return page.dtype.newbyteorder(self._file.byteorder)

    def _rewrite(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        """Write compressed or tiled pages, each with the tags of its own."""
        tif = self._file
        raw = sum(self._page(n).nbytes for n in range(self.pages))
        options = {"bigtiff": tif.is_bigtiff or raw > BIG, "byteorder": tif.byteorder}
        # Or it would write OME's XML anew where the file's name says OME.
        with tifffile.TiffWriter(target, **options, ome=False) as writer:
            for n, pixels in enumerate(pages):
                page = self._page(n)
                compression, predictor = page.compression, page.predictor
                if page.dtype.kind == "f" and predictor == 2:  # which libtiff writes
                    predictor = 3
                sides = page.tile if page.is_tiled else ()
                if compression not in _COMPRESSIONS:
                    self._lose(f"compression {compression.name} became deflate")
                    compression = 8
                tags = page.tags
                for code, what in LOST_TAGS.items():
                    if code in tags:
                        self._lose(f"{what} left out")
                if page.bitspersample % 8:
                    self._lose(f"{page.bitspersample} bits became {8 * page.dtype.itemsize}")
                resolution = [tags[code].value for code in (282, 283) if code in tags]
                resolved = len(resolution) == 2 and all(below for _, below in resolution)
                unit = page.resolutionunit if page.resolutionunit in (1, 2, 3) else 1
                with encoding(self.path):
                    writer.write(
                        _stored(page, pixels),
                        photometric=page.photometric,
                        planarconfig=page.planarconfig if page.samplesperpixel > 1 else None,
                        extrasamples=page.extrasamples or None,
                        compression=compression,
                        predictor=predictor if compression in (5, 8, 32946, 50000) else None,
                        tile=sides if sides and not any(n % 16 for n in sides) else None,
                        subfiletype=page.subfiletype or None,
                        colormap=page.colormap if page.photometric == PALETTE else None,
                        resolution=resolution if resolved else None,
                        resolutionunit=unit if resolved else 1,
                        extratags=[tag.astuple() for tag in tags if tag.code not in WRITTEN_TAGS],
                        metadata=None,
                        software=False,
                    )

    def _lose(self, what: str) -> None:
        if what not in self.lost:
            self.lost.append(what)


# What a TIFF says of its bytes, and what is written by arguments of their own.
WRITTEN_TAGS = {*tifffile.TIFF.TAG_FILTERED, 254, 282, 283, 296}
# None, LZW, JPEG, deflate, PackBits, LZMA, zstd.
_COMPRESSIONS = 1, 5, 7, 8, 32946, 32773, 34925, 50000


def _number(words) -> float | None:
    try:
        return float(str(words).strip("\0 "))
    except ValueError:
        return None


def _lies_as_it_is(page: tifffile.TiffPage) -> bool:
    """Whether a page's pixels lie in the file as they are, in one piece."""
    return page.is_final and page.dataoffsets[0] > 0  # 0: none were ever written


def _is_planar(page: tifffile.TiffPage) -> bool:
    return page.planarconfig == 2 and page.samplesperpixel > 1


def _stored(page: tifffile.TiffPage, pixels: np.ndarray) -> np.ndarray:
    """Return pixels (height, width, channels) in the order and sense that a page has them."""
    pixels = _inverted(page, pixels)
    if page.samplesperpixel == 1:
        pixels = pixels[..., 0]
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0) if _is_planar(page) else pixels)


def _is_inverted(page: tifffile.TiffPage) -> bool:
    return page.photometric == WHITE_IS_ZERO and page.dtype.kind == "u"


def _inverted(page: tifffile.TiffPage, pixels: np.ndarray) -> np.ndarray:
    return ~pixels if _is_inverted(page) else pixels
