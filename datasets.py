"""The image sets by name: kodak, bsds300, deadleaves, or any folder of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deadleaves import DeadLeaves, dead_leaves
from errors import InputError
from images import ImageFiles, find_images, split

NAMES = ("kodak", "bsds300", "deadleaves")
DATA = Path(__file__).resolve().parent / "data"
KODAK = DATA / "kodak"
BSDS300 = DATA / "BSDS300"
DEADLEAVES_VALIDATION = 16  # pictures
SCORED = {  # the folder, how many pictures it holds when it is whole, and what fetches them
    "kodak": (KODAK, 24, "download_kodak.py"),
    "bsds300": (BSDS300 / "images/test", 100, "download_BSDS300.py"),
}


def download(name: str) -> None:
    """Make sure that kodak or bsds300 is there, whole; `InputError` names the way out."""
    from download_BSDS300 import download_BSDS300
    from download_kodak import download_kodak

    try:
        download_kodak(KODAK) if name == "kodak" else download_BSDS300(BSDS300)
    except InputError as error:
        raise InputError(
            f"{error}. Without a network, train on generated pictures: "
            "python train_model.py gaussian deadleaves"
        ) from None


def training_images(
    dataset: str, crop_size: int, seed: int
) -> tuple[ImageFiles | DeadLeaves, Sequence[np.ndarray]]:
    """Open a set's training and validation pictures, downloading the set if it is not there.

    They are split by picture (`images.split`); BSDS300's test folder is in neither part.

    Parameters
    ----------
    dataset : str
        One of `NAMES`, or a folder's path.
    crop_size : int
        Pixels on a side that every picture must have.
    seed : int
        Of the generated pictures.

    Raises
    ------
    InputError
        One line that names the folder, file or address, and the way out.
    """
    if dataset == "deadleaves":
        validation = [
            dead_leaves(np.random.default_rng((seed, k, 1))) for k in range(DEADLEAVES_VALIDATION)
        ]
        return DeadLeaves(seed), validation
    if dataset in ("kodak", "bsds300"):
        download(dataset)
        folder = KODAK if dataset == "kodak" else BSDS300 / "images/train"
    else:
        folder = Path(dataset)
        if not folder.exists():
            raise InputError(f"{dataset} is neither {', '.join(NAMES)} nor a folder that exists")
    paths = find_images(folder)
    if len(paths) < 2:
        raise InputError(
            f"{folder} holds one image: one to train on and one to validate with, "
            "at least, are needed"
        )
    training, validation = split(paths)
    return ImageFiles(training, crop_size), ImageFiles(validation, crop_size)


def test_paths(dataset: str) -> list[Path]:
    """Return the files that a dataset's scores are means over, in order.

    Kodak is scored whole, of BSDS300 the test folder, of any other folder all its images.
    Raises `InputError` for no image, or for a named set that a download left incomplete.
    """
    if dataset not in SCORED:
        return find_images(Path(dataset))
    folder, count, script = SCORED[dataset]
    try:
        paths = find_images(folder)
    except InputError:
        paths = []
    if len(paths) != count:
        raise InputError(
            f"{folder} holds {len(paths)} of the set's {count} pictures: run python {script}"
        )
    return paths
