"""Local means: noise of zero mean leaves them as they are, so restored pictures keep them.

A network's errors of brightness are alike over large areas, most of all where it has seen little:
near black, in starry skies, in a microscope's background. There the mean of the noisy picture
itself knows better, since little noise is left in a mean of thousands of pixels. What restoring
took away or added is averaged, and given back.

Noise that is cut off at black has a mean above zero, at white below: there what is restored is
lightened only by what that cannot explain, and darkened only so at white.
"""

import numpy as np

from noise2noise.ranges import LIMITS

BLOCK = 8  # pixels on a side that are averaged first; tiles begin at multiples of it
SIGMA = 2.0  # blocks, of a Gaussian window: of the noise in it 1/57 is left
WINDOW = 6  # blocks that the window reaches
REACH = (WINDOW + 2) * BLOCK  # pixels
# How far noise that is cut off may have moved the mean: so many standard deviations, times the
# share of values at that end of their type. Of Gaussian noise it is 2 / sqrt(2 pi) at most (half of
# the values, where the scene is black); JPEG leaves fewer values there than were cut off.
CUT_OFF = 4.0


def bound(restored: np.ndarray, noisy: np.ndarray) -> None:
    """Keep restored values, in place, within the least and greatest noisy ones around them.

    Those of an 8x8 block and the blocks that touch it: beside what is brighter than all that it
    has seen, a lamp or a star, a network digs holes. Both are contiguous (height, width,
    channels), with sides that are multiples of `BLOCK`.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    height, width, channels = noisy.shape
    rows = noisy.reshape(height // BLOCK, BLOCK, width * channels)  # whole ones are quick to take
    parts = restored.reshape(rows.shape)

    def around(of_block, of_blocks):
        blocks = of_block(rows, axis=1).reshape(-1, width // BLOCK, BLOCK, channels)
        blocks = of_blocks(of_block(blocks, axis=2), (3, 3, 1))
        return blocks.repeat(BLOCK, axis=1).reshape(-1, 1, width * channels)

    np.clip(parts, around(np.min, minimum_filter), around(np.max, maximum_filter), out=parts)


class LocalMeans:
    """The mean difference of a noisy image of some shape and the restored one, around each pixel.

    Values are the network's, about [0, 1].
    """

    def __init__(self, shape: tuple[int, int, int]):
        height, width, channels = shape
        self._width = width
        blocks = (-(-height // BLOCK), -(-width // BLOCK), channels)
        self._sums = np.zeros((5, *blocks), np.float32)  # see `add`

    def add(self, top: int, left: int, seen, restored, black=False, white=False) -> None:
        """Take in a part of the image; `black` and `white` say where noise is cut off.

        `top` and `left`, where the part lies, are multiples of `BLOCK`. What is so far out that
        the network sees it at `LIMITS` only, hot pixels and stars, does not count.
        """
        inside = (seen > LIMITS[0]) & (seen < LIMITS[1])
        difference = inside * (seen - restored)
        parts = inside, difference, difference**2, inside & black, inside & white
        height, width = (-(-n // BLOCK) for n in seen.shape[:2])
        place = np.s_[top // BLOCK :, left // BLOCK :]
        sides = [(0, -n % BLOCK) for n in seen.shape[:2]]
        for sums, part in zip(self._sums, parts, strict=True):
            part = np.pad(part.astype(np.float32), (*sides, (0, 0)))
            part = part.reshape(height, BLOCK, width, BLOCK, -1).sum(axis=(1, 3))
            sums[place][:height, :width] = part

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return what some rows of the restored image lack: float32 (rows, width, channels).

        It takes that all rows up to `REACH` further on were taken in.
        """
        from scipy.ndimage import gaussian_filter

        first, last = max(0, start // BLOCK - WINDOW - 1), stop // BLOCK + WINDOW + 2
        sums = self._sums[:, first:last]  # beyond the image's ends there is nothing
        sums = gaussian_filter(sums, SIGMA, mode="constant", radius=WINDOW, axes=(1, 2))
        counts, *sums = sums
        mean, power, black, white = sums / np.maximum(counts, 1e-3)
        noise = CUT_OFF * np.sqrt(power)
        mean = np.maximum(mean - black * noise, 0) + np.minimum(mean + white * noise, 0)
        rows = _between(mean, np.arange(start, stop) - first * BLOCK, 0)
        return _between(rows, np.arange(self._width), 1)


def _between(blocks: np.ndarray, pixels: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate linearly at pixels between the middles of blocks, along an axis."""
    places = np.clip((pixels + 0.5) / BLOCK - 0.5, 0, blocks.shape[axis] - 1)
    first = places.astype(int)
    second = np.minimum(first + 1, blocks.shape[axis] - 1)
    share = np.float32(places - first).reshape([-1 if k == axis else 1 for k in range(blocks.ndim)])
    return blocks.take(first, axis) * (1 - share) + blocks.take(second, axis) * share
