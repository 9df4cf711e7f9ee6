"""Real noisy exposures, aligned and measured: whether they fit the idea.

Noise2Noise needs two pictures of one scene whose noise is independent and whose mean is the
same. Exposures that differ in brightness, or are shifted, teach the network that difference. So
does noise that pixels side by side share, where one exposure makes both pictures.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noise2noise.datasets import CAPTURED
from noise2noise.errors import InputError
from noise2noise.images import middle
from noise2noise.noise import (
    MAX_CORRELATION,
    PATCH,
    are_counts,
    in_blocks,
    noise_correlation,
    noise_variance,
    periodicity,
    shared_lines,
    shared_noise,
)
from noise2noise.ranges import Range, to_network, words
from noise2noise.scenes import Scene, Scenes, training_exposures, training_scenes

MAX_BRIGHTNESS = 0.02  # relative difference of the means from which exposures are warned of
FAR_BRIGHTNESS = 0.25  # difference of the means, of the range, from which they are refused
MAX_MOVED = 1.5  # pixels from which parts of aligned exposures are warned of
FAR = 64.0  # pixels of a shift from which exposures are refused
ALIKE = 0.5  # correlation of two exposures' details, but for noise, from which they show one scene
MAX_CLIPPED = 0.01  # share of an exposure's values at one end of what its file can hold
PRINTED = 20  # scenes
MEASURED_SIZE = 512  # pixels on a side of the part in the middle that the shift is measured on
TILES, TILE_SIZE = 5, 96  # parts along each side, and their pixels, that may have moved
MAX_DIFFERENCE = 9.0  # standard errors of a block's mean, from which something moved
COMPARED = 8  # of a scene's exposures, at most, in which movement and shared noise are looked for
DETAILS = 1.5, 8.0  # pixels: a shift is measured on what is larger than noise, smaller than shading
CORRELATION_PICTURES = 16
MAX_PERIODICITY = 0.1  # from which exposures have a raw file's mosaic; photographs have none
MENTIONED = 0.005  # share of an exposure's values that are none from which it is said
MAX_SHARED = 0.3  # correlation of two exposures' noise from which it is warned of
MAX_LINES = 0.05  # share of noise that whole rows or columns have, from which it is warned of
LINES = "noise of whole rows or columns, as of a sensor (or show fine lines from side to side)"


def open_exposures(
    kind: str, path: Path, crop_size: int, span: Range | None, neighbours: int | None
) -> tuple[Scenes, Scenes, float | None]:
    """Open real exposures for training and validation, and say what was found of them.

    `kind` is `CAPTURED`, two or more of each scene, or `SINGLE`, one of each. The rest is what
    `training_scenes` takes. With them comes the noise floor of `align_exposures`, None of single
    ones.
    """
    if kind == CAPTURED:
        training, validation = training_scenes(path, crop_size, span, neighbours)
    else:  # crops are sub-sampled from twice their size
        training, validation = training_exposures(path, 2 * crop_size, span)
    for note in {**training.notes, **validation.notes}:
        files = {path for part in (training, validation) for path in part.notes.get(note, ())}
        print(f"{min(files)}: {note}{f' ({len(files)} such files)' * (len(files) > 1)}")
    if training.span or training.hint:
        span = words(training.span) if training.span else "of the values' type"
        print(f"range {span}, which the network sees as 0 to 1{training.hint}")
    if training.most_missing[0] > MENTIONED:
        share, name = training.most_missing
        print(
            f"{share:.0%} of the values of {name} stand for none (no numbers, no data, "
            "transparent, or one value far from all others) and are filled in"
        )
    if kind == CAPTURED:
        align_exposures(training)
        return training, validation, align_exposures(validation, "validation")
    check_independence(training)
    return training, validation, None


@dataclass
class Found:
    """What was found of a scene's exposures, each against its partner."""

    floor: float  # their noise: half the mean squared difference
    brightness: float  # the largest relative difference of two means
    farthest: float  # pixels of the largest shift; NaN where all is too flat to measure
    left: float | None  # pixels of it that alignment leaves, None where there was none
    moved: bool  # parts, or it turns
    shared: float  # the largest correlation of two exposures' noise
    lines: float  # the largest share of two exposures' noise that rows or columns have in both
    clipped: float  # the largest share of an exposure's values at an end
    mixed: bool  # a mosaic's colours, by the alignment


def align_exposures(scenes: Scenes, purpose: str = "training") -> float:
    """Align the exposures of each scene, measure them against each other, say what was found.

    They are shifted by whole pixels and cut to what they share: to interpolate would make the
    noise of pixels side by side dependent. Prints a line per scene (of many scenes, the first few):
    the largest relative difference in brightness, and the largest shift against the first
    exposure and what is left of it, with a warning for every scene past `MAX_BRIGHTNESS`,
    `MAX_MOVED`, `MAX_SHARED`, `MAX_LINES` or `MAX_CLIPPED`.

    Parameters
    ----------
    purpose : str
        What the scenes are for, said with each.

    Returns
    -------
    float
        The mean squared error that perfect restorations would still have against such
        targets: their noise, half the mean squared difference of two exposures.

    Raises
    ------
    InputError
        For two exposures that are the same file, which would teach to keep the noise, that
        do not show the same scene, or that share less than a crop.
    """
    floors = []
    for number, scene in enumerate(scenes.scenes):
        found = _align(scenes, number)
        floors.append(found.floor)
        left = found.farthest if found.left is None else found.left
        scenes.apart = float(np.fmax(scenes.apart, left))
        if number == PRINTED:
            print(f"... and {len(scenes) - number} more scenes, of which only warnings are printed")
        if number < PRINTED:
            shift = "too flat to measure a shift"
            if found.farthest == found.farthest:
                shift = f"shift {found.farthest:.1f} pixels"
                shift += "" if found.left is None else f", aligned but for {found.left:.1f}"
            print(
                f"{purpose} scene {scene.name}: {len(scene.exposures)} exposures, brightness "
                f"within {found.brightness:.1%}, {shift}, noise {255 * found.floor**0.5:.1f}/255"
            )
        _warn(scene.name, found, scenes.way_out(number))
    return float(np.mean(floors))


def _align(scenes: Scenes, number: int) -> Found:
    """Align the exposures of a scene, and measure them; `InputError` as `align_exposures`."""
    scene = scenes.scenes[number]
    _refuse_twins(scene, scenes[number])
    count = len(scene.exposures)
    # What each is paired with in training: the one before it, or any, so the first.
    partners = [max(0, i - 1) if scenes.neighbours else 0 for i in range(count)]
    shifts, farthest = _shifts(scenes, number, partners)
    whole, left = np.rint(shifts).astype(int), None
    mosaic = _alternation(scenes[number][0]) > MAX_PERIODICITY
    if whole.any():
        scenes.align(number, whole)
        left = float(np.hypot(*np.ptp(shifts - whole, axis=0)))
    exposures = scenes[number]
    clipped = max(_clipped(exposure) for exposure in exposures)
    brightness, shared, lines, moved, noise = 0.0, 0.0, 0.0, False, []
    step = -(-(count - 1) // COMPARED)
    for i in range(1, count):
        first, other = (to_network(exposures[k], scenes.span) for k in (partners[i], i))
        means = float(first.mean()), float(other.mean())
        brightness = max(brightness, abs(means[1] - means[0]) / max(abs(means[0]), 0.01))
        if abs(means[1] - means[0]) > FAR_BRIGHTNESS:
            raise InputError(
                f"{scene.exposures[i]} is much darker or brighter than "
                f"{scene.exposures[partners[i]]}: "
                "exposures of a scene are of one kind and depth, and no slices of a volume"
                f"{scenes.way_out(number, i - partners[i])}"
            )
        if i % step == 0:
            moved = moved or _moves_inside(first, other)
            shared = np.fmax(shared, shared_noise(first, other))
            lines = lines if mosaic else max(lines, shared_lines(first, other))
        noise.append(float(np.mean((first - other) ** 2)) / 2)
    return Found(
        floor=float(np.mean(noise)),
        brightness=brightness,
        farthest=farthest,
        left=left,
        moved=moved,
        shared=shared,
        lines=lines,
        clipped=clipped,
        mixed=mosaic and (whole % 2).any(),
    )


def _warn(name: str, found: Found, way_out: str) -> None:
    """Warn of what exposures of a scene would teach a network."""
    if found.brightness > MAX_BRIGHTNESS:
        print(
            f"warning: the exposures of {name} differ in brightness by more than "
            f"{MAX_BRIGHTNESS:.0%}: the network will learn the mean of both. Scale them to one "
            "brightness first"
        )
    if found.moved:
        print(
            f"warning: parts of {name} move, or it turns, between its exposures: the "
            f"network will learn to blur{way_out}"
        )
    if found.shared > MAX_SHARED:
        print(
            f"warning: exposures of {name} share noise (a correlation of {found.shared:.2f}), "
            "as two files of one shot do, a mean and what it was made of, or all by a "
            "sensor's fixed pattern: the network will keep it. (Where there is little noise, "
            "fine details may look so)"
        )
    if found.lines > MAX_LINES:
        print(
            f"warning: exposures of {name} share {LINES}: the network will keep it. Take the "
            "pattern off, as a mean of exposures without light shows it, not the black level"
        )
    if found.mixed:
        print(
            f"warning: the exposures of {name} have a raw file's mosaic, and alignment brings its "
            "colours together: demosaic them first"
        )
    _warn_of_clipping(f"an exposure of {name}", found.clipped)


def _refuse_twins(scene: Scene, images: Sequence[np.ndarray]) -> None:
    """Raise `InputError` where two exposures are the same."""
    digests = {}
    for exposure, image in zip(scene.exposures, images, strict=True):
        twin = digests.setdefault(hashlib.sha256(image.tobytes()).digest(), exposure)
        if twin is not exposure:
            raise InputError(f"{exposure} and {twin} are the same picture: remove one of them")


def _shifts(scenes: Scenes, number: int, partners: list[int]) -> tuple[np.ndarray, float]:
    """Measure each exposure of a scene against its partner.

    Returns (exposures, 2), pixels down and to the right of the first, and the largest distance
    from a partner: NaN where all is too flat to measure. Raises `InputError` for other scenes.
    """
    exposures = scenes.scenes[number].exposures
    shifts, farthest = np.zeros((len(exposures), 2)), np.nan
    for i in range(1, len(exposures)):
        pair = (to_network(scenes[number][k], scenes.span) for k in (partners[i], i))
        shift = _middle_shift(*pair)
        if shift is None or np.hypot(*shift) > FAR:
            raise InputError(
                f"{exposures[partners[i]]} and {exposures[i]} do not show the same scene, or are "
                f"shifted by more than {FAR:g} pixels: align them, or remove one"
                f"{scenes.way_out(number, i - partners[i])}"
            )
        farthest = np.fmax(farthest, np.hypot(*shift))
        shifts[i] = shifts[partners[i]] + np.nan_to_num(shift)
    return shifts, farthest


def _warn_of_clipping(name: str, clipped: float) -> None:
    if clipped > MAX_CLIPPED:
        print(
            f"warning: {clipped:.0%} of the values of {name} are at the end of its range: noise "
            "that is cut off has another mean, which the network will learn; expose less, or keep "
            "the black level"
        )


def check_independence(scenes: Scenes) -> None:
    """Say whether the noise of neighbouring pixels is independent, in up to 16 single exposures.

    It is not in photos from a camera, which were demosaiced, nor in most JPEG files: a pixel then
    tells of its neighbour's noise, and the network learns to keep what it can tell.
    """
    measured, clipped, mosaics, lines = [], (0.0, ""), [], []
    for k in range(0, len(scenes), -(-len(scenes) // CORRELATION_PICTURES)):
        (image,) = scenes[k]
        clipped = max(clipped, (_clipped(image), scenes.scenes[k].name))
        measured.append(noise_correlation(*scenes.decoded(k)))
        mosaics.append(_alternation(image))
        lines.append(shared_lines(image, image))
    if np.median(mosaics) > MAX_PERIODICITY:
        print(
            "warning: values alternate from pixel to pixel, as in the mosaic of a raw file: "
            "demosaic it, or write its four colours, every second pixel, as pictures of their own"
        )
    elif np.median(lines) > MAX_LINES:
        print(
            f"warning: the pictures hold {LINES}: neighbouring pixels share it, and the network "
            "will keep it"
        )
    _warn_of_clipping(clipped[1], clipped[0])
    measured = [value for value in measured if value == value]
    if not measured and not any(np.ptp(scenes[k][0]) for k in range(len(scenes))):
        raise InputError(f"{scenes.scenes[0].name} has one value only: there is no noise to learn")
    if not measured:
        print("the pictures hold no noise whose correlation could be measured")
        return
    correlation = float(np.median(measured))
    print(
        f"the noise of neighbouring pixels has a correlation of {correlation:.2f}, median of "
        f"{len(measured)} pictures"
    )
    if correlation > MAX_CORRELATION:
        print(
            "warning: that is noise which neighbouring pixels share, as in demosaiced or JPEG "
            "photos, and the network will keep much of it; what restores photos from a camera is: "
            "python infer.py --restore PICTURES --output DIR"
        )


def _alternation(image: np.ndarray) -> float:
    """Return how much an image repeats after two pixels, as a sensor's mosaic of colours does."""
    from scipy.ndimage import uniform_filter

    grey = image.mean(axis=2, dtype=np.float32)
    return periodicity(grey - uniform_filter(grey, PATCH, mode="nearest"), longest=2)


def _clipped(image: np.ndarray) -> float:
    """Return the larger of the shares of values at black and at white.

    In files of more than 8 bits these may be the image's own ends: 12 bits end at 4095. There
    the lowest value counts where it is more frequent than the next one. That no photon came is no
    fault: where values are counted, their variance is their mean.
    """
    deep = image.dtype != np.uint8
    low, high = (image.min(), image.max()) if deep else (0, 255)
    if low == high:
        return 0.0
    black, white = (float(np.mean(image == end)) for end in (low, high))
    if deep and black > MAX_CLIPPED and black <= np.mean(image == image[image > low].min()):
        black = 0.0
    if black > MAX_CLIPPED and are_counts(image):
        black = 0.0
    return max(black, white)


def _middle_shift(first: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """Return `_shift` of the middles of two exposures, measured again where it is large."""
    shift = _shift(*(middle(image, MEASURED_SIZE) for image in (first, other)))
    if shift is None or not np.hypot(*shift) > 0.5:  # or NaN
        return shift
    # The borders, which show something else, drew it towards 0.
    shared = _overlap(first, other, shift)
    left = _shift(*(middle(image, MEASURED_SIZE) for image in shared))
    return shift if left is None or np.isnan(left).any() else np.rint(shift) + left


def _overlap(a: np.ndarray, b: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut two images to what they share where `b` is rolled by `shift`, to whole pixels."""
    rows, columns = np.rint(shift).astype(int)
    height, width = a.shape[:2]
    a = a[max(0, rows) : height + rows, max(0, columns) : width + columns]
    b = b[max(0, -rows) : height - rows, max(0, -columns) : width - columns]
    return a, b


def _moves_inside(first: np.ndarray, other: np.ndarray) -> bool:
    """Whether some part of two aligned exposures is shifted against the other's, or differs."""
    height, width = first.shape[:2]
    for top in np.linspace(0, max(0, height - TILE_SIZE), TILES).astype(int):
        for left in np.linspace(0, max(0, width - TILE_SIZE), TILES).astype(int):
            part = np.s_[top : top + TILE_SIZE, left : left + TILE_SIZE]
            shift = _shift(first[part], other[part])
            if shift is None or np.hypot(*shift) > MAX_MOVED:
                return True
    return _differs(first, other) > MAX_DIFFERENCE


def _differs(first: np.ndarray, other: np.ndarray) -> float:
    """Return by how many standard errors two aligned exposures differ, in the worst of blocks.

    That shows what moves before much else that stays. A block differs by the mean of the middle
    half of its differences, which single pixels and thin edges don't change; what a shift by
    `MAX_MOVED` or 5% more light would explain is taken off. Still scenes have 6.4 at most: 22 of
    Kodak's and BSDS300's pictures, shifted by up to 0.9 pixels, with white noise (3.8 at most),
    noise smoothed by 1.6 pixels, and photon noise.
    """
    from scipy.ndimage import gaussian_filter
    from scipy.stats import trim_mean

    step = max(1, max(first.shape) // 1024)
    a, b = (image[::step, ::step].mean(2, dtype=np.float64) for image in (first, other))
    b = b * (a.mean() / b.mean()) if b.mean() > 0 else b
    light = gaussian_filter((a + b) / 2, DETAILS[0])
    slope = np.hypot(*np.gradient(light))
    blocks = np.stack([in_blocks(v, PATCH) for v in (a - b, slope, light)])
    blocks = blocks.reshape(3, -1, PATCH**2)
    blocks = blocks[:, np.ptp(blocks[0], axis=1) > 0]  # not where all is black
    if not blocks.size:
        return 0.0
    means = np.abs(trim_mean(blocks[0], 0.25, axis=1))
    errors = 1.1 * blocks[0].std(axis=1) / PATCH  # of Gaussian noise
    errors *= max(1, np.median(means / errors) / 0.67)  # more where pixels share noise
    slope, light = np.abs(blocks[1:].mean(axis=2))
    return float(((means - MAX_MOVED * slope - 0.05 * light) / errors).max())


def _shift(first: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """How many (rows, columns) one image is to be rolled by to lie on the other.

    NaN where they hold no details to tell by, None where they hold different ones.
    """
    from skimage.filters import gaussian
    from skimage.registration import phase_cross_correlation

    first, other = first.mean(2), other.mean(2)
    flat = [not np.ptp(image) for image in (first, other)]
    if all(flat):
        return np.full(2, np.nan)
    # Smoothed, or the noise's own correlation decides; not normalised, for the same reason. Less
    # its surroundings, or a gradient does, which looks alike wherever it is.
    smooth, wide = DETAILS
    a, b = (gaussian(image, smooth) - gaussian(image, wide) for image in (first, other))
    shift = np.zeros(2)
    if not any(flat):  # or a shutter failed, and it would warn
        shift, _, _ = phase_cross_correlation(a, b, upsample_factor=10, normalization=None)
    agreement, count = _agreement(a, b, shift)
    # Smoothing leaves noise this share of its variance, and so many independent values: of them
    # the best of all shifts does not agree as well.
    share = 1 / (4 * np.pi * smooth**2)
    chance = 1 / np.sqrt(count * share)
    noise = max(noise_variance(first), noise_variance(other))
    details = 1 - noise * share / max(a.var(), b.var(), 1e-12)
    if agreement < min(6 * chance, 0.9):
        # Noise that neighbouring pixels share is left by smoothing more than white noise is.
        other_scene = details > 29 / 30 or _differ(first, other, 30 * noise)
        return None if other_scene else np.full(2, np.nan)
    if agreement < ALIKE * details:
        return None
    # A straight edge looks alike wherever it is along itself: then noise decides. Of shifts that
    # agree as well, but for chance, the least is taken.
    noisy = 1 - max(0, details) ** 2
    for less in (shift * 0, shift * (1, 0), shift * (0, 1)):
        apart = 2 - 2 * np.exp(-np.sum((shift - less) ** 2) / (4 * smooth**2))
        if _agreement(a, b, less)[0] > agreement - 2 * chance * np.sqrt(apart * noisy):
            return less if np.rint(shift - less).any() else shift
    return shift


def _differ(first: np.ndarray, other: np.ndarray, noise: float) -> bool:
    """Whether what is large in two images is another thing, and more than noise of a variance."""
    from skimage.filters import gaussian

    broad = DETAILS[1]
    a, b = (gaussian(image, broad) for image in (first, other))
    left = noise / (4 * np.pi * broad**2)
    return max(a.var(), b.var()) > left and _agreement(a, b, np.zeros(2))[0] < ALIKE


def _agreement(a: np.ndarray, b: np.ndarray, shift: np.ndarray) -> tuple[float, int]:
    """Return the correlation of what two images share, one of them shifted, and its pixels."""
    a, b = (part - part.mean() for part in _overlap(a, b, shift))
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-12)), a.size
