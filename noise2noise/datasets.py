"""The image sets: by name, and folders of pictures.

All are sequences of images, decoded when asked for and kept while there is room.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noise2noise.cache import Cache, window
from noise2noise.deadleaves import SIZE, DeadLeaves, dead_leaves
from noise2noise.errors import InputError, reading
from noise2noise.files import sha256
from noise2noise.images import find_pictures, luminance, open_file, read_rgb

NAMES = ("kodak", "bsds300", "deadleaves")
# They stand where a filter does: real exposures, of which there is no clean picture.
CAPTURED = "captured"
SINGLE = "single"
REAL_NOISE = CAPTURED, SINGLE
DATA = Path(__file__).resolve().parent.parent / "data"
KODAK = DATA / "kodak"
BSDS300 = DATA / "BSDS300"
# The folder, how many pictures it holds when it is whole, and what fetches them.
TRAINING = {
    "kodak": (KODAK, 24, "download_kodak.py"),
    "bsds300": (BSDS300 / "images/train", 200, "download_BSDS300.py"),
}
SCORED = TRAINING | {"bsds300": (BSDS300 / "images/test", 100, "download_BSDS300.py")}
DEADLEAVES_VALIDATION = 16  # pictures
VALIDATION_EVERY = 8  # of the files in order of their names, every eighth is for validation
LARGE = 2000  # pictures of a folder whose headers are read at the start; of more, every n-th
HASHED_BYTES = 1 << 28  # of a folder whose pictures' contents go into its fingerprint


def split(items: Sequence) -> tuple[list, list]:
    """Split pictures or scenes into (training, validation) by a fixed rule: whole ones, by name.

    Every `VALIDATION_EVERY`-th validates; of fewer, the last one does.
    """
    step = min(VALIDATION_EVERY, len(items))
    validation = list(items[step - 1 :: step])
    return [item for k, item in enumerate(items) if k % step != step - 1], validation


class ImageFiles:
    """A sequence of picture files: `images[k]` is uint8 (height, width, 3), or 1 channel if grey.

    Safe to use from several threads.

    Raises
    ------
    InputError
        On creation for a header that cannot be read or a picture smaller than
        `min_size` pixels on a side, on access for damaged contents; of `LARGE` folders
        most headers too are read on access only. It names the file.
    """

    def __init__(self, paths: Sequence[Path], min_size: int = 1, grey: bool = False):
        self.paths = list(paths)
        self._min_size, self._grey = min_size, grey
        sizes = []
        for path in self.paths[:: len(self.paths) // LARGE + 1]:
            with open_file(path) as file:
                sizes.append(file.size())
            self._check_size(path, sizes[-1])
        pixels = [width * height for width, height in sizes]
        channels, mean = 1 if grey else 3, sum(pixels) // max(1, len(pixels))
        self.total = channels * mean * len(self.paths)  # bytes, decoded
        largest = channels * max(pixels, default=1)
        self.window, self.crops_per_image = window(self.total, largest, mean)
        self._cached = Cache(self._read)

    def _read(self, k: int) -> np.ndarray:
        image = read_rgb(self.paths[k])
        self._check_size(self.paths[k], image.shape[1::-1])
        return luminance(image) if self._grey else image

    def _check_size(self, path: Path, size: tuple[int, int]) -> None:
        if min(size) < self._min_size:
            raise InputError(
                f"{path} has {size[0]} x {size[1]} pixels, fewer than the crop's "
                f"{self._min_size}: take a smaller --crop or remove it"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> np.ndarray:
        return self._cached[k]


def training_images(
    dataset: str, crop_size: int, seed: int, grey: bool = False
) -> tuple[ImageFiles | DeadLeaves, Sequence[np.ndarray]]:
    """Open a set's training and validation images, of Kodak or BSDS300 once it is downloaded.

    They are split by picture (`split`); BSDS300's test folder is in neither part.

    Parameters
    ----------
    dataset : str
        One of `NAMES`, or a folder's path.
    crop_size : int
        Pixels on a side that every picture must have.
    seed : int
        Of the generated images.
    grey : bool
        Take their luminance, 1 channel.

    Raises
    ------
    InputError
        One line that names the folder or file, and the way out.
    """
    if dataset == "deadleaves":
        if crop_size > SIZE:
            raise InputError(f"generated pictures have {SIZE} pixels: take a smaller --crop")
        validation = [
            dead_leaves(np.random.default_rng((seed, k, 1))) for k in range(DEADLEAVES_VALIDATION)
        ]
        validation = [luminance(image) for image in validation] if grey else validation
        return DeadLeaves(seed, grey), validation
    folder = Path(dataset)
    with reading(folder):
        there = dataset in TRAINING or folder.exists()
    if not there:
        raise InputError(f"{dataset} is neither {', '.join(NAMES)} nor a folder that exists")
    paths = whole_set(*TRAINING[dataset]) if dataset in TRAINING else find_pictures(folder)
    if len(paths) < 2:
        raise InputError(
            f"{folder} holds one picture: one to train on and one to validate with, "
            "at least, are needed"
        )
    training, validation = split(paths)
    return ImageFiles(training, crop_size, grey), ImageFiles(validation, crop_size, grey)


def dataset_name(dataset: str) -> str:
    """Return how what is trained on a set, a folder or a file is called.

    Raises `InputError` for a path that may not be looked at.
    """
    path = Path(dataset).resolve()
    with reading(path):
        return dataset if dataset in NAMES else path.stem if path.is_file() else path.name


def scored_paths(dataset: str) -> list[Path]:
    """Return the files that a dataset's scores are means over, in order.

    Kodak is scored whole, of BSDS300 the test folder, of any other folder all its pictures.
    Raises `InputError` for no picture, or for a named set that a download left incomplete.
    """
    return whole_set(*SCORED[dataset]) if dataset in SCORED else find_pictures(Path(dataset))


def whole_set(folder: Path, count: int, script: str) -> list[Path]:
    """Return the files of a named set; `InputError` unless they are so many."""
    try:
        paths = find_pictures(folder)
    except InputError:
        paths = []
    if len(paths) > count:
        raise InputError(
            f"{folder} holds {len(paths)} pictures, the set has {count}: move the others elsewhere"
        )
    if len(paths) < count:
        raise InputError(
            f"{folder} holds {len(paths)} of the set's {count} pictures: run python {script}"
        )
    return paths


def fingerprint(*parts) -> dict[str, str]:
    """Return what would tell that the files of image sets have changed, by their names.

    That is each file's SHA-256, or its size where all together have more than `HASHED_BYTES`.
    Generated sets have no files. Raises `InputError` for a file that cannot be read.
    """
    # A stack is the file of many scenes.
    paths = list(dict.fromkeys(path for part in parts for path in getattr(part, "paths", [])))
    sizes, told = [], {}
    for path in paths:
        with reading(path):
            sizes.append(path.stat().st_size)
    large = sum(sizes) > HASHED_BYTES
    for path, size in zip(paths, sizes, strict=True):
        name = "/".join(path.absolute().parts[-2:])  # however the folder was named
        with reading(path):
            told[name] = f"{size} bytes" if large else sha256(path)
    return told
