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
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if [p.name for p in subfolders] == ["a", "b"]:
        names = [{path.name: path for path in find_images(sub)} for sub in subfolders]
        alone = sorted(set(names[0]) ^ set(names[1]))
        if alone:
            raise InputError(
                f"{folder}/a and {folder}/b must hold files of the same names: "
                f"{alone[0]} is in one of them only"
            )
        scenes = [Scene(name, (names[0][name], names[1][name])) for name in names[0]]
    else:
        scenes = [Scene(sub.name, tuple(find_images(sub))) for sub in subfolders]
    for scene in scenes:
        if len(scene.paths) < 2:
            raise InputError(f"{scene.paths[0]} is the only exposure of its scene: add another one")
    if len(scenes) < 2:
        raise InputError(
            f"{folder} holds {len(scenes) or 'no'} scene{'s' * (not scenes)}: at least two are "
            "needed, one to validate with, each a sub-folder of two or more exposures "
            f"({', '.join(SUFFIXES)})"
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
        paths = [path for scene in self.scenes for path in scene.paths]
        self._first = np.cumsum([0, *(len(scene.paths) for scene in self.scenes)])
        self._cached = Cache(lambda n: np.ascontiguousarray(read_photo(paths[n]).color))
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


def inspect(scenes: Scenes, out=print) -> float:
    """Measure the scenes' exposures against each other, and say what was found.

    Prints a line per scene (of many scenes, the first few): the largest relative difference
    in brightness and the largest shift against the first exposure, with a warning for every
    scene past `MAX_BRIGHTNESS` or `MAX_SHIFT`.

    Returns
    -------
    float
        The mean squared error that perfect restorations would still have against such
        targets: their noise, half the mean squared difference of two exposures.

    Raises
    ------
    InputError
        For two exposures that are the same file, which would teach to keep the noise.
    """
    floors = []
    jpegs = [p for s in scenes.scenes for p in s.paths if p.suffix.lower() in (".jpg", ".jpeg")]
    if jpegs:
        out(
            f"{jpegs[0]} is a JPEG: its compression smears the noise over blocks of 8x8 pixels and "
            "rounds it, alike in all exposures, so it is not independent; raw files "
            "converted to 16-bit TIFF or PNG restore better"
        )
    for number, (scene, exposures) in enumerate(zip(scenes.scenes, scenes, strict=True)):
        digests = {}
        for path in scene.paths:
            twin = digests.setdefault(hashlib.sha256(path.read_bytes()).digest(), path)
            if twin is not path:
                raise InputError(f"{path} and {twin} are the same file: remove one of them")
        first = _to_float(exposures[0])
        brightness = shift = 0.0
        for exposure in list(exposures)[1:]:
            other = _to_float(exposure)
            brightness = max(brightness, abs(float(other.mean() / max(first.mean(), 1e-9)) - 1))
            shift = max(shift, _shift(first, other))
            floors.append(float(np.mean((first - other) ** 2)) / 2)
        if number == PRINTED:
            out(f"... and {len(scenes) - number} more scenes, of which only warnings are printed")
        if number < PRINTED:
            noise = 255 * floors[-1] ** 0.5
            out(
                f"scene {scene.name}: {len(scene.paths)} exposures, brightness within "
                f"{brightness:.1%}, shift {shift:.1f} pixels, noise {noise:.1f}/255"
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
    return float(np.mean(floors))


def _to_float(pixels: np.ndarray) -> np.ndarray:
    return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)


def _shift(first: np.ndarray, other: np.ndarray) -> float:
    """How far one exposure is shifted against another, in pixels, from their middles."""
    from skimage.filters import gaussian
    from skimage.registration import phase_cross_correlation

    top, left = (max(0, (n - MEASURED_SIZE) // 2) for n in first.shape[:2])
    part = np.s_[top : top + MEASURED_SIZE, left : left + MEASURED_SIZE]
    # Smoothed, or the noise's own correlation decides; not normalised, for the same reason.
    smooth = [gaussian(picture[part].mean(2), 1.5) for picture in (first, other)]
    smooth = [picture - picture.mean() for picture in smooth]
    found = phase_cross_correlation(*smooth, upsample_factor=10, normalization=None)[0]
    return float(np.hypot(*found))
