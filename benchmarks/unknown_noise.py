"""Which model to take for a photo of unknown noise: each one on noises it was not trained for.

    python benchmarks/unknown_noise.py                          gaussian-bsds300, poisson-bsds300
    python benchmarks/unknown_noise.py gaussian-kodak captured-scenes

White noise, and sensor noise that grows with the light, on every eighth of BSDS300's test
pictures, saved with 8 bits as photos are. Prints mean PSNR.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import infer
from noise2noise import metrics
from noise2noise.datasets import scored_paths
from noise2noise.errors import run_main
from noise2noise.images import read_rgb
from noise2noise.restore import restore

NOISES = {  # name: variance at brightness x in [0, 1]
    "white, sigma 15": lambda x: (15 / 255) ** 2,
    "white, sigma 40": lambda x: (40 / 255) ** 2,
    "sensor, variance 0.01 x + 0.02^2": lambda x: 0.01 * x + 0.02**2,
    "sensor, variance 0.04 x + 0.01^2": lambda x: 0.04 * x + 0.01**2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["gaussian-bsds300", "poisson-bsds300"])
    args = parser.parse_args()
    models = {}
    for name in args.names:
        (trained, *_) = infer.find_models(*name.split("-", 1))
        models[name] = infer.load_model(trained.path)
    for label, variance in NOISES.items():
        rows = []
        for index, path in list(enumerate(scored_paths("bsds300")))[::8]:
            clean = read_rgb(path)
            x = clean / 255
            noise = np.random.default_rng(index).normal(size=x.shape) * np.sqrt(variance(x))
            noisy = metrics.to_8bit(x + noise)
            outputs = [noisy, *(restore(model, noisy) for model in models.values())]
            rows.append([metrics.psnr(output, clean) for output in outputs])
        means = zip(("noisy", *models), np.mean(rows, axis=0), strict=True)
        print(f"{label:34}", *(f"{name} {value:.2f}" for name, value in means), sep="  ")


if __name__ == "__main__":
    run_main(main)
