"""Real exposures as image sets: scenes of several, single ones, pages of stacks.

Like the sets of `datasets` they are sequences, decoded when asked for and kept while there is room.
"""

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noise2noise import ranges
from noise2noise.cache import Cache, window
from noise2noise.datasets import VALIDATION_EVERY, split
from noise2noise.errors import InputError, reading
from noise2noise.images import find_pictures, open_file
from noise2noise.picture import SUFFIXES, PictureFile, is_grey
from noise2noise.ranges import Range

DIM = 0.1  # of the range, less than which an exposure uses hardly any
MAX_MISSING = 0.5  # share of values that are no numbers, from which an exposure is refused
ONE_KIND = "give one kind of them"
MEASURED = 32  # exposures, at most, that the range of their values is measured on


@dataclass(frozen=True)
class Exposure:
    """A picture of a scene: a file, or a page of one."""

    path: Path
    page: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.page is None else f"{self.path}, page {self.page + 1},"


@dataclass(frozen=True)
class Scene:
    """Two or more exposures of one scene, or a single one."""

    name: str
    exposures: tuple[Exposure, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that they are in."""
        return tuple(dict.fromkeys(exposure.path for exposure in self.exposures))


def find_exposures(*paths: Path, one_scene: bool = True) -> tuple[Exposure, ...]:
    """Return the pictures in files, in order: each page of a stack.

    Raises `InputError` where they are channels, which are no exposures of `one_scene`.
    """
    found = []
    for path in paths:
        with open_file(path) as file:
            pages = [None] if file.pages == 1 else range(file.pages)
            if one_scene and 1 < file.channels < file.pages:
                raise InputError(
                    f"the pages of {path} are of {file.channels} channels, not exposures of one "
                    "scene: save each channel as a stack of its own"
                )
            if file.planes:
                print(
                    f"{path} holds one picture in colour, in planes: if they are exposures, write "
                    "them with tifffile's photometric='minisblack'"
                )
        found += [Exposure(path, page) for page in pages]
    return tuple(found)


def notes_on(file: PictureFile, one_scene: bool) -> list[str]:
    """Say how a file of exposures is taken that may be meant otherwise."""
    notes = list(file.lost)
    if file.lossy:
        notes.append(
            "compressed with losses, which smear the noise over blocks of pixels, so that it is "
            "not independent; raw files saved as 16-bit TIFF or PNG restore better"
        )
    # ImageJ calls any stack's pages slices, and tifffile those that it writes for ImageJ channels.
    kind = "slices" if file.slices > 1 else "channels" if file.channels > 1 else ""
    if one_scene and kind:
        notes.append(f"its pages are {kind}, it says: if so, they are no exposures of one scene")
    if one_scene and file.format == "FITS" and file.pages == 3:
        notes.append("three planes are taken for exposures: if they are colours, part it")
    return notes


def by_number(paths: Sequence[Path]) -> list[Path]:
    """Return files in the order that they were taken in: frame2 before frame10."""

    def order(path: Path) -> list[str | int]:
        parts = re.split(r"(\d+)", path.name)
        parts[1::2] = map(int, parts[1::2])
        return parts

    return sorted(paths, key=order)


def find_scenes(folder: Path) -> list[Scene]:
    """Find the scenes of `folder`, in order of their names.

    Either sub-folders with two or more exposures in each, and stacks, whose pages are
    exposures; or two sub-folders a/ and b/ with files of the same names; or the exposures of one
    scene. Of a scene alone the last eighth of its exposures is one to validate with.

    Raises
    ------
    InputError
        For a scene with one exposure, a file without its twin, or no scene at all.
    """
    if folder.is_file():
        return _split_exposures(Scene(folder.name, find_exposures(folder)), folder)
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {kind}: name one with a sub-folder per scene")
    subfolders = sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.name.lower(),
    )
    names = [p.name.lower() for p in subfolders]
    if {"a", "b"} < set(names):
        raise InputError(
            f"{folder} holds a/, b/ and {', '.join(sorted(set(names) - {'a', 'b'}))}/: move "
            "what is no scene elsewhere, or, where these are scenes, give a/ and b/ other names"
        )
    inside = [p for p in folder.glob("[!.]*") if p.is_file() and p.suffix.lower() in SUFFIXES]
    if names == ["a", "b"]:
        scenes = _pairs(*subfolders)
        _say_left_out(inside)
    else:
        scenes = _stacks_and_folders(folder, subfolders, inside)
    for scene in scenes:
        if len(scene.exposures) < 2:
            raise InputError(
                f"{scene.exposures[0]} is the only exposure of its scene: add another one, remove "
                "the scene, or have all pictures in one folder for train_model.py single"
            )
    if len(scenes) == 1:
        return _split_exposures(scenes[0], folder)
    if not scenes:
        raise InputError(
            f"{folder} holds no scenes: each is a stack or a sub-folder of two or more exposures "
            f"({', '.join(SUFFIXES)}), or a/ and b/ hold files of the same names"
        )
    return sorted(scenes, key=lambda scene: scene.name.lower())


def _pairs(first: Path, second: Path) -> list[Scene]:
    """Return the scenes of two folders: each file of one and its namesake in the other."""
    sides = [{path.name: path for path in find_pictures(side)} for side in (first, second)]
    if alone := sorted(set(sides[0]) ^ set(sides[1])):
        raise InputError(
            f"{first} and {second} must hold files of the same names: "
            f"{alone[0]} is in one of them only (where each is a scene, give them other names)"
        )
    scenes = []
    for name in sides[0]:
        a, b = (find_exposures(side[name]) for side in sides)
        if len(a) != len(b):
            raise InputError(
                f"{a[0].path} has {len(a)} pages and {b[0].path} {len(b)}: they must be pairs"
            )
        pages = [""] if len(a) == 1 else [f", page {n + 1}" for n in range(len(a))]
        scenes += [Scene(name + page, pair) for page, *pair in zip(pages, a, b, strict=True)]
    return scenes


def _stacks_and_folders(folder: Path, subfolders: list[Path], inside: list[Path]) -> list[Scene]:
    """Return a scene for each stack in a folder, and for each sub-folder of exposures.

    Where there is neither, the folder's own pictures, those of `inside`, are one scene.
    """
    pictured = []
    for sub in subfolders:
        held = list(sub.glob("[!.]*"))
        if any(path.suffix.lower() in SUFFIXES for path in held):
            pictured.append(sub)
        elif any(path.is_dir() for path in held):
            raise InputError(f"{sub} holds sub-folders, not exposures: name {sub}, or move them")
        else:
            print(f"{sub} holds no picture and is left out")
    pages = {path: find_exposures(path) for path in sorted(inside)}
    scenes = [Scene(path.name, found) for path, found in pages.items() if len(found) > 1]
    alone = by_number([path for path, found in pages.items() if len(found) == 1])
    if alone and not scenes and len(pictured) == 1:  # a burst and what was restored of it, say
        raise InputError(
            f"{folder} holds {len(alone)} pictures and {pictured[0].name}/ others: move what are "
            "no exposures elsewhere, or give every scene a sub-folder of its own"
        )
    if alone and not scenes and not pictured:
        print(
            f"the pictures of {folder}, {len(alone)} in all, are taken for exposures of one scene "
            "(give each of several a sub-folder; single exposures: train_model.py single)"
        )
        return [Scene(folder.resolve().name, tuple(pages[path][0] for path in alone))]
    _say_left_out(alone)
    return scenes + [
        Scene(sub.name, find_exposures(*by_number(find_pictures(sub)))) for sub in pictured
    ]


def _say_left_out(paths: list[Path]) -> None:
    if paths:
        print(f"{min(paths)} is in no scene's folder and left out ({len(paths)} in all)")


def _split_exposures(scene: Scene, source: Path) -> list[Scene]:
    """Cut the only scene of a file or folder into exposures to train on and to validate with."""
    count = len(scene.exposures)
    last = max(2, count // VALIDATION_EVERY)
    if count - last < 2:
        raise InputError(
            f"{source} holds {count} exposure{'s' * (count > 1)} of one scene: at least 4 are "
            "needed to train on it alone, or other scenes, each in a folder of its own; "
            "train_model.py single takes one exposure of each"
        )
    return [
        Scene(scene.name, scene.exposures[:-last]),
        Scene(f"{scene.name}, last {last} exposures", scene.exposures[-last:]),
    ]


class LastFile:
    """The file of pictures that was opened last, by one thread at a time.

    It stays open: opening a stack goes through all its pages. Another process gets it closed.
    """

    def __init__(self):
        self._file: PictureFile | None = None
        self._lock = threading.Lock()

    def __reduce__(self):
        return LastFile, ()

    @contextlib.contextmanager
    def open(self, path: Path) -> Iterator[PictureFile]:
        """Open a file, if it is not; `InputError` as by `open_file`."""
        with self._lock:
            if self._file is None or self._file.path != path:
                if self._file:
                    self._file.close()
                self._file = None
                self._file = open_file(path)
            yield self._file


class Scenes:
    """A sequence of scenes: `scenes[k][i]` is exposure i of scene k.

    Images are (height, width, 3), as stored, of any type; 1 channel where `grey` is set.

    Raises
    ------
    InputError
        On creation where a scene's exposures differ in size or are smaller than `min_size`, or
        are neither grey nor RGB; where they share less, aligned; on access for damaged contents
        or few numbers (`ranges.fill` gives what is none a value).
    """

    def __init__(self, scenes: Sequence[Scene], min_size: int = 1):
        self.scenes = list(scenes)
        self.paths = [path for scene in self.scenes for path in scene.paths]
        self.colors = set()  # channels that are restored: 3 of RGB, 1 of grey pictures
        self.notes: dict[str, list[Path]] = {}  # what a user should know, and of which files
        self.most_missing = 0.0, ""  # the largest share of values that are none, and where
        self.apart = 0.0  # pixels that exposures lie apart at most, once aligned
        self.smallest = np.inf  # pixels on the shortest side of what is taken of any exposure
        # What `_seen_alike` sets, for training and validation.
        self.grey = False  # images have one channel
        self.shows_grey = False  # there are grey ones among them
        self.span: Range | None = None  # of their values; None: their type's
        self.hint = ""  # what a user should know of it
        self.dtype: np.dtype | None = None
        self.neighbours: int | None = None  # how far apart the two of a pair may be; None: any
        self.total, self.window, self.crops_per_image = 0, 0, 1  # as of `datasets.ImageFiles`
        self._min_size = min_size
        self._parts = {}  # what is taken of exposures, where that is not the whole
        self._exposures = [exposure for scene in self.scenes for exposure in scene.exposures]
        self._first = np.cumsum([0, *(len(scene.exposures) for scene in self.scenes)])
        self._cached = Cache(self._read)
        self._last = LastFile()
        for scene in self.scenes:
            self._check(scene)

    def _check(self, scene: Scene) -> None:
        """Open a scene's files: note what is said of them, refuse what is no scene of one kind."""
        sizes, colors = {}, set()
        for exposure in scene.exposures:
            with self._last.open(exposure.path) as file:
                sizes[exposure] = file.size(exposure.page or 0)
                colors.add(channels := file.colors(exposure.page or 0))
                if not exposure.page:
                    for note in notes_on(file, len(scene.exposures) > 1):
                        self.notes.setdefault(note, []).append(file.path)
            if channels not in (1, 3):
                raise InputError(
                    f"{exposure.path} has {channels} channels, neither grey nor RGB: save each "
                    "as a file of its own"
                )
        if colors == {1, 3}:
            raise InputError(
                f"exposures of {scene.name} are grey and in colour: give them of one kind"
            )
        self.colors |= colors
        first, size = next(iter(sizes.items()))
        for exposure, other in sizes.items():
            if other != size:
                raise InputError(
                    f"{exposure} has {other[0]} x {other[1]} pixels and {first} "
                    f"{size[0]} x {size[1]}: exposures of a scene must be of one size"
                )
        self.smallest = min(self.smallest, *size)
        if min(size) < self._min_size:
            raise InputError(
                f"{first} has {size[0]} x {size[1]} pixels, and crops are cut from "
                f"{self._min_size} on a side: take a smaller --crop or remove it"
            )

    def way_out(self, k: int, apart: int = 2) -> str:
        """Say what helps where exposures of scene k that lie `apart` in its order differ.

        "" where that is done, and of two side by side.
        """
        more = len(self.scenes[k].exposures) > 2 and apart > 1 and not self.neighbours
        return " (a series: --neighbours 1 pairs those next to each other)" * more

    def align(self, k: int, shifts: np.ndarray) -> None:
        """Cut the exposures of scene k to what they share, once rolled by whole (rows, columns)."""
        starts = shifts.max(axis=0) - shifts
        height, width = np.array(self[k][0].shape[:2]) - np.ptp(shifts, axis=0)
        if min(height, width) < self._min_size:
            raise InputError(
                f"the exposures of {self.scenes[k].name} are shifted and share {max(0, width)} x "
                f"{max(0, height)} pixels, and crops are cut from {self._min_size} on a side: "
                "take a smaller --crop or remove the scene"
            )
        self.smallest = min(self.smallest, height, width)
        for n, (top, left) in enumerate(starts, self._first[k]):
            self._parts[n] = np.s_[top : top + height, left : left + width]

    def keep_strip(self, last: bool) -> None:
        """Of the picture alone keep the part to train on, or the last strip, to validate with."""
        height, width = self[0][0].shape[:2]
        longer = max(height, width)
        strip = longer - max(self._min_size, longer // VALIDATION_EVERY)
        if strip < self._min_size:
            raise InputError(
                f"{self._exposures[0]} has {width} x {height} pixels: alone, to train on one part "
                f"and validate with another, it needs {2 * self._min_size} on a side: take a "
                "smaller --crop, or more pictures"
            )
        self.smallest = min(height, width, longer - strip if last else strip)
        span = slice(strip, None) if last else slice(strip)
        self._parts[0] = (slice(None), span) if width > height else (span, slice(None))

    def exposure(self, n: int) -> np.ndarray:
        """Return exposure n of all scenes', the part of it that is taken."""
        return self._cached[n][self._parts.get(n, ...)]

    def decoded(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return exposure n as it is stored, the part that is taken, and which values are none."""
        part = self._parts.get(n, ...)
        return tuple(array[part] for array in self._decode(n))

    def _decode(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        exposure = self._exposures[n]
        with self._last.open(exposure.path) as file:
            picture = file.read(exposure.page or 0)
            image = picture.pixels[..., :1] if self.grey else picture.color
            gone = ranges.unseen(image, None, file.nodata).mean()
            if gone > MAX_MISSING:
                raise InputError(f"{exposure} holds {gone:.0%} no numbers: remove it")
            missing = ranges.missing(image, picture.nodata)
            if picture.hidden is not None:
                missing |= picture.hidden[..., None]
            share = float(missing.mean())
            self.most_missing = max(self.most_missing, (share, str(exposure)))
            return image, missing

    def _read(self, n: int) -> np.ndarray:
        exposure = self._exposures[n]
        image, missing = self._decode(n)
        if self.dtype not in (None, image.dtype):
            raise InputError(
                f"{exposure} holds {image.dtype} values, others {self.dtype}: {ONE_KIND}"
            )
        if missing.any():
            image = ranges.fill(image, missing)
        return np.ascontiguousarray(image)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, k: int) -> "Exposures":
        return Exposures(self, range(self._first[k], self._first[k + 1]))


class Exposures(Sequence):
    """The exposures of one scene, decoded when asked for."""

    def __init__(self, scenes: Scenes, numbers: range):
        self._scenes = scenes
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._scenes.exposure(self._numbers[i])


def training_scenes(
    folder: Path, crop_size: int, span: Range | None = None, neighbours: int | None = None
) -> tuple[Scenes, Scenes]:
    """Open a folder's scenes for training and validation, split by scene; grey if all are.

    Without a range given it is measured on some of the exposures to train on.
    """
    with reading(folder):
        parts = [Scenes(part, crop_size) for part in split(find_scenes(folder))]
    return _seen_alike(parts, span, neighbours)


def training_exposures(path: Path, size: int, span: Range | None = None) -> tuple[Scenes, Scenes]:
    """Open single exposures, each a scene of its own, as `training_scenes` does.

    They are the pictures of a folder, or a file, and pages of stacks. Of a picture alone, a strip
    at the bottom or the right, `size` pixels wide or an eighth of it, is for validation.

    Parameters
    ----------
    size : int
        Pixels on a side that crops are made from.

    Raises
    ------
    InputError
        For a folder without pictures, or too few pixels; it names the file.
    """
    with reading(path):
        paths = [path] if path.is_file() else find_pictures(path)
        exposures = find_exposures(*paths, one_scene=False)
    scenes = [Scene(str(exposure), (exposure,)) for exposure in exposures]
    alone = len(scenes) == 1
    parts = [Scenes(part, size) for part in ([scenes] * 2 if alone else split(scenes))]
    parts = _seen_alike(parts, span)
    if alone:
        for part, last in zip(parts, (False, True), strict=True):
            part.keep_strip(last)
    return parts


def _dim_hint(training: Scenes, some: Sequence[int], span: Range | None, dtype: np.dtype) -> str:
    """Return what to say where some deep exposures use little of the range that others need."""
    if dtype == np.uint8 or not (span or dtype.kind == "u"):
        return ""
    whole = np.ptp(span) if span else np.iinfo(dtype).max
    used = [ranges.width([training._cached[n]]) / whole for n in some]
    if not (dim := sum(share < DIM for share in used)):
        return ""
    least = int(np.argmin(used))
    return (
        f"; {training._exposures[some[least]]} uses {used[least]:.1%} of it ({dim} of {len(used)} "
        f"looked at use less than {DIM:.0%}): beside the others little is learned of these, so "
        "train on them apart"
    )


def _seen_alike(
    parts: list[Scenes], span: Range | None, neighbours: int | None = None
) -> tuple[Scenes, ...]:
    """Have the parts of a data set seen in one way, by what is in the first."""
    training = parts[0]
    grey = not any(3 in part.colors for part in parts)
    for part in parts:
        part.grey, part.neighbours = grey, neighbours
    step = -(-len(training._exposures) // MEASURED)
    some = range(0, len(training._exposures), step)
    dtypes = {}
    for part in parts:
        for n in range(0, len(part._exposures), step):
            dtypes[part._cached[n].dtype] = part._exposures[n]
    if len(dtypes) > 1:
        (one, first), (other, second) = list(dtypes.items())[:2]
        raise InputError(f"{first} holds {one} values and {second} {other}: {ONE_KIND}")
    if not span:
        span = ranges.measure(training._cached[n] for n in some)
        training.hint = ranges.wide_hint(training._cached[n] for n in some)
        (dtype,) = dtypes
        training.hint = training.hint or _dim_hint(training, some, span, dtype)
    elif not ranges.fits((training._cached[n] for n in some), span):
        raise InputError(
            f"the values of {training._exposures[0]} and others are not like those of "
            f"{ranges.words(span)}: give a --range that most lie in, or leave it out"
        )
    training.shows_grey = 1 in training.colors or any(is_grey(training._cached[n]) for n in some)
    (dtype,) = dtypes
    for part in parts:
        part.span, part.dtype = span, dtype
        pixels = [part._cached[n].size for n in range(0, len(part._exposures), step)]
        mean, most = sum(pixels) // len(pixels), max(len(scene.exposures) for scene in part.scenes)
        part.total = dtype.itemsize * mean * len(part._exposures)
        largest = dtype.itemsize * max(pixels) * most
        part.window, part.crops_per_image = window(part.total, largest, most * mean)
    return tuple(parts)
