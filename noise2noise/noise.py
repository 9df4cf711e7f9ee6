"""What can be told of the noise in pictures: its strength, and what of it is shared.

Pairs of pictures teach only where their noise is independent, and a network takes away only what
looks like noise to it: so does a fine pattern, a raw file's mosaic or a print's screen.
"""

import itertools
from functools import cache

import numpy as np

from noise2noise.images import middle
from noise2noise.ranges import Light, Range

MIDDLE = 1024  # pixels on a side of the part in the middle that noise is looked at in
PATCH = 8  # pixels on a side of the parts that noise is measured in
FLATTEST = 0.005, 40  # the share of them that is taken, and how many at least
MOST_FLAT = 0.05  # the share that may be taken: more are not flat
MOST_AT_AN_END = 0.6  # of a patch's values: more are cut off, or of a flat area without noise
VERY_WEAK = 2 / 255  # as the next, of the flattest parts alone, by each choice of these
WEAK = 3 / 255  # standard deviation of noise, of the range, below which details look like it
BLOCK = 64  # pixels on a side of the parts that patterns are looked for in
LONGEST = 8  # pixels after which they repeat
DARKEST = 1e-6  # of a patch, in parts of the brightest: below it is without light
COUNTED = 30  # patches that tell of counts, at least
FEW_COUNTS = 2  # on average, in a tenth of them: or there were no pixels without any
# Variance over mean of counts, quartiles: 1 but for details, and for chance in so few pixels.
DISPERSION = (0.6, 1), (0.8, 1.25), (1, 1.6)
WAVES = 2.5, 4.5, 6.5, np.inf  # half waves a patch, in rows and columns together: coarse to fine
MANY = 256  # patches, at least, whose frequencies are compared
ALIKE_HALVES = 0.5  # correlation of two halves' columns, from which it is noise of whole ones
OFFSETS = 2e-3, 1e3  # of a range of light, the least and the most
MOST_BINS = 12  # of brightness, in which noise is compared
MAX_CORRELATION = 0.15  # `noise_correlation` of noise that is independent


def noise_correlation(image: np.ndarray, missing: np.ndarray | bool = False) -> float:
    """Return the correlation of the noise of pixels side by side, about 0 for white noise.

    It is measured in the flattest patches, from which a quadratic surface is taken off, and the
    correlation that this leaves in white noise subtracted. To choose patches by their variance
    does not bias it: of white Gaussian noise, correlation and variance are independent. Rows and
    columns are averaged, since edges show in one of them. Of three choices of flattest patches
    (`_flattest`) that counts which is nearest to 0, of the channels which is furthest from it.

    On BSDS300 white and Poisson noise have medians of 0.01 to 0.08 (a single picture with little
    noise, sigma 5 and less, may have 0.25 by its details). Demosaiced noise has 0.5 where bilinear,
    0.2 and more in each picture where edge-aware; noise that JPEG at quality 90 has rounded, 0.2 to
    0.5. Noise far above the steps of JPEG stays white.

    Parameters
    ----------
    image, missing : (height, width, channels)
        Values, and which of them are none: patches with such are left out.

    Returns
    -------
    float
        NaN where fewer than 40 patches are neither cut off nor rounded to a few values.
    """
    side, step = np.eye(PATCH), np.eye(PATCH, k=1)
    neighbours = np.kron(side, step) + np.kron(step, side)  # from each pixel to two beside it
    neighbours *= PATCH**2 / neighbours.sum()
    flatten = _flatten()
    white = np.trace(neighbours @ flatten) / np.trace(flatten)
    found = []
    missing = np.broadcast_to(missing, image.shape)
    for k in range(image.shape[2]):
        noise, brightness, tells, _ = _noise(image[..., k], missing[..., k])
        noise, brightness = noise[tells], brightness[tells]
        chosen = [noise[flattest] for flattest in _flattest((noise**2).sum(axis=1), brightness)]
        chosen = [flat for flat in chosen if (flat**2).any()]
        each = [np.sum(flat * (flat @ neighbours)) / np.sum(flat**2) for flat in chosen]
        found += [min((correlation - white for correlation in each), key=abs)] if each else []
    return float(max(found, key=abs, default=np.nan))


def is_white(image: np.ndarray, missing: np.ndarray | bool = False) -> bool:
    """Whether an image's noise is white, by its finest frequencies, in each of its channels.

    Fringes and gratings are in every patch, and make its noise look correlated to
    `noise_correlation`. They have few frequencies, though, and noise has all: of each coefficient
    of the patches' cosine transforms the lowest fifth is looked at, and of coefficients as fine the
    median. Those of 4.5 to 6.5 half waves a patch have up to 1.06 times what finer ones have, in
    white noise on fringes of 8 pixels and more, and straight ones of 6 (round ones 1.12); on
    BSDS300's pictures, by their details, 1.0 to 1.3 where noise has sigma 25. Noise smoothed by 0.4
    pixels has 1.16 and more, grain of 1 pixel with white noise upon it 1.2, and demosaiced noise
    more.

    Parameters
    ----------
    image, missing : (height, width, channels)
        As for `noise_correlation`.
    """
    from scipy.fft import dctn

    waves = np.hypot(*np.mgrid[:PATCH, :PATCH])
    bands = [(waves >= low) & (waves < high) for low, high in itertools.pairwise(WAVES)]
    missing = np.broadcast_to(missing, image.shape)
    for k in range(image.shape[2]):
        noise, _, tells, _ = _noise(image[..., k], missing[..., k])
        noise = noise[tells].reshape(-1, PATCH, PATCH)
        if len(noise) < MANY:
            return False
        powers = np.quantile(dctn(noise, axes=(1, 2), norm="ortho") ** 2, 0.2, axis=0)
        coarse, between, fine = (np.median(powers[band]) for band in bands)
        if not (fine and 0.8 < coarse / fine < 3 and 0.9 < between / fine < 1.08):
            return False
    return True


def color_correlation(
    image: np.ndarray, unit: float, missing: np.ndarray | bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of two channels' noise, of each pair of channels: from, to.

    Measured where `noise_correlation` is, by each of its choices of patches. Details are in all
    channels, or in one: on BSDS300's and Kodak's pictures independent noise of sigma 10 and more
    has 0.17 at most in 19 of 20, of sigma 5 0.36, by the choice that finds least; noise half of
    which is the same has 0.32 to 0.47. Noise that is the same has 0.94 and more by the choice that
    finds most.

    Parameters
    ----------
    image, missing : (height, width, channels)
        As for `noise_correlation`.
    unit : float
        The width of the values' range.

    Returns
    -------
    (pairs,), (pairs,)
        Of `itertools.combinations`; NaN where noise is too weak to be told from details.
    """
    missing = np.broadcast_to(missing, image.shape)
    channels = [_noise(image[..., k], missing[..., k]) for k in range(image.shape[2])]
    found, pairs = [], itertools.combinations(channels, 2)
    for (a, light, a_tells, a_most), (b, other, b_tells, b_most) in pairs:
        tells = a_tells & b_tells
        a, b, light = a[tells], b[tells], light[tells] + other[tells]
        powers = [(ab**2).sum(axis=1) for ab in (a, b)]
        chosen = _flattest(sum(power / (power.sum() or 1) for power in powers), light)
        strengths = [[power[flattest].mean() for power in powers] for flattest in chosen]
        weakest = VERY_WEAK * unit * np.sqrt(np.trace(_flatten()))
        weaker = [min(np.sqrt(powers) * (a_most, b_most)) for powers in strengths]
        if not chosen or max(weaker) < weakest:  # in linear light it is in the dark
            found.append((np.nan, np.nan))
            continue
        common = [(a[flattest] * b[flattest]).sum(axis=1).mean() for flattest in chosen]
        each = np.array(common) / np.sqrt(np.prod(strengths, axis=1, dtype=np.float64))
        found.append((each.min(), each.max()))
    least, most = np.transpose(found)
    return least, most


def are_counts(image: np.ndarray) -> bool:
    """Whether an image's values are counts of one unit, as of photons, and some none.

    Then their variance is their mean, in units above the lowest value, and each pixel's noise is
    its own, whatever the picture. That is measured where some are none, by differences of
    neighbours, which details change least.
    (Noise of sigma 0.5 to 1.5 that is cut off and rounded to whole values has about as much.)
    """
    values = image - np.float64(image.min())
    if not values.any():
        return False
    values /= values[values > 0].min()
    means, dispersion = [], []
    for channel in np.moveaxis(values, 2, 0):
        blocks = in_blocks(channel[:-1, :-1], PATCH)
        none, mean = np.mean(blocks == 0, axis=(1, 2)), blocks.mean(axis=(1, 2))
        told = (none > 0.05) & (none < 0.9)
        variance = in_blocks(_differences(channel) ** 2, PATCH).mean(axis=(1, 2)) / 4
        means.append(mean[told])
        dispersion.append(variance[told] / mean[told])
    means, dispersion = np.concatenate(means), np.concatenate(dispersion)
    if len(means) < COUNTED or np.quantile(means, 0.1) > FEW_COUNTS:
        return False
    quartiles = np.quantile(dispersion, (0.25, 0.5, 0.75))
    return all(low < q < high for q, (low, high) in zip(quartiles, DISPERSION, strict=True))


def measure_light(image: np.ndarray, span: Range, missing: np.ndarray | bool = False) -> Light:
    """Return a range as one of light (`ranges.Light`), by the noise of an image's values.

    Where that does not grow with light, the offset is large, and the root about a straight line.

    Parameters
    ----------
    image, missing : (height, width, channels)
        As for `noise_correlation`.
    """
    seen = (np.asarray(image, np.float64) - span[0]) / (span[1] - span[0])
    missing = np.broadcast_to(missing, image.shape)
    means, variances = [], []
    for k in range(image.shape[2]):
        noise, _, tells, unit = _noise(seen[..., k], missing[..., k])
        variances.append((noise[tells] ** 2).sum(axis=1) * unit**2 / np.trace(_flatten()))
        means.append(in_blocks(seen[..., k], PATCH).mean(axis=(1, 2))[tells])
    a, b = _line(np.concatenate(means), np.concatenate(variances))
    return Light(span, float(np.clip(b / a if a > 0 else np.inf, *OFFSETS)))


def _line(means: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Fit the variance of noise, a mean + b: return (a, b), (0, 1) where too little tells.

    By the flattest tenth of the patches of each brightness, the least of which count most: details
    add to others.
    """
    if len(means) < MOST_BINS:
        return 0.0, 1.0
    low, high = np.percentile(means, (1, 99))
    ends = low + (high - low) * np.linspace(0, 1, MOST_BINS + 1) ** 2
    x, y = [], []
    for start, end in itertools.pairwise(ends):
        inside = (means >= start) & (means < end)
        if inside.sum() >= FLATTEST[1]:
            order = np.argsort(variances[inside])[: max(10, inside.sum() // 10)]
            x.append(means[inside][order].mean())
            y.append(variances[inside][order].mean())
    if len(x) < 4 or not min(y) > 0:
        return 0.0, 1.0
    x, y = np.array(x), np.array(y)
    terms, fit, above = np.stack((x, np.ones_like(x)), axis=1), y, 0.0
    for _ in range(10):
        weights = 1 / (fit * np.sqrt(1 + (above / 0.3) ** 2))
        (a, b), *_ = np.linalg.lstsq(terms * weights[:, None], y * weights, rcond=None)
        fit = np.maximum(a * x + b, 1e-3 * y.min())
        above = np.maximum(0, np.log(y / fit))
    return float(a), float(b)


@cache
def _flatten() -> np.ndarray:
    """Return the matrix that takes off a patch the quadratic surface that fits it best."""
    y, x = np.mgrid[-1 : 1 : PATCH * 1j, -1 : 1 : PATCH * 1j].reshape(2, -1)
    surfaces, _ = np.linalg.qr(np.stack((x**0, x, y, x * x, x * y, y * y), axis=1))
    return np.eye(PATCH**2) - surfaces @ surfaces.T


def _noise(channel: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return each patch without its surface, how bright it is, whether it tells of noise; a unit.

    The unit is what the values are multiples of: fluxes may be of 1e-26, or 1e20.
    """
    patches = in_blocks(channel, PATCH).reshape(-1, PATCH**2)
    whole = ~in_blocks(missing, PATCH).any(axis=(1, 2))
    patches = np.where(whole[:, None], patches, 0)
    ends = (end(patches, axis=1, keepdims=True) for end in (np.min, np.max))
    at_an_end = np.max([np.mean(patches == end, axis=1) for end in ends], axis=0)
    tells = at_an_end < MOST_AT_AN_END
    told = patches[tells]
    most = max(abs(float(end(told, initial=0))) for end in (np.min, np.max)) or 1.0
    patches = np.divide(patches, most, dtype=np.float64).astype(np.float32)
    brightness = patches.mean(axis=1)
    brightness -= brightness[whole].min(initial=np.inf)
    return patches @ np.float32(_flatten()), brightness, tells, most


def _flattest(powers: np.ndarray, brightness: np.ndarray) -> list[np.ndarray]:
    """Return which patches hold the least, of those with these powers; [] where there are few.

    As they are, and in parts of their brightness, and of its square: white noise is all alike, that
    of light, and speckle, is weakest in the dark, where the flattest patches hold mostly details.
    """
    share, least = FLATTEST
    count = max(least, int(share * len(powers)))
    if len(powers) < count:
        return []
    dark = brightness < DARKEST
    relative = [powers / np.where(dark, 1, brightness) ** n for n in (1, 2)]
    orders = powers, *(np.where(dark, np.inf, power) for power in relative)
    return [np.argsort(order)[:count] for order in orders]


def in_blocks(image: np.ndarray, size: int) -> np.ndarray:
    """Cut an image (height, width) into whole blocks: (blocks, size, size)."""
    rows, columns = (n // size for n in image.shape)
    whole = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return whole.swapaxes(1, 2).reshape(-1, size, size)


def _differences(image: np.ndarray) -> np.ndarray:
    """Return those of four neighbours, which hold little but noise, four times its variance."""
    return np.diff(np.diff(image, axis=0), axis=1)


def noise_variance(image: np.ndarray) -> float:
    """Return the mean variance of an image's noise, and of details as fine.

    The mean, since of few photons, or cut off at black, most parts hold none.
    """
    return float(np.mean(_differences(image) ** 2)) / 4


def shared_noise(first: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two aligned exposures' noise, about 0 where it is independent.

    It is measured where there is least besides, since details have a correlation of 1; NaN where
    the noise is weaker than `WEAK`, or less than some 230x230 pixels have not enough that is
    flat (independent noise in cut-outs of 160x160 has up to 0.54, of 64x64 0.82). On Kodak's and
    BSDS300's pictures independent noise of sigma 8 and more has 0.21 at most, of 6 0.27; photon
    noise of 250 photons at white and more up to 0.7, above 0.3 in one of ten. A picture and what
    JPEG of quality 90 makes of it have 0.42 and more, an exposure and the mean of it and three
    others 0.31 and more, noise half of which is the same 0.28 and more.
    """
    a, b = (_differences(image.mean(2)) for image in (first, other))
    powers = np.stack([in_blocks(ab, PATCH).mean(axis=(1, 2)) for ab in (a * a, b * b, a * b)])
    powers = powers[:, powers[:2].min(axis=0) > 0]  # not where all is black
    share, least = FLATTEST
    count = max(least, int(share * powers.shape[1]))
    if count > MOST_FLAT * powers.shape[1]:
        return np.nan
    flattest = np.argsort(powers[0] + powers[1])[:count]
    of_first, of_other, common = powers[:, flattest].mean(axis=1)
    weak = min(of_first, of_other) / 4 < WEAK**2
    return np.nan if weak else float(common / np.sqrt(of_first * of_other))


def shared_lines(first: np.ndarray, other: np.ndarray) -> float:
    """Return the share of two exposures' noise that whole rows, or columns, have in both.

    A sensor's columns have the same from top to bottom: the medians of their upper halves in one
    exposure are compared with those of their lower halves in the other (rows: left and right), each
    less the columns beside it. What a picture shows is seldom the same in both halves: of 74 of
    Kodak's and BSDS300's pictures, with white noise of sigma 3 to 25, they have a correlation of
    0.30 at most, where columns share noise a third as strong as each pixel's own, of sigma 10 or
    more, 0.66 and more.

    Parameters
    ----------
    first, other : (height, width, channels)
        Aligned exposures; or one, for what it has itself.

    Returns
    -------
    float
        From 0 to 1, in terms of variance; details count as noise. 0 below that correlation.
    """
    images = [middle(image, MIDDLE).mean(2, dtype=np.float64) for image in (first, other)]
    own = min(noise_variance(image) for image in images)
    most = 0.0
    for a, b in (images, [image.T for image in images]):
        half = len(a) // 2
        if not half or a.shape[1] < 3:
            continue
        upper, lower = _profile(a[:half]), _profile(b[half:])
        common, both = np.mean(upper * lower), np.sqrt(np.mean(upper**2) * np.mean(lower**2))
        if both and common > ALIKE_HALVES * both:
            variance = common / 1.5  # of a column's own: the mean of two is taken off it
            most = max(most, float(variance / (variance + own)))
    return most


def _profile(image: np.ndarray) -> np.ndarray:
    """Return the median of each column less those beside it; few that stand out count less."""
    found = np.median(image[:, 1:-1] - (image[:, :-2] + image[:, 2:]) / 2, axis=0)
    most = 4.5 * np.median(np.abs(found))  # three standard deviations
    return found.clip(-most, most)


def periodicity(image: np.ndarray, longest: int = LONGEST) -> float:
    """Return how much of an image repeats after a few pixels, from 0 to 2.

    Along rows or columns its correlation with itself falls, and in patterns rises again: returned
    is by how much at most, up to `longest` pixels off, the median of blocks that are not empty.
    What networks take away of photographs has 0.45 at most (one of 176 has 0.50, and more where
    there is hardly any noise), and most noise 0.2; of checkerboards, dithered and screened
    pictures, and raw files' mosaics 0.47 to 1.3, of text up to 0.8.

    Parameters
    ----------
    image : (height, width)
        What is left of a picture without its large features, of any unit. The largest 0.5% of
        the values count less.

    Returns
    -------
    float
        0 for images smaller than a block, or without a value.
    """
    blocks = in_blocks(image, BLOCK)
    most = float(np.percentile(np.abs(blocks), 99.5)) if len(blocks) else 0.0
    if not 0 < most < np.inf:
        return 0.0
    blocks = (blocks / most).astype(np.float32).clip(-1, 1)
    blocks = blocks[np.ptp(blocks, axis=(1, 2)) > 0]
    if not len(blocks):
        return 0.0
    blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
    power = (blocks**2).mean(axis=(1, 2))
    rises = []
    for turned in (blocks, blocks.swapaxes(1, 2)):
        found = [
            (turned[..., k:] * turned[..., :-k]).mean(axis=(1, 2)) / power
            for k in range(1, longest + 1)
        ]
        least = np.minimum.accumulate(found)
        rises.append((found[1:] - least[:-1]).max(axis=0))
    return float(np.median(np.maximum(*rises)))
