"""What each part of the simulated camera is worth: short trainings without it.

    python benchmarks/camera_ablations.py FOLDER
    python benchmarks/camera_ablations.py FOLDER --only "as it is" "no JPEG" --steps 1000

FOLDER holds pairs NAME_real.*, NAME_mean.* of real photographs, as for real_photos.py. Each
variant trains gaussian-bsds300 on, on BSDS300's training pictures, and is scored on FOLDER, on
Kodak's pictures as they are, and on noises that its camera may not have made
(unknown_noise.py). Prints a table, and writes it to a CSV file as it grows.
"""

import argparse
import csv
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from noise2noise import camera
from noise2noise.camera import Camera, draw_camera, draw_noise
from noise2noise.errors import run_main
from noise2noise.filters import FILTERS, Filter
from noise2noise.networks import PRETRAINED

START = PRETRAINED / "gaussian-bsds300.keras"
RECIPE = {"optimizer": "muon", "learning_rate": 4e-4, "schedule": "cosine", "loss": "l2"}
RECIPE |= {"clip_norm": 0.05}  # or a night sky, of great weight, undoes what was learned


def without(**fields) -> Filter:
    """Return the filter whose cameras have these fields instead of those that were drawn."""
    return replace(
        CAMERA, draw_camera=lambda rng, grey=False: replace(draw_camera(rng, grey), **fields)
    )


def draw_bilinear(rng: np.random.Generator, grey: bool = False) -> Camera:
    drawn = draw_camera(rng, grey)
    return replace(drawn, demosaicing="bilinear" if drawn.demosaicing else "")


def draw_white_noise(shot: Camera, rng: np.random.Generator) -> tuple[float, float]:
    """Draw noise that does not depend on the light, as strong as it was at a tenth of it."""
    a, b = draw_noise(shot, rng)
    return 0.0, b + 0.1 * a


CAMERA = FILTERS["camera"]
WHITE = "noise does not grow with light"
VARIANTS = {
    "as it is": CAMERA,
    WHITE: CAMERA,  # and `draw_white_noise`
    "no tone curve": without(tone=0.0),
    "no mosaic": without(demosaicing=""),
    "bilinear demosaicing only": replace(CAMERA, draw_camera=draw_bilinear),
    "no JPEG": without(quality=0),
    "no smoothing": without(blur=0.0, chroma_blur=0),
    "no sharpening": without(sharpening=0.0),
    "no grain": without(grain=0.0),
    "no rows": without(rows=0.0, columns=0.0),
    "no scaling": without(scale=1.0),
    "inputs always clipped": without(clipped=True),
}


@contextmanager
def batches(name: str, images, *sizes: int, **options):
    """Yield a variant's `NoisyDataset`, which draws such cameras inside of the block."""
    from data import NoisyDataset

    noise = draw_white_noise if name == WHITE else draw_noise
    with patch.object(camera, "draw_noise", noise):
        yield NoisyDataset(images, VARIANTS[name], *sizes, **options)


def train(variant: str, steps: int, batch: int, seed: int):
    """Return gaussian-bsds300, trained on with a variant of the camera, as train_model.py would."""
    from model import build_unet, load_unet
    from noise2noise import backend
    from noise2noise.datasets import training_images
    from train_model import compile_model

    training, _ = training_images("bsds300", 64, seed)
    options = {**RECIPE, "filter": "camera", "epochs": 1, "steps": steps, "seed": seed}
    precision = backend.describe_device()[1]
    model = compile_model(argparse.Namespace(**options), build_unet, load_unet(START), precision)
    with batches(variant, training, batch, 64, steps, seed=seed) as made:
        model.fit(made, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def scores(model, folder: Path) -> dict[str, float]:
    import real_photos
    import unknown_noise

    restore = partial(real_photos.restore_image, model, keep_means=True)
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
    mode = "w"
    for name in args.only:
        row = scores(train(name, args.steps, args.batch, args.seed), args.folder)
        row = {"variant": name} | {key: f"{value:.2f}" for key, value in row.items()}
        print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        with args.csv.open(mode, newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if mode == "w":
                writer.writeheader()
            writer.writerow(row)
        mode = "a"


if __name__ == "__main__":
    run_main(main)
