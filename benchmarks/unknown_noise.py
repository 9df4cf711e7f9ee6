"""What to expect of a network: PSNR before and after, on noises that people's pictures have.

    python benchmarks/unknown_noise.py                    what `infer.py --restore` picks, and each
    python benchmarks/unknown_noise.py captured-scenes --csv FILE
    python benchmarks/unknown_noise.py --coarse           as by infer.py --coarse

On every tenth of BSDS300's test pictures, saved with 8 bits as photos are. White noise has
sigma 25, on the mosaic too; the truth of a mosaic is the clean picture, demosaiced likewise. The
row "none" is harm: Kodak's pictures as they are, against themselves. The last line says how much
darker or lighter flat areas of white noise come out, at most. "On pages" is on text in fonts that
no training drew, "on black" cells as a microscope's detector counts them. Networks for grey
pictures are shown grey ones only. Local means are kept, as infer.py --restore does it. "picked"
stands for the network that it picks for each picture.
"""

import argparse
import csv
import io
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import infer
from noise2noise import images, metrics
from noise2noise.camera import demosaic, mosaic
from noise2noise.choice import BY_NOISE, look_at_noise, networks_to_restore_with
from noise2noise.datasets import scored_paths
from noise2noise.errors import run_main
from noise2noise.images import read_rgb
from noise2noise.networks import PRETRAINED, find_models
from noise2noise.picture import Picture
from noise2noise.ranges import to_8bit
from noise2noise.restore import restore_picture
from noise2noise.tiles import restore_image

SIGMA = 25
PICKED = "picked"
FLAT = (0.1, 0.3, 0.5, 0.7, 0.9)
FONTS = ("cmr10", "cmss10", "cmtt10")  # Matplotlib's


def white(image: np.ndarray, rng: np.random.Generator, sigma: float = SIGMA) -> np.ndarray:
    """Add noise to an image in [0, 1]."""
    return image + rng.standard_normal(image.shape, np.float32) * np.float32(sigma / 255)


def alike(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise that the colours share, as of a scan that was tinted."""
    return image + white(np.zeros((*image.shape[:2], 1), np.float32), rng)


def grain(image: np.ndarray, rng: np.random.Generator, channels: int | None = None) -> np.ndarray:
    """Add noise as of scanned film, smoothed by a Gaussian of one pixel.

    Of 1 channel it is the same in all colours, as in prints without any and in brightness alone.
    """
    shape = (*image.shape[:2], channels or image.shape[2])
    noise = gaussian_filter(rng.standard_normal(shape, np.float32), (1, 1, 0))
    return image + noise / noise.std() * np.float32(SIGMA / 255)


def sensor(image, rng, a: float, b: float) -> np.ndarray:
    """Add noise of the variance a x + b at brightness x."""
    return image + rng.standard_normal(image.shape) * np.sqrt(a * image + b)


def bayer(image: np.ndarray) -> np.ndarray:
    return demosaic(mosaic(image, (0, 0)), (0, 0), "bilinear")


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(to_8bit(image)).save(file, "JPEG", quality=90)
    return np.asarray(Image.open(file)) / np.float32(255)


def page(image: np.ndarray) -> np.ndarray:
    """Return a page of an image's size, of random letters of 9 to 22 pixels."""
    import matplotlib

    rng = np.random.default_rng(int(to_8bit(image).sum()))  # another for each image
    font = Path(matplotlib.get_data_path()) / f"fonts/ttf/{rng.choice(FONTS)}.ttf"
    size = int(rng.integers(9, 23))
    letters = rng.choice(list("etaoinshrdlu     "), (image.shape[0] // size, image.shape[1] // 4))
    paper, ink = ((250, 245, 235), (30, 20, 40))[:: 1 if rng.random() < 0.7 else -1]
    drawn = Image.new("RGB", image.shape[1::-1], paper)
    lines = "\n".join(map("".join, letters))
    ImageDraw.Draw(drawn).text((4, 4), lines, ink, ImageFont.truetype(font, size))
    return np.asarray(drawn) / np.float32(255)


def cells(image: np.ndarray) -> np.ndarray:
    """Return what glows on black, grey, of an image's size: ovals and spots, no brighter than 0.5.

    Another for each image.
    """
    rng = np.random.default_rng(int(to_8bit(image).sum()))
    height, width = image.shape[:2]
    drawn = Image.new("F", (width, height))
    for _ in range(height * width // 3000):
        x, y, a, b = *rng.random(2) * (width, height), *rng.uniform(1, 20, 2)
        ImageDraw.Draw(drawn).ellipse((x - a, y - b, x + a, y + b), rng.uniform(0.05, 0.5))
    return gaussian_filter(np.asarray(drawn), 1.1)[..., None]


def photons(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Count the photons of an image, 20 at 1."""
    return rng.poisson(20 * image) / 20


def as_grey(image: np.ndarray) -> np.ndarray:
    return images.luminance(to_8bit(image)) / np.float32(255)


def grey_page(image: np.ndarray) -> np.ndarray:
    return as_grey(page(image))


KINDS: dict[str, tuple[Callable, Callable]] = {  # name: what is corrupted, and how
    "white": (np.asarray, white),
    "white, sigma 15": (np.asarray, partial(white, sigma=15)),
    "white, sigma 40": (np.asarray, partial(white, sigma=40)),
    "sensor, variance 0.01 x + 0.02^2": (np.asarray, partial(sensor, a=0.01, b=0.02**2)),
    "sensor, variance 0.04 x + 0.01^2": (np.asarray, partial(sensor, a=0.04, b=0.01**2)),
    "white, the same in all colours": (np.asarray, alike),
    "white, on a grey picture": (as_grey, white),
    "grain": (np.asarray, grain),
    "grain, the same in all colours": (np.asarray, partial(grain, channels=1)),
    "grain, on a grey picture": (as_grey, grain),
    "white, on pages": (page, white),
    "white, on grey pages": (grey_page, white),
    "10 photons at the brightest, on black": (cells, photons),
    "white, then JPEG quality 90": (np.asarray, lambda x, rng: jpeg(white(x, rng))),
    "white, on a mosaic": (bayer, lambda x, rng: bayer(white(x, rng))),
    "white, on a mosaic, then JPEG": (bayer, lambda x, rng: jpeg(bayer(white(x, rng)))),
}
GREY = as_grey, grey_page, cells


def expect(model, coarse: bool = False) -> dict[str, np.ndarray]:
    """Return (PSNR before, PSNR after) of each kind of noise, and of none."""
    grey = model.output_shape[-1] == 1
    kinds = {name: kind for name, kind in KINDS.items() if kind[0] in GREY or not grey}
    rows = {name: [] for name in (*kinds, "none")}
    for index, path in list(enumerate(scored_paths("bsds300")))[::10]:
        original = read_rgb(path) / np.float32(255)
        for name, (prepare, corrupt) in kinds.items():
            image = prepare(original)
            noisy = to_8bit(
                # The mosaic is that of the noisy scene, not of the demosaiced one.
                corrupt(original if prepare is bayer else image, np.random.default_rng(index))
            )
            rows[name].append(before_and_after(model, noisy, to_8bit(image), coarse))
    for path in scored_paths("kodak"):
        image = images.luminance(read_rgb(path)) if grey else read_rgb(path)
        rows["none"].append(before_and_after(model, image, image, coarse))
    return {name: np.mean(values, axis=0) for name, values in rows.items()}


class Picked:
    """Whichever of the shipped networks `infer.py --restore` takes for a picture."""

    output_shape = (None, None, None, 3)

    def __init__(self):
        self._networks = networks_to_restore_with(None, None, [PRETRAINED])
        self._models = {t: infer.load_model(t.path) for t in {*self._networks.values()}}

    def for_picture(self, picture: Picture):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.png")
            Image.fromarray(picture.pixels.squeeze()).save(path)
            with images.open_file(path) as file:
                independent, shared = look_at_noise(file)
                return self._models[self._networks[picture.grey or shared, independent]]


def before_and_after(
    model, noisy: np.ndarray, true: np.ndarray, coarse: bool
) -> tuple[float, float]:
    picture = Picture(Path(), noisy, noisy.shape[2])
    if isinstance(model, Picked):
        model = model.for_picture(picture)
    restored = restore_picture(model, picture, coarse=coarse)
    return metrics.psnr(noisy, true), metrics.psnr(restored, true)


def flat_error(model) -> float:
    """Return how far the mean of flat noisy areas is off once they are restored, relative to it."""
    errors = []
    for value in FLAT:
        noise = np.random.default_rng(0).standard_normal((256, 256, model.output_shape[-1]))
        noisy = np.float32(value + noise * SIGMA / 255)
        restored = restore_image(model, noisy, keep_means=True)
        errors.append(abs(float(restored.mean() / noisy.mean()) - 1))
    return max(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [PICKED, "gaussian-bsds300", *BY_NOISE.values()]
    parser.add_argument("names", nargs="*", default=names, help="of networks")
    parser.add_argument("--coarse", action="store_true", help="as by infer.py --coarse")
    parser.add_argument("--csv", type=Path, help="a file for the table")
    args = parser.parse_args()
    models = {}
    for name in args.names:
        if name == PICKED:
            models[name] = Picked()
            continue
        (trained,) = find_models(*name.split("-", 1))
        models[name] = infer.load_model(trained.path)
    found = [expect(model, args.coarse) for model in models.values()]
    table = [("noise", "noisy", *models)]
    noisy = {kind: before for rows in reversed(found) for kind, (before, _) in rows.items()}
    for kind in (kind for kind in (*KINDS, "none") if kind in noisy):
        after = (f"{rows[kind][1]:.2f}" if kind in rows else "" for rows in found)
        table.append((kind, f"{noisy[kind]:.2f}", *after))
    errors = (
        "" if name == PICKED else f"{100 * flat_error(model):.2f}%"
        for name, model in models.items()
    )
    table.append(("error of a flat area's mean", "", *errors))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print(*(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), sep="  ")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    run_main(main)
