"""The published numbers come out again: the first pictures of BSDS300's test set, scored anew."""

import csv
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, call_script

import infer
from noise2noise.tiles import restore_image

TEST = "BSDS300/images/test"
MIRROR = Path(os.environ.get("MIRROR", REPOSITORY.parent / "shared/mirror"))
ARCHIVE = MIRROR / "Research/Projects/CS/vision/bsds/BSDS300-images.tgz"
COUNT = 3  # the noise of a picture is seeded by its place in the set: take the first


@pytest.fixture(scope="module")
def first_pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    downloaded = REPOSITORY / "data" / TEST
    if downloaded.is_dir():
        for path in sorted(downloaded.glob("*.jpg"))[:COUNT]:
            shutil.copy(path, folder)
    elif ARCHIVE.is_file():
        with tarfile.open(ARCHIVE) as archive:
            names = sorted(n for n in archive.getnames() if f"{TEST}/" in n and n.endswith(".jpg"))
            for name in names[:COUNT]:
                (folder / Path(name).name).write_bytes(archive.extractfile(name).read())
    else:
        pytest.skip(f"BSDS300 is neither in {downloaded} nor in {ARCHIVE}")
    return folder


def rows(path: Path) -> list[list[str]]:
    """Of scores-each.csv: model, file, strength, noisy PSNR, PSNR, noisy SSIM, SSIM."""
    with path.open(newline="") as file:
        return [[row[0], *row[2:]] for row in csv.reader(file)]


@pytest.mark.parametrize("filter", ["gaussian", pytest.param("bernoulli", marks=pytest.mark.slow)])
def test_published_scores_come_out_again_to_the_last_digit(first_pictures, tmp_path, filter):
    options = ("--models", REPOSITORY / "pretrained", "--output", tmp_path)
    call_script("infer.py", filter, "bsds300", "--score", first_pictures, *options)
    published = rows(REPOSITORY / "results/scores-each.csv")
    _, *again = rows(tmp_path / "scores-each.csv")
    assert len(again) == COUNT
    for row in again:
        assert row[0] == f"{filter}-bsds300"
        assert row in published


@pytest.mark.parametrize(
    "name",
    [
        *("camera-bsds300", "camera-bsds300-grey", "gaussian-bsds300", "poisson-bsds300"),
        *("sensor-bsds300", "sensor-bsds300-grey", "bernoulli-bsds300", "text-bsds300-l1"),
    ],
)
def test_flat_pictures_without_noise_stay_as_they_are(name):
    """Trained too long on small crops only, a network breaks down where all is flat."""
    network = infer.load_model(REPOSITORY / f"pretrained/{name}.keras")
    for value in (0, 0.1, 0.3, 0.5, 1):
        flat = np.full((256, 256, network.output_shape[-1]), value, np.float32)
        assert np.abs(restore_image(network, flat) - value).max() < 16 / 255
