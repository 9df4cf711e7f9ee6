"""What each part of the simulated camera is worth: short trainings without it.

    python benchmarks/camera_ablations.py FOLDER
    python benchmarks/camera_ablations.py FOLDER --only "as it is" "no JPEG" --steps 1000

FOLDER holds pairs NAME_real.*, NAME_mean.* of real photographs, as for real_photos.py. Each
variant trains gaussian-bsds300 on, on BSDS300's training pictures, and is scored on FOLDER, on
Kodak's pictures as they are, and on noises that its camera may not have made
(unknown_noise.py). Prints a table, and adds each row to a CSV file as it comes.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from noise2noise import camera
from noise2noise.camera import Camera
from noise2noise.errors import run_main
from noise2noise.networks import PRETRAINED

START = PRETRAINED / "gaussian-bsds300.keras"


def without(**fields) -> dict[str, Callable]:
    """Return what replaces `draw_camera`: cameras with these fields instead of their own."""
    draw = camera.draw_camera
    return {"draw_camera": lambda rng, grey=False: replace(draw(rng, grey), **fields)}


def bilinear_only(rng: np.random.Generator, grey: bool = False) -> Camera:
    drawn = DRAW_CAMERA(rng, grey)
    return replace(drawn, demosaicing="bilinear" if drawn.demosaicing else "")


def white_noise(shot: Camera, rng: np.random.Generator) -> tuple[float, float]:
    """Draw noise that does not depend on the light, as strong as it was at a tenth of it."""
    a, b = DRAW_NOISE(shot, rng)
    return 0.0, b + 0.1 * a


DRAW_CAMERA, DRAW_NOISE = camera.draw_camera, camera.draw_noise
VARIANTS: dict[str, dict[str, Callable]] = {  # name: what stands for functions of `camera`
    "as it is": {},
    "noise does not grow with light": {"draw_noise": white_noise},
    "no tone curve": without(tone=0.0),
    "no mosaic": without(demosaicing=""),
    "bilinear demosaicing only": {"draw_camera": bilinear_only},
    "no JPEG": without(quality=0),
    "no smoothing": without(blur=0.0, chroma_blur=0),
    "no sharpening": without(sharpening=0.0),
    "no grain": without(grain=0.0),
    "no rows": without(rows=0.0, columns=0.0),
    "no scaling": without(scale=1.0),
    "inputs always clipped": without(clipped=True),
}


def train(variant: dict[str, Callable], steps: int, batch: int, seed: int):
    """Return gaussian-bsds300, trained on with a variant of the camera."""
    from data import NoisyDataset
    from model import build_unet, load_unet
    from noise2noise import backend
    from noise2noise.backend import keras
    from noise2noise.datasets import training_images
    from noise2noise.fused import fuse

    backend.set_precision("auto")
    model = build_unet()
    model.set_weights(load_unet(START).get_weights())
    model = fuse(model)
    training, _ = training_images("bsds300", 64, seed)
    rate = keras.optimizers.schedules.CosineDecay(5e-4, steps)
    model.compile(keras.optimizers.Adam(rate, 0.9, 0.99), "mean_squared_error", jit_compile=False)
    with ExitStack() as stack:
        for name, function in variant.items():
            stack.enter_context(patch.object(camera, name, function))
        batches = NoisyDataset(training, "camera", batch, 64, steps, seed=seed)
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def scores(model, folder: Path) -> dict[str, float]:
    import real_photos
    import unknown_noise

    restore = partial(real_photos.restore, model, keep_means=True)
    real = real_photos.score({"": restore}, folder)
    expected = unknown_noise.expect(model)
    return {"real photographs": real.mean(0)[1]} | {k: v[1] for k, v in expected.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", type=Path)
    add("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    add("--steps", type=int, default=3000, help="(%(default)s)")
    add("--batch", type=int, default=4, help="(%(default)s)")
    add("--seed", type=int, default=0)
    add("--csv", type=Path, default=Path("runs/camera-ablations.csv"), help="(%(default)s)")
    args = parser.parse_args()
    for name in args.only:
        row = scores(train(VARIANTS[name], args.steps, args.batch, args.seed), args.folder)
        row = {"variant": name} | {key: f"{value:.2f}" for key, value in row.items()}
        print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
        new = not args.csv.exists()
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        with args.csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    run_main(main)
