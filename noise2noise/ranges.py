"""Value ranges: which of a picture's values a network takes for 0 and for 1.

Networks see about [0, 1]. Of 8-bit pictures that is the file's range, of deeper ones often not:
12 bits in a 16-bit file, photons, degrees. A range is (low, high), in the picture's own units, or
None for that of its type: 0 to the largest integer, or to 1 for floats. What lies far outside,
hot pixels and stars, stays as it is, and so does what is no number: the network sees others in its
place. Restoring shows the network `SHOWN` only, since brighter stars than it
has ever seen make it dig holes beside them.
"""

import math
from collections.abc import Iterable

import numpy as np

Range = tuple[float, float]


class Light(tuple):
    """A range (low, high) of values in proportion to light, of which the network sees the root.

    Noise of light has the variance a v + b: the root of v + b / a has about the same everywhere
    (Anscombe 1948), and looks as pictures do that are made to be seen, which networks learned from.

    Parameters
    ----------
    span : (float, float)
    offset : float
        b / a, in parts of the range; it is added below the root.
    """

    def __new__(cls, span: Range, offset: float):
        light = super().__new__(cls, span)
        light.offset = offset
        return light

    def __reduce__(self):
        return Light, (tuple(self), self.offset)

    def root(self, scaled: np.ndarray) -> np.ndarray:
        """Return the root of values in [0, 1], and about it: in [0, 1], too."""
        low, high = self._ends()
        return (np.sqrt(np.maximum(scaled + self.offset, 0)) - low) / (high - low)

    def square(self, root: np.ndarray) -> np.ndarray:
        """Return the values that have this root."""
        low, high = self._ends()
        return np.maximum(root * (high - low) + low, 0) ** 2 - self.offset

    def _ends(self) -> tuple[float, float]:
        return self.offset**0.5, (1 + self.offset) ** 0.5


PERCENTILES = 0.1, 99.5  # of the values, taken for 0 and 1: hot pixels and stars do not count
USED = 0.25  # share of its type's range from which on a picture keeps that
LIMITS = -1.0, 2.0  # what a network sees at most, further out than any noise within the range
SHOWN = -0.2, 1.15  # what a network is shown of that: what is beyond, it adds to its output
HUGE = np.float32(1e30)  # floats from which on are no numbers, as geographic files have them
WIDE = 0.1  # share of a measured range
MASKED = 0.01  # share of an image from which on one value may be a mask's
ROWS = 512  # of an image, and those below them, that tell areas from single pixels
GAP = 0.02, 16  # what parts it from the others: this share of their range, and so many of them
MIRRORED = 4  # times at most, that what is filled in fills in what is beyond
SAMPLED = 1 << 20  # values of a picture that its range is measured on


def measure(images: Iterable[np.ndarray], nodata: float | None = None) -> Range | None:
    """Measure the range that images use, together; None where it is their type's.

    That is so for 8 bits, and for unsigned integers whose values fill a quarter of their type's
    range. What is no measurement (`measured`) does not count; None too where all is such.
    """
    kinds = []

    def deep():
        for image in images:
            if image.dtype != np.uint8:
                kinds.append(image.dtype)
                yield image

    values = measured(deep(), nodata)
    if not values.size:
        return None
    kind = kinds[-1]
    top = np.iinfo(kind).max if kind.kind == "u" else None
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if top and high - low >= USED * top:
        return None
    if low == high:  # one colour, but for outliers: a step that keeps it what it is
        high = low + (max(1.0, abs(low) / 1e12) if kind.kind in "iu" else abs(low) / 100 or 1.0)
    return low, high


def width(images: Iterable[np.ndarray], nodata: float | None = None) -> float:
    """Return how far apart images' lowest and highest values lie, but for outliers; 0 of none."""
    values = measured(images, nodata)
    return float(np.ptp(np.percentile(values, PERCENTILES))) if values.size else 0.0


def measured(images: Iterable[np.ndarray], nodata: float | None = None) -> np.ndarray:
    """Return a `sample` of images' values, (values,) float64, without what is no measurement.

    That is what is no number (`unseen`), and `_fillers`.
    """
    found = [np.empty(0)]
    for image in images:
        some = sample(image)
        values = some[~unseen(some, None, nodata)].astype(np.float64)
        found.append(values[~np.isin(values, _fillers(values))])
    return np.concatenate(found)


def missing(image: np.ndarray, nodata: float | None = None) -> np.ndarray:
    """Return where an image (height, width, channels) holds no measurement, as `measured` says."""
    gone = unseen(image, None, nodata)
    if image.dtype != np.uint8:
        for value in _fillers(sample(image)[~sample(gone)].astype(np.float64)):
            gone |= image == image.dtype.type(value)
    return gone


def _fillers(values: np.ndarray) -> list[float]:
    """Return which of some values, at an end, stand for none, though no file says so.

    They are frequent, and farther from the others than these are from each other.
    """
    found = []
    for sign in (1, -1):
        signed = sign * values
        end = signed.min(initial=np.inf)
        others = signed[signed > end]
        often = signed.size - others.size > PERCENTILES[0] / 100 * signed.size
        if often and others.size:
            width = np.ptp(np.percentile(others, PERCENTILES, method="inverted_cdf"))
            if others.min() - end > width > 0:
                found.append(sign * end)
                values = sign * others
    return found


def mask_value(image: np.ndarray) -> float | None:
    """Return the value that stands for none in areas of an image, as far as that can be told.

    As 0 does in depth maps and in pictures that were cut out: noise would not leave it what it is,
    nor other values so far from it. None of 8 bits, where it is black; nor a type's largest, which
    is white; nor where what it parts are single pixels, as photons are.
    """
    if image.dtype == np.uint8:
        return None
    some = sample(image)
    values = some[~unseen(some)].astype(np.float64)
    white = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else np.inf
    for sign in (1, -1):
        signed = sign * values
        end = float(signed.min(initial=np.inf))
        others = signed[signed > end]
        if not others.size or signed.size - others.size < MASKED * signed.size:
            continue
        width, gap = np.ptp(np.percentile(others, PERCENTILES)), others.min() - end
        near = others[others <= others.min() + gap]
        if sign * end >= white or gap < GAP[0] * width or len(np.unique(near)) < GAP[1]:
            continue
        step = len(image) // ROWS + 1
        rows = [(image[n::step] == sign * end).all(axis=2) for n in (0, 1)]
        upper, lower = (part[: len(rows[1])] for part in rows)
        for masked in ((upper, lower), (~upper, ~lower)):
            both = masked[0] & masked[1]
            if (both[:, 1:] & both[:, :-1]).sum() < masked[0].sum() / 4:
                break
        else:
            return sign * end
    return None


def sample(image: np.ndarray) -> np.ndarray:
    """Return no more than `SAMPLED` of an image's values, (pixels, channels), evenly from all."""
    step = -(-image.size // SAMPLED)
    while image.ndim == 3 and math.gcd(step, image.shape[1]) > 1:
        step += 1  # to meet all columns alike, a dead one not more often than others
    return image.reshape(-1, image.shape[-1])[::step].copy()  # a view would keep all of it


def fits(images: Iterable[np.ndarray], span: Range, nodata: float | None = None) -> bool:
    """Whether a range suits images: the median lies in it, most values within `LIMITS`."""
    seen = to_network(measured(images, nodata), span)
    if not seen.size:
        return True
    low, middle, high = np.percentile(seen, (5, 50, 95))
    inside = LIMITS[0] < low < 1 and 0 < high < LIMITS[1]
    return inside and -0.05 < middle < 1.05 and np.ptp(seen) > 0.01


def words(span: Range, between: str = " to ") -> str:
    """Say a range, with as many digits as tell its ends apart, six or more."""
    low, high = span
    digits = 6 + max(0, int(math.log10(max(abs(low), abs(high)) / (high - low))))
    return f"{low:.{digits}g}{between}{high:.{digits}g}"


def wide_hint(images: Iterable[np.ndarray], nodata: float | None = None) -> str:
    """Return what to say where few values make a range in which the others' noise is lost.

    That is where nine tenths of the values lie in the lowest or highest tenth of what deep images
    hold, whether their range is that or their type's; "" elsewhere, and for 8 bits.
    """
    values = measured((image for image in images if image.dtype != np.uint8), nodata)
    if not values.size:
        return ""
    low, least, most, high = np.percentile(values, (PERCENTILES[0], 10, 90, PERCENTILES[1]))
    if low < most < low + WIDE * (high - low):
        where, better = f"below {most:g}", words((low, 2 * most - low), " ")
    elif high - WIDE * (high - low) < least < high:
        where, better = f"above {least:g}", words((2 * least - high, high), " ")
    else:
        return ""
    return (
        f"; 90% of the values are {where}: --range {better} would restore those better, and leave "
        "the others"
    )


def linear(values: np.ndarray, span: Range | None) -> np.ndarray:
    """Return the network's values as parts of the range, which they are but for `Light`."""
    return span.square(values) if isinstance(span, Light) else values


def to_network(values: np.ndarray, span: Range | None = None) -> np.ndarray:
    """Return values of any type as the network sees them: float32, about [0, 1].

    With a range, within `LIMITS`; without one, floats are what they were.
    """
    if span is None:
        with np.errstate(over="ignore"):  # of what is no number
            return np.divide(values, _top(values.dtype), dtype=np.float32)
    scaled = _scaled(values, span)
    if isinstance(span, Light):
        scaled = span.root(scaled)
    return np.clip(scaled, *LIMITS).astype(np.float32)


def from_network(restored: np.ndarray, values: np.ndarray, span: Range | None = None) -> np.ndarray:
    """Return what the network made of `values`, as parts of the range (`linear`), in their units.

    They are clipped to what the values' type holds, integers rounded too; floats without a range
    are as they are.
    """
    kind = values.dtype
    if span is None and kind.kind == "f":
        return restored
    if span is None:
        exact = np.float32 if kind.itemsize < 4 else np.float64
        result = np.clip(restored, 0, 1) * exact(_top(kind))
    else:
        result = restored.astype(np.float64) * (span[1] - span[0]) + span[0]
    return to_type(result, kind)


def to_type(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Return floats as what a type holds: clipped to it, integers rounded."""
    if kind.kind != "f":
        values = np.rint(values)
    most = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    high = float(most.max)
    if kind.itemsize == 8 and kind.kind != "f":  # floats know the next number only, too large
        high = np.nextafter(high, 0)
    return np.clip(values, most.min, high).astype(kind)


def unseen(
    values: np.ndarray, span: Range | None = None, nodata: float | None = None
) -> np.ndarray:
    """Return where the network does not see values: no numbers, or far outside of a range.

    No numbers are those that are not finite, or larger than any measurement (`HUGE`), and what
    the file says stands for none, `nodata`, in all of a pixel's channels (the last axis): in one
    of three colours alone it is a value.
    """
    gone = np.zeros(values.shape, bool)
    if nodata is not None:
        with np.errstate(over="ignore"):  # of one that the type cannot hold: -1.8e308
            gone |= (values == nodata).all(axis=-1, keepdims=True)
    if values.dtype.kind == "f":
        gone |= ~(np.abs(values) < HUGE)
    if span is not None:
        scaled = _scaled(values, span)
        gone |= ~((scaled > LIMITS[0]) & (scaled < LIMITS[1]))
    return gone


def to_8bit(values: np.ndarray, span: Range | None = None) -> np.ndarray:
    """Return values as uint8, to look at."""
    if values.dtype == np.uint8 and span is None:
        return values
    seen = np.nan_to_num(to_network(values, span))
    return np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)


def fill(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return `image` with a value wherever one is missing, per channel.

    In areas that is the one as far beyond the nearest pixel, so that picture and noise go on as in
    a mirror: streaks of one value look like something to a network. Where that is missing too, it
    comes from what is filled in by then. Pixels and lines that are missing alone get the nearest
    pixel's, and so does what is far from all others.
    """
    filled = image.copy()
    alike = (missing == missing[..., :1]).all()
    for part in [np.s_[...]] if alike else [np.s_[..., k : k + 1] for k in range(image.shape[2])]:
        _mirror(filled[part], missing[part][..., 0].copy())
    return np.where(unseen(filled), 0, filled)  # of a channel without any number


def _mirror(values: np.ndarray, missing: np.ndarray) -> None:
    """Fill in an image's missing pixels, in place, and mark them as there: see `fill`."""
    from scipy.ndimage import binary_opening, distance_transform_edt

    areas = binary_opening(missing, np.ones((2, 2)))
    ends = np.array(missing.shape)[:, None]
    for turn in range(MIRRORED):
        if missing.all() or not missing.any():
            break
        nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
        places = np.stack(np.nonzero(missing))
        nearest = nearest[:, *places]
        sources = np.where(areas[*places], 2 * nearest - places, nearest)
        there = ((sources >= 0) & (sources < ends)).all(axis=0)
        there[there] = ~missing[*sources[:, there]]
        if turn == MIRRORED - 1 or not there.any():
            sources, there = nearest, slice(None)
        places = places[:, there]
        values[*places] = values[*sources[:, there]]
        missing[*places] = False


def _scaled(values: np.ndarray, span: Range) -> np.ndarray:
    low, high = span
    with np.errstate(over="ignore", invalid="ignore"):  # of what is no number
        return (values.astype(np.float64) - low) / (high - low)


def _top(dtype: np.dtype) -> int:
    return np.iinfo(dtype).max if dtype.kind in "iu" else 1
