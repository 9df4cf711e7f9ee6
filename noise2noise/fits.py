"""FITS files by astropy, where it is installed: an image, a stack or a cube, its cards kept."""

import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from noise2noise.errors import InputError
from noise2noise.picture import PictureFile, decoding
from noise2noise.ranges import to_type


class Fits(PictureFile):
    """A FITS file; its pages are the planes of its first image, however many axes that has."""

    format = "FITS"

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            from astropy.io import fits
        except ImportError:
            raise InputError(f"{path} is FITS, which astropy reads: pip install astropy") from None
        with decoding(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd cards
            self._file = fits.open(path, memmap=False)  # a map of all counts as memory
            images = [k for k, hdu in enumerate(self._file) if hdu.is_image and len(hdu.shape) >= 2]
            if not images or 0 in self._file[images[0]].shape:
                raise InputError(f"{path} holds no image: name a FITS file that does")
            self._number = images[0]
            self._hdu = self._file[self._number]
            if isinstance(self._hdu, fits.CompImageHDU):
                raise InputError(f"{path} is compressed FITS: unpack it first (funpack)")
            if len(images) > 1:
                self.lost.append(f"the first of its {len(images)} images is taken")
        header = self._hdu.header
        if "BLANK" in header and header.get("BZERO", 0) == 2 ** (header["BITPIX"] - 1):
            # Of unsigned integers: astropy leaves those as they are.
            self.nodata = header["BLANK"] + header["BZERO"]
        self._stack = self._hdu.shape[:-2]  # the axes of its pages
        self.pages = int(np.prod(self._stack))

    def close(self) -> None:
        self._file.close()

    def size(self, n: int = 0) -> tuple[int, int]:
        return self._hdu.shape[:-3:-1]

    def colors(self, n: int = 0) -> int:
        return 1

    def _pixels(self, n: int) -> np.ndarray:
        return np.asarray(self._hdu.section[(*np.unravel_index(n, self._stack), ...)])

    def write(self, target: Path, pages: Iterable[np.ndarray]) -> None:
        """Copy the file and put other pixels in place of the image's own: all else stays."""
        header, place = self._hdu.header, self._hdu.fileinfo()["datLoc"]
        factor, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        bits = header["BITPIX"]
        kind = np.dtype(f">{'f' if bits < 0 else 'u' if bits == 8 else 'i'}{abs(bits) // 8}")
        shutil.copyfile(self.path, target)
        ends = []
        with target.open("r+b") as file:
            file.seek(place)
            for pixels in pages:
                stored = pixels[..., 0]
                if (finite := stored[np.isfinite(stored)]).size:
                    ends += [float(finite.min()), float(finite.max())]
                if stored.dtype.kind == "u" and (factor, zero) == (1, 2 ** (bits - 1)):
                    stored = (stored - stored.dtype.type(zero)).view(f"i{bits // 8}")  # exact
                elif (factor, zero) != (1, 0):
                    stored = (stored.astype(np.float64) - zero) / factor
                if kind.kind != "f" and stored.dtype.kind == "f":
                    with np.errstate(invalid="ignore"):
                        whole = to_type(stored, kind)
                    stored = np.where(np.isfinite(stored), whole, header.get("BLANK", 0))
                file.write(np.ascontiguousarray(stored, kind))
        if {"CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX"} & set(header):
            self._sum_up(target, {"DATAMIN": min(ends), "DATAMAX": max(ends)} if ends else {})

    def _sum_up(self, target: Path, ends: dict[str, float]) -> None:
        """Put right the cards that say what the values are."""
        from astropy.io import fits

        options = {"do_not_scale_image_data": True, "output_verify": "ignore"}  # of odd cards
        with warnings.catch_warnings(), fits.open(target, mode="update", **options) as file:
            warnings.simplefilter("ignore")
            hdu = file[self._number]
            hdu.header.update({card: end for card, end in ends.items() if card in hdu.header})
            if {"CHECKSUM", "DATASUM"} & set(hdu.header):
                hdu.add_checksum()
