"""Real noisy exposures: find the scenes of a folder, and measure whether they fit the idea.

Noise2Noise needs two pictures of one scene whose noise is independent and whose mean is the
same. Exposures that differ in brightness, or are shifted, teach the network that difference.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from errors import InputError
from images import SUFFIXES, Cache, find_images, open_image, split
from photos import read_photo

MAX_BRIGHTNESS = 0.02  # relative difference of the means from which exposures are warned of
MAX_SHIFT = 0.5  # pixels
PRINTED = 20  # scenes
DARK = 0.3  # of a file's range: exposures that never go above it are warned of
MEASURED_SIZE = 512  # pixels on a side of the part in the middle that the shift is measured on


@dataclass(frozen=True)
class Scene:
    """Two or more exposures of one scene."""

    name: str
    paths: tuple[Path, ...]


def find_scenes(folder: Path) -> list[Scene]:
    """Find the scenes of `folder`, in order of their names.

    Either one sub-folder per scene with two or more exposures in it, or two sub-folders a/
    and b/ with files of the same names.

    Raises
    ------
    InputError
        For a scene with one exposure, a file without its twin, or no scene at all.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name one with a sub-folder per scene")
    subfolders = sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.name.lower(),
    )
    names = [p.name.lower() for p in subfolders]
    if {"a", "b"} < set(names):
        raise InputError(
            f"{folder} holds a/, b/ and {', '.join(sorted(set(names) - {'a', 'b'}))}/: move "
            "what is no scene elsewhere, or give every scene a sub-folder of its own"
        )
    if names == ["a", "b"]:
        names = [{path.name: path for path in find_images(sub)} for sub in subfolders]
        alone = sorted(set(names[0]) ^ set(names[1]))
        if alone:
            raise InputError(
                f"{folder}/a and {folder}/b must hold files of the same names: "
                f"{alone[0]} is in one of them only"
            )
        scenes = [Scene(name, (names[0][name], names[1][name])) for name in names[0]]
    else:
        scenes = []
        for sub in subfolders:
            inner = [path.name for path in sub.iterdir() if path.is_dir()]
            if inner and not any(path.suffix.lower() in SUFFIXES for path in sub.iterdir()):
                raise InputError(
                    f"{sub} holds sub-folders, not exposures: name {sub}, or move them"
                )
            if not any(path.is_file() for path in sub.iterdir()):
                print(f"{sub} is empty and left out")
                continue
            scenes.append(Scene(sub.name, tuple(find_images(sub))))
    for scene in scenes:
        if len(scene.paths) < 2:
            raise InputError(f"{scene.paths[0]} is the only exposure of its scene: add another one")
    if len(scenes) < 2:
        raise InputError(
            f"{folder} holds {len(scenes) or 'no'} scene{'s' * (not scenes)}: at least two are "
            "needed, one to validate with, each a sub-folder of two or more exposures "
            f"({', '.join(SUFFIXES)}), or a/ and b/ with files of the same names"
        )
    return scenes


class Scenes:
    """The exposures of scenes, kept in memory while there is room: `scenes[k][i]`.

    Arrays are uint8 or uint16, (height, width, 3), as stored.

    Raises
    ------
    InputError
        On creation where a scene's exposures differ in size or are smaller than `min_size`.
    """

    def __init__(self, scenes: Sequence[Scene], min_size: int = 1):
        self.scenes = list(scenes)
        self._paths = [path for scene in self.scenes for path in scene.paths]
        self._first = np.cumsum([0, *(len(scene.paths) for scene in self.scenes)])
        self._cached = Cache(self._read)
        for scene in self.scenes:
            sizes = {}
            for path in scene.paths:
                with open_image(path) as image:
                    sizes[path] = image.size
            first, size = next(iter(sizes.items()))
            for path, other in sizes.items():
                if other != size:
                    raise InputError(
                        f"{path} has {other[0]} x {other[1]} pixels and {first} "
                        f"{size[0]} x {size[1]}: exposures of a scene must be of one size"
                    )
            if min(size) < min_size:
                raise InputError(
                    f"{first} has {size[0]} x {size[1]} pixels, fewer than the crop's "
                    f"{min_size}: take a smaller --crop or remove the scene"
                )

    def _read(self, n: int) -> np.ndarray:
        return np.ascontiguousarray(read_photo(self._paths[n]).color)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, k: int) -> "Exposures":
        return Exposures(self._cached, range(self._first[k], self._first[k + 1]))


class Exposures(Sequence):
    """The exposures of one scene, decoded when asked for."""

    def __init__(self, cached: Cache, numbers: range):
        self._cached = cached
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._cached[self._numbers[i]]


def training_scenes(folder: Path, crop_size: int) -> tuple[Scenes, Scenes]:
    """Open a folder's scenes for training and validation, split by scene."""
    training, validation = split(find_scenes(folder))
    return Scenes(training, crop_size), Scenes(validation, crop_size)


def inspect(scenes: Scenes, kind: str = "training", out=print) -> float:
    """Measure the scenes' exposures against each other, and say what was found.

    Prints a line per scene (of many scenes, the first few): the largest relative difference
    in brightness and the largest shift against the first exposure, with a warning for every
    scene past `MAX_BRIGHTNESS` or `MAX_SHIFT`.

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
    floors, highest = [], 0.0
    for number, (scene, exposures) in enumerate(zip(scenes.scenes, scenes, strict=True)):
        digests = {}
        for path in scene.paths:
            twin = digests.setdefault(hashlib.sha256(path.read_bytes()).digest(), path)
            if twin is not path:
                raise InputError(f"{path} and {twin} are the same file: remove one of them")
        first = _to_float(exposures[0])
        brightness = shift = 0.0
        noise = []
        for i in range(1, len(exposures)):
            other = _to_float(exposures[i])
            brightness = max(brightness, abs(float(other.mean() / max(first.mean(), 1e-9)) - 1))
            measured = _shift(first, other)
            if measured is None:
                raise InputError(
                    f"{scene.paths[0]} and {scene.paths[i]} do not show the same scene, or are "
                    "shifted far: align them, or remove one"
                )
            shift = np.fmax(shift, measured) if i > 1 else measured
            noise.append(float(np.mean((first - other) ** 2)) / 2)
        floors.append(float(np.mean(noise)))
        highest = max(highest, float(first.max()))
        if number == PRINTED:
            out(f"... and {len(scenes) - number} more scenes, of which only warnings are printed")
        if number < PRINTED:
            found = f"shift {shift:.1f} pixels" if shift == shift else "too flat to measure a shift"
            out(
                f"{kind} scene {scene.name}: {len(scene.paths)} exposures, brightness within "
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
    if highest < DARK:
        out(
            f"warning: the exposures use no more than {highest:.0%} of the range of their files "
            "(12 bits stored in 16?): multiply them, all alike, to fill it"
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


def _to_float(pixels: np.ndarray) -> np.ndarray:
    return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)


def _shift(first: np.ndarray, other: np.ndarray) -> float | None:
    """How far one exposure is shifted against another, in pixels, from their middles.

    NaN where they are too flat to tell, None where they do not show the same scene: then they
    agree less with each other than the first does with itself, a few pixels further on.
    """
    from skimage.filters import gaussian
    from skimage.registration import phase_cross_correlation

    top, left = (max(0, (n - MEASURED_SIZE) // 2) for n in first.shape[:2])
    part = np.s_[top : top + MEASURED_SIZE, left : left + MEASURED_SIZE]
    # Smoothed, or the noise's own correlation decides; not normalised, for the same reason.
    a, b = (gaussian(picture[part].mean(2), 1.5) for picture in (first, other))
    structure, agreement = _correlation(a[:, 6:], a[:, :-6]), _correlation(a, b)
    if structure < 0.1 and agreement < 0.5:
        return float("nan")
    if structure > 0.2 and agreement < 0.5 * structure:
        return None
    a, b = a - a.mean(), b - b.mean()
    return float(
        np.hypot(*phase_cross_correlation(a, b, upsample_factor=10, normalization=None)[0])
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-12))
