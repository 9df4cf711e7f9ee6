"""A rehearsal on real files: learn from noisy exposures alone, restore, compare with clean targets.

    python benchmarks/rehearsal.py                                       4,000 steps, twice
    python benchmarks/rehearsal.py --epochs 2 --output-dir quick   a look

BSDS300's training pictures become scenes of 2 to 5 noisy exposures, its test pictures one noisy
exposure each, all saved as 16-bit PNG. The noise is that of a sensor, stronger in brighter
places, with a black level that keeps it from being clipped; the training code is told nothing
about it. Then, as a user would type it: `train_model.py captured SCENES`, and
`infer.py captured SCENES --restore`. The restored files are scored against the hidden clean
pictures, beside those of the same network trained for as long on clean targets.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from data import CapturedDataset
from model import build_unet
from noise2noise import backend
from noise2noise.backend import keras
from noise2noise.datasets import BSDS300, training_scenes
from noise2noise.errors import run_main
from noise2noise.fused import fuse
from noise2noise.images import find_pictures, read_picture, read_rgb
from noise2noise.pairs import CapturedPairs
from noise2noise.restore import restore
from train_model import BETA1, BETA2

BLACK, RANGE = 0.1, 0.7  # where black and white are in the file's values
GAIN, READ_NOISE = 0.01, 0.02  # variance = GAIN x + READ_NOISE^2: 26/255 for white, 5/255 for black


TRAINING = BSDS300 / "images/train"


def to_file_values(clean: np.ndarray) -> np.ndarray:
    return np.float32(BLACK + RANGE * (clean / 255))


def expose(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A noisy 16-bit exposure of a uint8 picture."""
    x = clean / 255
    noisy = x + rng.normal(size=x.shape) * np.sqrt(GAIN * x + READ_NOISE**2)
    return np.rint(np.clip(BLACK + RANGE * noisy, 0, 1) * 65535).astype(np.uint16)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    oiio.ImageBuf(pixels).write(str(path))


class CleanPairs(CapturedPairs):
    """The same crops of the same inputs, with the hidden clean picture as the target."""

    def __init__(self, scenes, *arguments, **options):
        super().__init__(scenes, *arguments, **options)
        self._clean = [
            np.rint(to_file_values(read_rgb(TRAINING / f"{scene.name}.jpg")) * 65535).astype(
                np.uint16
            )
            for scene in scenes.scenes
        ]

    def _pair(self, k, crop_rng, input_rng, target_rng):
        exposures = self.images[k]
        chosen = input_rng.choice(len(exposures), 2, replace=False)[0]
        return *self._cut(crop_rng, self.crop_size, exposures[chosen], self._clean[k]), 1


class CleanTargets(CapturedDataset):
    kind = CleanPairs


def psnr(pixels: np.ndarray, clean: np.ndarray) -> float:
    """dB of 16-bit file values against the clean picture, on the scale of black to white."""
    error = (pixels / 65535 - to_file_values(clean)) / RANGE
    return float(-10 * np.log10(np.mean(error**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=50, help="to test on (%(default)s)")
    parser.add_argument("--output-dir", type=Path, default=REPOSITORY / "results", metavar="DIR")
    args = parser.parse_args()
    recipe = {"batch_size": 8, "crop_size": 64, "steps": args.steps, "seed": 0}
    with tempfile.TemporaryDirectory() as temporary:
        scenes, noisy = Path(temporary, "scenes"), Path(temporary, "noisy")
        for k, path in enumerate(find_pictures(TRAINING)):
            rng = np.random.default_rng((1, k))
            for exposure in range(2 + k % 4):
                save(scenes / path.stem / f"{exposure}.png", expose(read_rgb(path), rng))
        tests = find_pictures(BSDS300 / "images/test")[:: max(1, 100 // args.pictures)]
        for k, path in enumerate(tests):
            save(noisy / f"{path.stem}.png", expose(read_rgb(path), np.random.default_rng((2, k))))

        train = ["train_model.py", "captured", scenes, "--epochs", args.epochs, "--batch", 8]
        train += ["--steps", args.steps, "--learning-rate", 1e-3, "--schedule", "cosine"]
        runs, restored = Path(temporary, "runs"), Path(temporary, "restored")
        use = ["infer.py", "captured", "scenes", "--models", runs, "--restore", noisy]
        for command in ([*train, "--output-dir", runs], [*use, "--output", restored]):
            subprocess.run([sys.executable, *map(str, command)], cwd=REPOSITORY, check=True)

        backend.set_precision("auto")
        keras.utils.set_random_seed(0)
        model = fuse(build_unet())
        rate = keras.optimizers.schedules.CosineDecay(1e-3, args.epochs * args.steps)
        model.compile(
            keras.optimizers.Adam(rate, BETA1, BETA2), "mse", jit_compile=backend.jit_compile()
        )
        batches = CleanTargets(training_scenes(scenes, 64)[0], **recipe)
        total = args.epochs * args.steps
        model.fit(batches, steps_per_epoch=total, shuffle=False, verbose=2)

        rows = []
        for path in tests:
            clean = read_rgb(path)
            before = read_picture(noisy / f"{path.stem}.png").color
            after = read_picture(restored / f"{path.stem}.png").color
            rows.append([psnr(p, clean) for p in (before, after, restore(model, before))])
    means = np.mean(rows, axis=0)
    for label, value in zip(("noisy", "captured", "clean targets"), means, strict=True):
        print(f"{label:14} {value:.2f} dB, mean of {len(rows)} pictures, {total} steps")
    print(f"captured is {means[2] - means[1]:+.2f} dB behind clean targets")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with (args.output_dir / "rehearsal.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("steps", "pictures", "noisy", "captured", "clean targets"))
        writer.writerow((total, len(rows), *(f"{value:.2f}" for value in means)))


if __name__ == "__main__":
    run_main(main)
