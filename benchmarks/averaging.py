"""Restore the mean of four exposures, or one of them, or all and then their mean: PSNR of each.

    python benchmarks/averaging.py        a minute

On every tenth of BSDS300's test pictures, as the rehearsal's microscope sees them, by the network
for grey pictures, as `infer.py --restore` does it.
"""

import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from rehearsal import MICROSCOPE

import infer
from noise2noise import ranges
from noise2noise.datasets import scored_paths
from noise2noise.errors import run_main
from noise2noise.networks import PRETRAINED
from noise2noise.picture import Picture
from noise2noise.restore import restore_picture

EXPOSURES = 4


def main() -> None:
    model = infer.load_model(PRETRAINED / "sensor-bsds300-grey.keras")

    def restored(pixels: np.ndarray) -> np.ndarray:
        return restore_picture(model, Picture(Path(), pixels, 1), ranges.measure([pixels]))

    scores = {}
    for index, path in enumerate(scored_paths("bsds300")[::10]):
        clean, rng = MICROSCOPE.see(path), np.random.default_rng(index)
        exposures = [MICROSCOPE.expose(clean, rng) for _ in range(EXPOSURES)]
        mean = np.mean(exposures, axis=0, dtype=np.float32)
        for name, pixels in {
            "one exposure": exposures[0],
            "restored": restored(exposures[0]),
            f"mean of {EXPOSURES}": mean,
            "the mean, restored": restored(mean),
            "the mean of the restored": np.mean([restored(e) for e in exposures], axis=0),
        }.items():
            scores.setdefault(name, []).append(MICROSCOPE.psnr(pixels, clean))
    for name, values in scores.items():
        print(f"{name:25} {np.mean(values):.2f} dB")


if __name__ == "__main__":
    run_main(main)
