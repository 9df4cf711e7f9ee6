"""The noise filters: pure functions of (image, strength, generator).

An image is float32, channels last, values in [0, 1]. Nothing is clipped or quantised on the way
out, but by the camera where cameras do it: the mean of many corrupted copies must stay the clean
image, since that mean is what a network with the L2 loss learns from noisy targets (Lehtinen et
al. 2018, section 2). The report this project follows cast to 8 bits here, and saw dark pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from noise2noise import camera
from noise2noise.drawn import load_font

FONTS = "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono"
FONT_SIZES = (12, 28)  # pixels, smallest and largest
STRING_LENGTHS = (5, 20)  # letters
TABLED_PHOTONS = 60.0  # the strongest light that Poisson counts are looked up for
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def gaussian(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise: x + N(0, (sigma/255)^2), independent per value.

    Parameters
    ----------
    image : float32 (height, width, channels) in [0, 1]
    sigma : float
        Standard deviation in units of 8-bit grey levels.

    Returns
    -------
    float32 (height, width, channels), any value; its mean is `image`.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(sigma / 255)
    noise += image
    return noise


def poisson(image: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Count photons: Poisson(lambda x) / lambda, independent per value.

    Parameters
    ----------
    image : float32 (height, width, channels) in [0, 1]
    photons : float > 0
        The paper's lambda: the mean count where the image is 1.

    Returns
    -------
    float32 (height, width, channels), 0 or more, unbounded above; its mean is `image`.
    """
    levels = np.rint(image * 255).astype(np.uint8)
    if photons <= TABLED_PHOTONS and np.array_equal(levels / np.float32(255), image):
        counts = _poisson_of_levels(levels, photons, rng)
    else:
        counts = rng.poisson(image * photons)
    return (counts / photons).astype(np.float32)


def _poisson_of_levels(levels: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Return Poisson(photons levels / 255) of uint8 levels, in half the time of NumPy's.

    By inversion: a uniform number is searched, by halves, in its level's row of a table of
    the distribution functions. Counts end beyond six standard deviations.
    """
    size = 1 << int(photons + 6 * photons**0.5 + 6).bit_length()
    log_table = _log_levels_and_factorials(size) + np.float32(np.log(photons)) * np.arange(
        size, dtype=np.float32
    )
    log_table -= np.float32(photons / 255) * np.arange(256, dtype=np.float32)[:, None]
    table = np.cumsum(np.exp(log_table, out=log_table), axis=1, out=log_table)
    table[table == table[:, -1:]] = 1  # which rounding misses: no number is beyond the last count
    table = table.ravel()
    uniform = rng.random(levels.shape, dtype=np.float32)
    first = levels * np.intp(size)
    place = first.copy()
    half = size // 2
    while half:
        place += half * (table.take(place + (half - 1)) <= uniform)
        half //= 2
    return place - first


@cache
def _log_levels_and_factorials(size: int) -> np.ndarray:
    """Return log((level / 255)^k / k!), what does not depend on the light: (256, size)."""
    counts = np.arange(size)
    log_factorials = np.cumsum(np.log(np.maximum(counts, 1)))
    log_levels = np.log(np.maximum(np.arange(256), 1e-30)[:, None] / 255)  # no count at level 0
    return (counts * log_levels - log_factorials).astype(np.float32)


def bernoulli_mask(shape: tuple[int, ...], p: float, rng: np.random.Generator) -> np.ndarray:
    """Return which pixels survive: float32 (height, width, 1), 1 with probability 1 - p."""
    return (rng.random((*shape[:2], 1), dtype=np.float32) >= p).astype(np.float32)


def bernoulli(image: np.ndarray, p: float, rng: np.random.Generator) -> np.ndarray:
    """Drop pixels: x m with m ~ Bernoulli(1 - p), one draw per pixel for all channels.

    The result is not zero-mean (its mean is (1 - p) x). Learning from such targets needs
    their masks, which `bernoulli_mask` gives from a generator in the same state.

    Parameters
    ----------
    image : float32 (height, width, channels) in [0, 1]
    p : float in [0, 1]
        Probability that a pixel is lost.

    Returns
    -------
    float32 (height, width, channels) in [0, 1]
    """
    return image * bernoulli_mask(image.shape, p, rng)


def text(image: np.ndarray, p: float, rng: np.random.Generator) -> np.ndarray:
    """Write random strings over the image until a share p of its pixels is touched.

    Strings, fonts, sizes, places and colours are drawn anew for each string; they may hang
    over every edge, so that corners are covered like the middle. The last string goes past
    p by what it covers. Not zero-mean: L2 learns the mean of all colours, L1 the median.

    Parameters
    ----------
    image : float32 (height, width, 3) in [0, 1]
    p : float in [0, 1)
        Share of the pixels with any text on them.

    Returns
    -------
    float32 (height, width, 3) in [0, 1]
    """
    height, width = image.shape[:2]
    result = image.copy()
    covered = np.zeros((height, width), bool)
    missing = p * covered.size
    while missing > 0:
        glyphs = _string(rng)
        # Anywhere it still touches the picture.
        top = int(rng.integers(1 - glyphs.shape[0], height))
        left = int(rng.integers(1 - glyphs.shape[1], width))
        color = rng.random(3, dtype=np.float32)
        alpha = glyphs[max(-top, 0) : height - top, max(-left, 0) : width - left]
        here = np.s_[max(top, 0) : top + glyphs.shape[0], max(left, 0) : left + glyphs.shape[1]]
        # Only the string's own box is counted: the whole mask never is.
        touched = alpha > 0
        missing -= np.count_nonzero(touched & ~covered[here])
        covered[here] |= touched
        result[here] += alpha[..., None] * (color - result[here])
    return result


def _string(rng: np.random.Generator) -> np.ndarray:
    """Return a random string's coverage in [0, 1], float32 (height, width)."""
    font = FONTS[rng.integers(len(FONTS))]
    letters = _letters(font, int(rng.integers(*FONT_SIZES, endpoint=True)))
    length = rng.integers(*STRING_LENGTHS, endpoint=True)
    chosen = rng.integers(len(letters), size=length)
    return np.concatenate([letters[i] for i in chosen], axis=1)


@cache
def _letters(font: str, size: int) -> tuple[np.ndarray, ...]:
    """Render each of `LETTERS` once: float32 coverage, all of one height."""
    typeface = load_font(font, size)
    height = sum(typeface.getmetrics())
    rendered = []
    for letter in LETTERS:
        canvas = Image.new("L", (round(typeface.getlength(letter)), height))
        ImageDraw.Draw(canvas).text((0, 0), letter, fill=255, font=typeface)
        rendered.append(np.asarray(canvas, np.float32) / 255)
    return tuple(rendered)


def impulse(image: np.ndarray, p: float, rng: np.random.Generator) -> np.ndarray:
    """Replace pixels by random colours: random-valued impulse noise (the paper, section 3.4).

    Neither the mean nor the median of such targets is the clean pixel, but their mode is:
    it takes the annealed L0 loss.

    Parameters
    ----------
    image : float32 (height, width, channels) in [0, 1]
    p : float in [0, 1]
        Probability that a pixel is replaced, all channels at once, by U([0, 1]^3).

    Returns
    -------
    float32 (height, width, channels) in [0, 1]
    """
    replaced = rng.random((*image.shape[:2], 1), dtype=np.float32) < p
    return np.where(replaced, rng.random(image.shape, dtype=np.float32), image)


@dataclass(frozen=True)
class Filter:
    """A filter with its strengths (the paper's, section 3, and NVIDIA's code for it)."""

    name: str
    symbol: str  # of its strength
    corrupt: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    training: tuple[float, float] | None  # strengths are drawn from, for input and target each
    test: float
    weak: float  # this and the next are shown in a sheet of samples
    strong: float
    # The pixels on which a corrupted target says anything at all, 1, the others 0: training
    # corrupts by this alone, x times the mask.
    mask: Callable[[tuple[int, ...], float, np.random.Generator], np.ndarray] | None = None
    loss: str = "l2"  # where none is asked for: the report's
    zero_mean: bool = False  # a picture's local means stay as they are
    share: bool = False  # the strength is a share of the pixels, below 1
    needs_color: bool = False
    grey_too: bool = False  # some of its pictures are grey
    independent: bool = False  # the noise of a pixel says nothing of that of those beside it
    oriented: bool = False  # the noise looks otherwise when it is turned
    # Draws a camera for each pair of crops, given a generator and whether it is grey.
    draw_camera: Callable[[np.random.Generator, bool], camera.Camera] | None = None


FILTERS = {
    filter.name: filter
    for filter in (
        # Name, symbol, function, strengths: training's, the test's, a weak and a strong one.
        Filter("gaussian", "σ", gaussian, (0, 50), 25, 5, 50, zero_mean=True, independent=True),
        # Kept off 0: below one photon a target's variance is above 1, and a single such
        # crop would outweigh the rest of its batch in the L2 loss.
        Filter("poisson", "λ", poisson, (1, 50), 30, 50, 5, zero_mean=True, independent=True),
        Filter(
            *("bernoulli", "p", bernoulli, (0, 0.95), 0.5, 0.1, 0.9),
            mask=bernoulli_mask,
            share=True,
            independent=True,
        ),
        Filter(
            *("text", "p", text, (0, 0.5), 0.25, 0.05, 0.5),
            share=True,
            needs_color=True,
            oriented=True,
        ),
        Filter(
            *("camera", "a", camera.corrupt, None, 5e-3, 5e-4, 2e-2),
            zero_mean=True,
            grey_too=True,
            draw_camera=camera.draw_camera,
        ),
        Filter(
            *("sensor", "a", camera.count, None, 1e-2, 1e-3, 0.1),
            zero_mean=True,
            independent=True,
            draw_camera=camera.draw_sensor,
        ),
        Filter(
            *("impulse", "p", impulse, (0, 0.95), 0.7, 0.1, 0.9),
            loss="l0",
            share=True,
            independent=True,
        ),
    )
}
