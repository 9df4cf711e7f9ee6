"""Why a network with noisy targets ends a little behind its twin with clean ones.

    python benchmarks/target_noise.py              both measurements, to results/target-noise-*.csv
    python benchmarks/target_noise.py --batches 10 --pictures 5 --output-dir quick   a look

Scatter: two networks that differ in their seed only err alike in part. Half the mean square of
their difference is what the seed's chance adds to the error of one; the rest both have in
common. If noise on the targets scattered the weights, the scatter would be greater.

Gradients: Adam divides each step by the root mean square of the gradient. Noise on the targets
adds to that and not to the gradient's mean, so that each step goes less far. On the same crops
and inputs, at the trained network, this takes the ratio of the two, the median over the weights.
Bernoulli's weights scale the mean too, by the share of the pixels kept: that is divided out.
Beside it the norm of a step's gradient with noisy targets, the median and the largest.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from study import ADAM, home

import infer
from data import NoisyDataset
from model import load_unet
from noise2noise import metrics
from noise2noise.datasets import scored_paths, training_images
from noise2noise.errors import InputError, run_main
from noise2noise.filters import FILTERS
from noise2noise.fused import fuse
from noise2noise.images import read_rgb
from noise2noise.tiles import restore_image

TARGETS = {"noisy": "", "clean": "-clean"}
SEEDS = (1, 2)
BATCH, CROP = 4, 64  # the study's


def trained(name: str) -> Path:
    """Return where one of the study's networks is; `InputError` says which command trains it."""
    if not home(name).exists():
        raise InputError(f"{name} is not trained: python benchmarks/study.py {name}")
    return home(name)


def measure_scatter(count: int) -> list[tuple]:
    """Return, per kind of targets, the error, the seed's part of it, the rest, and both in dB."""
    filter = FILTERS["gaussian"]
    paths = scored_paths("bsds300")
    rows = []
    for targets, suffix in TARGETS.items():
        names = [f"gaussian-bsds300{suffix}-seed{seed}" for seed in SEEDS]
        pair = [infer.load_model(trained(name)) for name in names]
        values = []
        for index in range(0, len(paths), -(-len(paths) // count)):
            clean = read_rgb(paths[index])
            noisy = metrics.corrupt_for_score(filter, clean, index)
            one, other = (np.clip(restore_image(network, noisy), 0, 1) for network in pair)
            error = np.mean([np.mean((output - clean / 255) ** 2) for output in (one, other)])
            scatter = np.mean((one - other) ** 2) / 2
            values.append((error, scatter, error - scatter))
        error, scatter, common = np.transpose(values)
        decibels = [-10 * np.log10(part).mean() for part in (error, common)]
        means = [f"{1e5 * part.mean():.2f}" for part in (error, scatter, common)]
        rows.append((targets, *means, *(f"{value:.3f}" for value in decibels)))
        print(*rows[-1], flush=True)
    return rows


def measure_gradients(name: str, batches: int) -> tuple:
    """Return the filter, how much larger noise on its targets makes Adam's denominator, norms."""
    import tensorflow as tf

    network = fuse(load_unet(trained(ADAM[name])))
    training, _ = training_images("bsds300", CROP, 0)

    @tf.function
    def gradients(noisy, target, weights):
        with tf.GradientTape() as tape:
            error = tf.reduce_mean((network(noisy) - target) ** 2, axis=-1)
            loss = tf.reduce_mean(error * weights)
        return tape.gradient(loss, network.trainable_variables)

    squares, kept, norms = [], [], []
    for clean in (False, True):
        options = {"batch_size": BATCH, "crop_size": CROP, "clean_targets": clean}
        pairs = NoisyDataset(training, FILTERS[name], steps=batches, **options)
        total = 0
        for noisy, target, *weights in (pairs[i] for i in range(batches)):
            weights = weights[0] if weights else np.ones(noisy.shape[:3], np.float32)
            flat = [tf.reshape(g, -1) for g in gradients(noisy, target, weights)]
            square = tf.concat(flat, 0).numpy().astype(np.float64) ** 2
            total += square
            if not clean:
                kept.append(weights.mean())
                norms.append(np.sqrt(square.sum()))
        squares.append(total)
    with_noise, without = squares
    moved = without > 0
    ratio = np.median(np.sqrt(with_noise[moved] / without[moved])) / np.mean(kept)
    row = name, f"{ratio:.2f}", f"{np.median(norms):.4f}", f"{max(norms):.4f}"
    print(*row, flush=True)
    return row


def write(path: Path, *rows: tuple) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    print(f"saved {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pictures", type=int, default=25, help="of BSDS300's test set (%(default)s)")
    add("--batches", type=int, default=200, help="of 4 crops (%(default)s)")
    add("--output-dir", type=Path, default=REPOSITORY / "results", metavar="DIR")
    args = parser.parse_args()
    columns = ("targets", "error", "scatter", "in common", "PSNR", "PSNR of what is in common")
    write(args.output_dir / "target-noise-scatter.csv", columns, *measure_scatter(args.pictures))
    rows = [measure_gradients(name, args.batches) for name in ("gaussian", "poisson", "bernoulli")]
    columns = ("filter", "ratio", "median norm", "largest norm")
    write(args.output_dir / "target-noise-gradients.csv", columns, *rows)


if __name__ == "__main__":
    run_main(main)
