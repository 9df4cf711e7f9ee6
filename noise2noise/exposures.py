"""Real noisy exposures, measured: whether they fit the idea.

Noise2Noise needs two pictures of one scene whose noise is independent and whose mean is the
same. Exposures that differ in brightness, or are shifted, teach the network that difference.
"""

import hashlib

import numpy as np

from noise2noise.datasets import Scenes
from noise2noise.errors import InputError
from noise2noise.ranges import to_network

MAX_BRIGHTNESS = 0.02  # relative difference of the means from which exposures are warned of
MAX_SHIFT = 0.5  # pixels from which exposures are warned of
FAR = 10.0  # pixels from which they are refused
MAX_CLIPPED = 0.01  # share of an exposure's values at one end of what its file can hold
PRINTED = 20  # scenes
MEASURED_SIZE = 512  # pixels on a side of the part in the middle that the shift is measured on
DETAILS = 1.5, 8.0  # pixels: a shift is measured on what is larger than noise, smaller than shading


def check_exposures(scenes: Scenes, kind: str = "training", out=print) -> float:
    """Measure the scenes' exposures against each other, and say what was found.

    Prints a line per scene (of many scenes, the first few): the largest relative difference
    in brightness and the largest shift against the first exposure, with a warning for every
    scene past `MAX_BRIGHTNESS`, `MAX_SHIFT` or `MAX_CLIPPED`.

    Parameters
    ----------
    kind : str
        What the scenes are for, said with each.

    Returns
    -------
    float
        The mean squared error that perfect restorations would still have against such
        targets: their noise, half the mean squared difference of two exposures.

    Raises
    ------
    InputError
        For two exposures that are the same file, which would teach to keep the noise, or
        that do not show the same scene.
    """
    floors = []
    for number, (scene, exposures) in enumerate(zip(scenes.scenes, scenes, strict=True)):
        digests = {}
        for exposure, image in zip(scene.exposures, exposures, strict=True):
            twin = digests.setdefault(hashlib.sha256(image.tobytes()).digest(), exposure)
            if twin is not exposure:
                raise InputError(f"{exposure} and {twin} are the same picture: remove one of them")
        brightness = shift = 0.0
        clipped = max(_clipped(exposure) for exposure in exposures)
        noise = []
        for i in range(1, len(exposures)):
            to = i - 1 if scenes.neighbours else 0  # what it is paired with in training
            first = to_network(exposures[to], scenes.span)
            other = to_network(exposures[i], scenes.span)
            brightness = max(brightness, abs(float(other.mean() / max(first.mean(), 1e-9)) - 1))
            measured = _shift(first, other)
            if measured is None or measured > FAR:
                raise InputError(
                    f"{scene.exposures[to]} and {scene.exposures[i]} do not show the same scene, "
                    "or are shifted far: align them, or remove one"
                )
            shift = np.fmax(shift, measured) if i > 1 else measured
            noise.append(float(np.mean((first - other) ** 2)) / 2)
        floors.append(float(np.mean(noise)))
        if number == PRINTED:
            out(f"... and {len(scenes) - number} more scenes, of which only warnings are printed")
        if number < PRINTED:
            found = f"shift {shift:.1f} pixels" if shift == shift else "too flat to measure a shift"
            out(
                f"{kind} scene {scene.name}: {len(scene.exposures)} exposures, brightness within "
                f"{brightness:.1%}, {found}, noise {255 * floors[-1] ** 0.5:.1f}/255"
            )
        if brightness > MAX_BRIGHTNESS:
            out(
                f"warning: the exposures of {scene.name} differ in brightness by more than "
                f"{MAX_BRIGHTNESS:.0%}: the network will learn the mean of both"
            )
        if shift > MAX_SHIFT:
            out(
                f"warning: the exposures of {scene.name} are shifted by more than "
                f"{MAX_SHIFT:g} pixels: the network will learn to blur; align them"
            )
        if clipped > MAX_CLIPPED:
            out(
                f"warning: {clipped:.0%} of the values of an exposure of {scene.name} are at the "
                "end of its range: noise that is cut off has another mean, which the network will "
                "learn; expose less, or keep the black level"
            )
    return float(np.mean(floors))


def warn_of_jpeg(scenes: Scenes) -> None:
    """Say why JPEG is second best, where there is any."""
    jpegs = [p for s in scenes.scenes for p in s.paths if p.suffix.lower() in (".jpg", ".jpeg")]
    if jpegs:
        print(
            f"{jpegs[0]} is a JPEG: its compression smears the noise over blocks of 8x8 pixels, so "
            "that it is not independent; raw files saved as 16-bit TIFF or PNG restore better"
        )


def _clipped(image: np.ndarray) -> float:
    """Return the larger of the shares of values at black and at white.

    In files of more than 8 bits these may be the image's own ends: 12 bits end at 4095.
    """
    deep = image.dtype.itemsize > 1
    low, high = (image.min(), image.max()) if deep else (0, np.iinfo(image.dtype).max)
    return max(float(np.mean(image == end)) for end in (low, high)) if low < high else 0.0


def _shift(first: np.ndarray, other: np.ndarray) -> float | None:
    """How far one exposure is shifted against another, in pixels, from their middles.

    NaN where they hold no details to tell by, None where they hold different ones.
    """
    from skimage.filters import gaussian
    from skimage.registration import phase_cross_correlation

    top, left = (max(0, (n - MEASURED_SIZE) // 2) for n in first.shape[:2])
    part = np.s_[top : top + MEASURED_SIZE, left : left + MEASURED_SIZE]
    first, other = first[part].mean(2), other[part].mean(2)
    # Smoothed, or the noise's own correlation decides; not normalised, for the same reason. Less
    # its surroundings, or a gradient does, which looks alike wherever it is.
    smooth, wide = DETAILS
    a, b = (gaussian(image, smooth) - gaussian(image, wide) for image in (first, other))
    shift, _, _ = phase_cross_correlation(a, b, upsample_factor=10, normalization=None)
    agreement = _correlation(a, np.roll(b, np.rint(shift).astype(int), (0, 1)))
    # Smoothing leaves noise this share of its variance, and so many independent values: of them
    # the best of all shifts does not agree as well.
    share = 1 / (4 * np.pi * smooth**2)
    if agreement > 6 / np.sqrt(a.size * share):
        return float(np.hypot(*shift))
    # Differences of four neighbours hold little but noise: twice its standard deviation.
    noise = np.median(np.abs(np.diff(np.diff(first, axis=0), axis=1))) / 0.6745 / 2
    return None if a.var() > 30 * noise**2 * share else float("nan")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-12))
