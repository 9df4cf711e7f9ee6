"""Score networks on real photographs whose truth is known: pairs NAME_real.*, NAME_mean.*.

    python benchmarks/real_photos.py FOLDER gaussian-bsds300 camera-bsds300

Such as the 15 crops of Nam et al. (CVPR 2016), where the truth is the mean of 500 exposures.
Prints each picture's PSNR before and after, the means, and how many pictures got worse. CBM3D
(`pip install bm3d`), at the noise it estimates, and OpenCV's non-local means stand beside them
where they are installed.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import infer
from noise2noise import metrics
from noise2noise.errors import InputError, run_main
from noise2noise.images import read_rgb
from noise2noise.networks import find_models
from noise2noise.ranges import to_8bit
from noise2noise.tiles import restore_image


def peers() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the other denoisers that are installed: functions of a uint8 image."""
    found = {}
    if importlib.util.find_spec("bm3d"):
        import bm3d
        from skimage.restoration import estimate_sigma

        def cbm3d(image):
            sigma = float(np.mean(estimate_sigma(image / 255, channel_axis=-1)))
            return to_8bit(bm3d.bm3d_rgb(image / 255, max(sigma, 1e-3)))

        found["CBM3D"] = cbm3d
    if importlib.util.find_spec("cv2"):
        import cv2

        found["OpenCV NLM"] = lambda image: cv2.fastNlMeansDenoisingColored(image, h=3, hColor=10)
    return found


def find_pairs(folder: Path) -> dict[Path, Path]:
    """Return the pictures of `folder` and their truths; `InputError` where there are none."""
    pairs = {
        path: next(iter(path.parent.glob(path.stem.removesuffix("_real") + "_mean.*")), None)
        for path in sorted(folder.glob("*_real.*"))
    }
    if not pairs or None in pairs.values():
        raise InputError(f"{folder} holds no pairs NAME_real.*, NAME_mean.*")
    return pairs


def score(
    restorers: dict[str, Callable], folder: Path, show: Callable = lambda *row: None
) -> np.ndarray:
    """Return a row for each picture: PSNR before, and after each restorer; show it as it comes."""
    rows = []
    for path, truth in find_pairs(folder).items():
        image, true = read_rgb(path), read_rgb(truth)
        row = [metrics.psnr(image, true)]
        row += [metrics.psnr(restorer(image), true) for restorer in restorers.values()]
        rows.append(row)
        show(path.stem.removesuffix("_real"), row)
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+", help="of networks")
    parser.add_argument("--ensemble", action="store_true", help="as infer.py's")
    args = parser.parse_args()
    find_pairs(args.folder)  # before Keras is loaded
    restorers = {}
    for name in args.names:
        (trained,) = find_models(*name.split("-", 1))
        model = infer.load(trained, args.ensemble)
        restorers[name] = partial(restore_image, model, keep_means=True)
    restorers |= peers()
    widths = [max(12, len(name)) for name in restorers]

    def show(name: str, row) -> None:
        cells = (f"{value:{width}.2f}" for value, width in zip(row, [6, *widths], strict=True))
        print(f"{name:28}", *cells, flush=True)

    def names_and(name: str, last, cells) -> None:
        print(f"{name:28} {last:>6}", *(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))

    names_and("picture", "noisy", restorers)
    rows = score(restorers, args.folder, show)
    show("mean", rows.mean(axis=0))
    names_and("worse than the input", "", (rows[:, 1:] < rows[:, :1]).sum(axis=0))


if __name__ == "__main__":
    run_main(main)
