"""Star fields restored: what is left of the noise, and of the stars' light.

    python benchmarks/stars.py [NETWORK.keras ...]        ten seconds

Bright: sky of 500 electrons, read noise 8, 40 stars of up to 40,000; mean error where the sky is
dark and root mean square of all, before and after. Faint: sky of 200, read noise 5, stars 48 pixels
apart; their light within 7 pixels less the median of a ring of 12 to 20, in parts of the true
light, and how much that varies from star to star. (Default: the shipped network for grey sensors.)
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import infer
from noise2noise import ranges
from noise2noise.errors import run_main
from noise2noise.networks import PRETRAINED
from noise2noise.picture import Picture
from noise2noise.restore import restore_picture

FIELDS = 4
ELECTRONS = (1000, 3000, 10_000, 30_000, 100_000)  # of a faint star in all
APART, IN_A_ROW = 48, 9


def star(shape, top: float, left: float, sigma: float) -> np.ndarray:
    """Return a star whose peak is 1."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.exp(-((y - top) ** 2 + (x - left) ** 2) / (2 * sigma**2))


def expose(sky: np.ndarray, read_noise: float, rng: np.random.Generator) -> np.ndarray:
    """Count a sky's electrons, in 16 bits."""
    counts = rng.poisson(sky) + rng.normal(scale=read_noise, size=sky.shape)
    return np.rint(counts).clip(0, 65535).astype(np.uint16)


def restored(model, noisy: np.ndarray) -> np.ndarray:
    picture = Picture(Path(), noisy[..., None], 1)
    return restore_picture(model, picture, ranges.measure([picture.pixels]))[..., 0].astype(float)


def bright(model) -> np.ndarray:
    """Return mean error in the dark and root mean square of all, before and after: (2, 2)."""
    found = []
    for seed in range(FIELDS):
        rng = np.random.default_rng(seed)
        sky = np.full((192, 192), 500.0)
        for _ in range(40):
            top, left = rng.uniform(0, 192, 2)
            sky += 10 ** rng.uniform(2, 4.6) * star(sky.shape, top, left, 1.7)
        noisy = expose(sky, 8, rng)
        errors = [image - sky for image in (noisy.astype(float), restored(model, noisy))]
        found.append([(np.abs(e[sky < 700]).mean(), np.mean(e**2) ** 0.5) for e in errors])
    return np.mean(found, axis=0)


def faint(model) -> np.ndarray:
    """Return of each of `ELECTRONS` the part of it found, and its deviation: (5, 2 + 2)."""
    lights = []
    for seed in range(FIELDS):
        rng = np.random.default_rng(seed)
        shape = APART * len(ELECTRONS), APART * IN_A_ROW
        sky, places = np.full(shape, 200.0), []
        for row, electrons in enumerate(ELECTRONS):
            for column in range(IN_A_ROW):
                place = APART * (np.array((row, column)) + 0.5) + rng.uniform(-2, 2, 2)
                sky += electrons / (2 * np.pi * 2.0**2) * star(shape, *place, 2.0)
                places.append(place)
        noisy = expose(sky, 5, rng)
        lights.append(
            [[light(image, p) for p in places] for image in (noisy, restored(model, noisy))]
        )
    parts = np.array(lights).reshape(FIELDS, 2, len(ELECTRONS), IN_A_ROW)
    parts = parts.transpose(2, 1, 0, 3).reshape(len(ELECTRONS), 2, -1)
    parts /= np.array(ELECTRONS)[:, None, None]
    return np.stack((parts.mean(axis=2), parts.std(axis=2)), axis=2).reshape(len(ELECTRONS), 4)


def light(image: np.ndarray, place) -> float:
    """Return a star's light, less the sky's."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(y - place[0], x - place[1])
    inside, ring = distance <= 7, (distance >= 12) & (distance <= 20)
    return float(image[inside].sum() - inside.sum() * np.median(image[ring]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shipped = PRETRAINED / "sensor-bsds300-grey.keras"
    parser.add_argument("networks", nargs="*", type=Path, default=[shipped])
    for path in parser.parse_args().networks:
        model = infer.load_model(path)
        print(path)
        (dark, rms), (dark_after, rms_after) = bright(model)
        print(
            f"bright: in the dark {dark:.1f} to {dark_after:.1f}, all {rms:.1f} to {rms_after:.1f}"
        )
        for electrons, parts in zip(ELECTRONS, faint(model), strict=True):
            noisy, after = (f"{mean:.2f} +- {std:.2f}" for mean, std in parts.reshape(2, 2))
            print(f"{electrons:7} electrons: {noisy}, restored {after}")


if __name__ == "__main__":
    run_main(main)
