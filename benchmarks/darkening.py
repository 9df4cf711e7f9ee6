"""Why the report's pictures came out dark: the same trainings with its causes put back.

    python benchmarks/darkening.py                                       six trainings on Kodak
    python benchmarks/darkening.py --steps 100 --output-dir quick   a look

The code that the report builds on cast noisy pictures to 8 bits on the way to the network,
where what is above 255 wraps round to black, and let dropped Bernoulli pixels count as
black targets. For each filter this trains the network as this project does and with those
causes, and measures the mean brightness of restored BSDS300 test pictures against the true
ones. Prints a table and writes darkening.csv and darkening.md.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from data import NoisyDataset
from model import build_unet
from noise2noise import backend, metrics
from noise2noise.backend import keras
from noise2noise.datasets import scored_paths, training_images
from noise2noise.errors import run_main
from noise2noise.filters import FILTERS
from noise2noise.images import read_rgb
from noise2noise.ranges import to_8bit
from noise2noise.tiles import restore_image

COLUMNS = ("filter", "training", "steps", "output / true brightness", "PSNR")


def cast(image: np.ndarray) -> np.ndarray:
    """What `(image * 255).astype(np.uint8)` did: fractions cut, the rest modulo 256."""
    return (image * 255).astype(np.int64).astype(np.uint8) / np.float32(255)


class EightBit(NoisyDataset):
    """Inputs and targets cast to 8 bits."""

    def __getitem__(self, i):
        inputs, targets, *weights = super().__getitem__(i)
        return cast(inputs), cast(targets), *weights


class NoMask(NoisyDataset):
    """Dropped pixels of the target count as black."""

    def __getitem__(self, i):
        return super().__getitem__(i)[:2]


VARIANTS = (
    ("gaussian", "as here", NoisyDataset),
    ("gaussian", "8-bit cast", EightBit),
    ("poisson", "as here", NoisyDataset),
    ("poisson", "8-bit cast", EightBit),
    ("bernoulli", "as here", NoisyDataset),
    ("bernoulli", "no mask", NoMask),
)


def measure(model, filter, kind, paths) -> tuple[float, float]:
    """Mean over pictures of output / true brightness, and PSNR in dB."""
    results = []
    for index, path in enumerate(paths):
        clean = read_rgb(path)
        noisy = metrics.corrupt_for_score(FILTERS[filter], clean, index)
        if kind is EightBit:  # such a network is also used so
            noisy = cast(noisy)
        output = to_8bit(restore_image(model, noisy))
        results.append((output.mean() / clean.mean(), metrics.psnr(output, clean)))
    return tuple(np.mean(results, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000, help="of each training (%(default)s)")
    parser.add_argument("--pictures", type=int, default=50, help="to measure on (%(default)s)")
    parser.add_argument("--output-dir", type=Path, default=REPOSITORY / "results", metavar="DIR")
    args = parser.parse_args()
    paths = scored_paths("bsds300")[:: max(1, 100 // args.pictures)]
    images, _ = training_images("kodak", 64, 0)
    backend.set_precision("auto")
    rows = []
    for filter, training, kind in VARIANTS:
        keras.utils.set_random_seed(0)
        model = build_unet()
        model.compile(
            keras.optimizers.Adam(1e-4, 0.9, 0.99), "mse", jit_compile=backend.jit_compile()
        )
        batches = kind(images, filter, batch_size=8, crop_size=64, steps=args.steps)
        model.fit(batches, steps_per_epoch=args.steps, shuffle=False, verbose=2)
        ratio, psnr = measure(model, filter, kind, paths)
        rows.append((filter, training, str(args.steps), f"{ratio:.3f}", f"{psnr:.2f}"))
        print(*rows[-1], flush=True)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with (args.output_dir / "darkening.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows((COLUMNS, *rows))
    lines = [" | ".join(("", *row, "")).strip() for row in (COLUMNS, ["---"] * 5, *rows)]
    (args.output_dir / "darkening.md").write_text("\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    run_main(main)
