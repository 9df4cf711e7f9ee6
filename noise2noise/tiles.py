"""An image of any size through a network, in overlapping tiles where it is large."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from noise2noise import ranges
from noise2noise.means import REACH, LocalMeans, bound
from noise2noise.ranges import Range

SIZE_MULTIPLE = 32  # of a side that goes through: five 2x2 poolings halve the image five times
# An output pixel depends on input pixels at most this far away. A 3x3 convolution at level l,
# where a pixel stands for 2^l, sees 2^l further: 1 + 1 + 2 + 4 + 8 + 16 + 32 in the encoder,
# 2 (16 + 8 + 4 + 2) + 3 in the decoder, 127 in all; five poolings add up to 1 + 2 + 4 + 8 + 16.
# The next multiple of 32, to which tiles must keep so that their poolings coincide, is:
HALO = 160
SIDES = [32 * n for n in (4, 8, 12, 16, 23, 30)]  # of what is compiled for
STRIP = 64  # rows that are brought to the picture's own values at a time
MAX_TILE = 960  # pixels on a side, the halo included: within 3 GB for 100 megapixels


class Ensemble:
    """A network whose output is the mean of its outputs for eight views, turned and flipped.

    For `restore_image`, as the network itself: eight times as long, and some 0.1 dB better (the
    geometric self-ensemble of Timofte et al., CVPR 2016).
    """

    def __init__(self, model):
        self.output_shape, self._model = model.output_shape, model

    def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
        """Restore float32 (1, height, width, n) to (1, height, width, m)."""
        total = np.float32(0)
        for turns, step in itertools.product(range(4), (1, -1)):
            view = np.rot90(x, turns, (1, 2))[:, :, ::step]
            output = np.asarray(self._model.predict_on_batch(np.ascontiguousarray(view)))
            total = total + np.rot90(output[:, :, ::step], -turns, (1, 2))
        return total / 8


class FewSizes:
    """A network that is shown images of few sizes, for back ends that compile for each anew.

    For `restore_image`, as the network itself: sides grow to the next one of `SIDES`, as mirrored.
    """

    def __init__(self, model):
        self.output_shape, self._model = model.output_shape, model

    def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
        """Restore float32 (batch, height, width, n) to (batch, height, width, m)."""
        height, width = x.shape[1:3]
        more = [next((s for s in SIDES if s >= n), n) - n for n in (height, width)]
        x = np.pad(x, ((0, 0), *((0, n) for n in more), (0, 0)), mode="reflect")
        return np.asarray(self._model.predict_on_batch(x))[:, :height, :width]


def restore_image(
    model,
    image: np.ndarray,
    max_tile: int = MAX_TILE,
    advance: Callable[[float], None] | None = None,
    span: Range | None = None,
    keep_means: bool = False,
    nodata: float | None = None,
    hidden: np.ndarray | None = None,
) -> np.ndarray:
    """Restore an image of any size.

    It is reflect-padded to a multiple of 32 and cropped back. Large images go through in
    tiles that overlap by twice `HALO`, of which only the middle is kept, so that the result
    is that of the whole image at once up to rounding, in bounded memory. A network for grey
    images restores the channels of others one by one.

    Parameters
    ----------
    model : keras.Model
        Or anything with its `predict_on_batch` and `output_shape`.
    image : (height, width, channels)
        float32, about [0, 1], and may go beyond; or integers; or, with a range, any type.
    max_tile : int
        Pixels on a tile's side, more than twice `HALO`.
    advance : callable, optional
        Called with the number of pixels done after each tile.
    span : (float, float), optional
        The values that the network shall take for 0 and 1 (`ranges`); default: the type's.
    keep_means : bool
        Give the restored image the local means of the noisy one (`means`): for noise whose mean
        is zero, where a network's small errors of brightness shall not stay.
    nodata : float, optional
        A value that stands for none. What is no number, or far outside of the range, stays as it
        is (`ranges.unseen`), and the network sees others in its place (`ranges.fill`).
    hidden : bool (height, width), optional
        Pixels that stand for none, too.

    Returns
    -------
    (height, width, channels)
        float32 (of float64 that), not clipped; or, for an image of integers, clipped and rounded
        to its type; with a range, of the image's type.
    """
    height, width, channels = image.shape
    floats = span is None and image.dtype.kind == "f"
    # What is no number in them stays, and may be too large for float32.
    kind = np.result_type(image.dtype, np.float32) if floats else image.dtype
    result = np.empty(image.shape, kind)
    means = LocalMeans(image.shape) if keep_means else None
    black, white = _ends(image.dtype, span)

    def unseen_at(place) -> np.ndarray:
        unseen = ranges.unseen(image[place], span, nodata)
        return unseen if hidden is None else unseen | hidden[place][..., None]

    waiting, done = np.empty((0, width, channels), np.float32), 0  # rows that lack their means
    for rows, kept_rows in _spans(height, max_tile):
        band = np.empty((len(kept_rows), width, channels), np.float32)  # a row of tiles
        for columns, kept_columns in _spans(width, max_tile):
            place = np.s_[rows.start : rows.stop, columns.start : columns.stop]
            tile, unseen = image[place], unseen_at(place)
            padding = [
                (0, len(side) - n) for side, n in zip((rows, columns), tile.shape, strict=False)
            ]
            tile, unseen = (
                np.pad(part, (*padding, (0, 0)), mode="reflect") for part in (tile, unseen)
            )
            seen = ranges.fill(tile, unseen) if unseen.any() else tile
            seen = ranges.to_network(seen, span)
            shown = seen if span is None else np.clip(seen, *ranges.SHOWN)
            kept = np.s_[
                kept_rows.start - rows.start : kept_rows.stop - rows.start,
                kept_columns.start - columns.start : kept_columns.stop - columns.start,
            ]
            output = _predict(model, shown)
            if keep_means:
                bound(output, shown)
            restored = band[:, kept_columns.start : kept_columns.stop]
            # Of light itself the means are kept, not of its root.
            restored[:] = ranges.linear(output + (seen - shown), span)[kept]
            seen = ranges.linear(seen, span)
            if means:
                seen[unseen] = ranges.LIMITS[1]  # which does not count
                at_ends = tile[kept] == black, tile[kept] == white
                top_left = kept_rows.start, kept_columns.start
                means.add(*top_left, seen[kept], restored, *at_ends)
            if advance:
                advance(len(kept_rows) * len(kept_columns))
        waiting = np.concatenate((waiting, band))
        known = kept_rows.stop - (REACH if means and kept_rows.stop < height else 0)
        for start in range(done, known, STRIP):
            strip = slice(start, min(known, start + STRIP))
            restored = waiting[strip.start - done : strip.stop - done]
            if means:
                restored += means.rows(strip.start, strip.stop)
            values = image[strip]
            restored = ranges.from_network(restored, values, span)
            unseen = unseen_at(strip)
            result[strip] = np.where(unseen, values, restored) if unseen.any() else restored
        waiting, done = waiting[known - done :], known
    return result


def _predict(model, seen: np.ndarray) -> np.ndarray:
    """Put a tile through a network; one for grey images takes its channels one by one."""
    alone = model.output_shape[-1] == 1 < seen.shape[-1]
    parts = np.split(seen, seen.shape[-1], axis=2) if alone else [seen]
    return np.concatenate([np.asarray(model.predict_on_batch(p[None]))[0] for p in parts], axis=2)


def _ends(dtype: np.dtype, span: Range | None) -> tuple[float, float]:
    """Return the values of a type at which noise is cut off: NaN where it is not.

    In a range of their own, small integers are counts, among which 0 is one like others.
    """
    white = np.iinfo(dtype).max if dtype.kind in "iu" else np.nan
    return (0 if dtype.kind == "u" and span is None else np.nan), white


def _spans(length: int, max_tile: int) -> Iterator[tuple[range, range]]:
    """Cut an axis into tiles of one size: yield (the tile, the part of it to keep).

    Tiles start at multiples of 32; the last one may reach past the end, to be padded.
    """
    padded = -(-length // SIZE_MULTIPLE) * SIZE_MULTIPLE
    count = max(1, math.ceil((padded - 2 * HALO) / (max_tile - 2 * HALO)))
    size = math.ceil((padded + (count - 1) * 2 * HALO) / count / SIZE_MULTIPLE) * SIZE_MULTIPLE
    size = min(size, padded)
    kept = 0
    for number in range(count):
        start = min(number * (size - 2 * HALO), padded - size)
        stop = length if number == count - 1 else start + size - HALO
        yield range(start, start + size), range(kept, stop)
        kept = stop
