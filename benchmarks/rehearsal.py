"""Rehearsals on real files: learn from noisy exposures alone, restore, compare with hidden truth.

    python benchmarks/rehearsal.py                                 sensor: 4,000 steps, twice
    python benchmarks/rehearsal.py microscope single --batch 4     4,000 steps, three times
    python benchmarks/rehearsal.py alone                           10 minutes
    python benchmarks/rehearsal.py sensor single --minutes 30      as users train: three times 30
    python benchmarks/rehearsal.py microscope --epochs 2 --output-dir quick   a look

BSDS300's training pictures become scenes of 2 to 5 noisy exposures, its test pictures one noisy
exposure each. Then, as a user would type it, `train_model.py captured SCENES` and `infer.py
captured SCENES --restore`. The restored files are scored against the hidden clean pictures.

sensor: colours, 16-bit PNG. The noise is that of a sensor, stronger in brighter places, with a
black level that keeps it from being clipped; the training code is told nothing about it. Beside it
the same network trained for as long on clean targets, and what `infer.py --restore` makes of the
pictures with the network that it picks by itself, of those that are shipped.

microscope: grey stacks of 12-bit values in 16-bit TIFF, offset 100, Poisson noise of up to 100
electrons and read noise. Beside it the same.

single: the microscope's first exposure of each scene, `train_model.py single`, against its
captured network and the shipped one.

alone: one picture, the middle 512x512 of Kodak's lighthouse, grey, white noise, sigma 25, trained
on for --minutes and restored; the shipped network and BM3D, told sigma, beside it (the latter where
it is installed: `pip install bm3d`).

With --minutes clean targets, which want steps, are left out, and the CSV files have names of their
own. With --folder, files and networks stay there; networks and restored files are not made again.
"""

import argparse
import csv
import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from data import CapturedDataset
from model import build_unet
from noise2noise import backend
from noise2noise.backend import keras
from noise2noise.datasets import BSDS300, KODAK
from noise2noise.errors import run_main
from noise2noise.fused import fuse
from noise2noise.images import find_pictures, luminance, read_picture, read_rgb
from noise2noise.networks import PRETRAINED
from noise2noise.pairs import CapturedPairs
from noise2noise.restore import restore_picture
from noise2noise.scenes import training_scenes
from train_model import BETA1, BETA2

GAIN, READ_NOISE = 0.01, 0.02  # variance = GAIN x + READ_NOISE^2: 26/255 for white, 5/255 for black
REHEARSALS = {  # what is trained, and how it is called in tables
    "sensor": ("captured", "clean targets", "shipped"),
    "microscope": ("captured", "clean targets", "shipped"),
    "single": ("captured", "single", "shipped"),
    "alone": ("single", "shipped", "BM3D"),
}
ALONE_MINUTES = 10


@dataclass(frozen=True)
class Camera:
    """What makes files of hidden pictures: black, white and the last value are those in them."""

    grey: bool
    black: float
    white: float
    top: int
    suffix: str

    def see(self, path: Path) -> np.ndarray:
        """The hidden picture, (height, width, channels) in [0, 1]."""
        image = read_rgb(path)
        return (luminance(image) if self.grey else image) / 255

    def store(self, image: np.ndarray) -> np.ndarray:
        values = self.black + (self.white - self.black) * image
        return np.rint(np.clip(values, 0, self.top)).astype(np.uint16)

    def expose(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A noisy exposure; the grey camera counts electrons."""
        if self.grey:
            noisy = GAIN * rng.poisson(x / GAIN) + rng.normal(size=x.shape) * READ_NOISE
        else:
            noisy = x + rng.normal(size=x.shape) * np.sqrt(GAIN * x + READ_NOISE**2)
        return self.store(noisy)

    def psnr(self, pixels: np.ndarray, clean: np.ndarray) -> float:
        """dB of file values against the clean picture, on the scale of black to white."""
        error = (pixels.astype(float) - self.black) / (self.white - self.black) - clean
        return float(-10 * np.log10(np.mean(error**2)))


COLOUR = Camera(False, 0.1 * 65535, 0.8 * 65535, 65535, ".png")
MICROSCOPE = Camera(True, 100, 2100, 4095, ".tif")


def save(path: Path, pixels: np.ndarray) -> None:
    """Save a picture, or grey pages."""
    import OpenImageIO as oiio

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        oiio.ImageBuf(pixels).write(str(path))


class CleanPairs(CapturedPairs):
    """The same crops of the same inputs, with the hidden clean picture as the target."""

    def __init__(self, scenes, *arguments, **options):
        super().__init__(scenes, *arguments, **options)
        camera = MICROSCOPE if scenes.grey else COLOUR
        names = [Path(scene.name).stem for scene in scenes.scenes]
        folder = BSDS300 / "images/train"
        self._clean = [camera.store(camera.see(folder / f"{name}.jpg")) for name in names]

    def _pair(self, k, size, crop_rng, input_rng, target_rng):
        exposures = self.images[k]
        chosen = input_rng.choice(len(exposures), 2, replace=False)[0]
        return *self._cut(crop_rng, size, exposures[chosen], self._clean[k]), 1


class CleanTargets(CapturedDataset):
    kind = CleanPairs


class Rehearsal:
    """The files of a camera in a folder, and what was restored with which network."""

    def __init__(self, folder: Path, camera: Camera, args: argparse.Namespace):
        self.folder, self.camera, self.args = folder, camera, args
        self.noisy = folder / "noisy"
        self.done: dict[str, Path] = {}
        for k, path in enumerate(find_pictures(BSDS300 / "images/train")):
            rng = np.random.default_rng((1, k))
            image = camera.see(path)
            exposures = [camera.expose(image, rng) for _ in range(2 + k % 4)]
            if camera.grey:
                save(folder / "scenes" / f"{path.stem}.tif", np.stack(exposures)[..., 0])
                save(folder / "singles" / f"{path.stem}.tif", exposures[0][..., 0])
            else:
                for i, exposure in enumerate(exposures):
                    save(folder / "scenes" / path.stem / f"{i}.png", exposure)
        self.tests = find_pictures(BSDS300 / "images/test")[:: max(1, 100 // args.pictures)]
        for k, path in enumerate(self.tests):
            exposure = camera.expose(camera.see(path), np.random.default_rng((2, k)))
            save(self._file(path), exposure[..., 0] if camera.grey else exposure)

    def _file(self, path: Path, folder: Path | None = None) -> Path:
        return (folder or self.noisy) / f"{path.stem}{self.camera.suffix}"

    def mean(self, network: str | None) -> float:
        """Mean PSNR of the test pictures, restored by a network, or noisy."""
        folder = network and self.restored(network)
        return np.mean(
            [
                self.camera.psnr(self._read(self._file(path, folder)), self.camera.see(path))
                for path in self.tests
            ]
        )

    def _read(self, path: Path) -> np.ndarray:
        picture = read_picture(path)
        return picture.pixels if self.camera.grey else picture.color

    def restored(self, network: str) -> Path:
        """Return the folder of the pictures that a network restored, once it is trained."""
        if network not in self.done:
            output = self.folder / network
            if network == "clean targets":
                if not all(self._file(path, output).exists() for path in self.tests):
                    self._train_on_clean_targets(output)
            elif network == "shipped":
                restore_files(self.noisy, output, "--models", PRETRAINED)
            else:
                pictures = self.folder / ("scenes" if network == "captured" else "singles")
                train(network, pictures, self.folder / "runs", self.args)
                restore_files(
                    self.noisy, output, network, pictures.name, "--models", self.folder / "runs"
                )
            self.done[network] = output
        return self.done[network]

    def _train_on_clean_targets(self, output: Path) -> None:
        args = self.args
        scenes, _ = training_scenes(self.folder / "scenes", 64)
        channels = 1 if scenes.grey else 3
        recipe = {"batch_size": args.batch, "crop_size": 64, "steps": args.steps, "seed": 0}
        backend.set_precision("auto")
        keras.utils.set_random_seed(0)
        model = fuse(build_unet(channels, channels))
        rate = keras.optimizers.schedules.CosineDecay(1e-3, args.epochs * args.steps)
        model.compile(
            keras.optimizers.Adam(rate, BETA1, BETA2), "mse", jit_compile=backend.jit_compile()
        )
        batches = CleanTargets(scenes, channels=channels, **recipe)
        model.fit(batches, steps_per_epoch=args.epochs * args.steps, shuffle=False, verbose=2)
        for path in self.tests:
            pixels = restore_picture(model, read_picture(self._file(path)), scenes.span)
            save(self._file(path, output), pixels[..., 0] if self.camera.grey else pixels)


def run(*command) -> None:
    subprocess.run([sys.executable, *map(str, command)], cwd=REPOSITORY, check=True)


def train(kind: str, pictures: Path, runs: Path, args: argparse.Namespace) -> None:
    options = ["--epochs", args.epochs, "--steps", args.steps, "--batch", args.batch]
    options += ["--learning-rate", 1e-3, "--schedule", "cosine"]
    if args.minutes:
        options = ["--minutes", args.minutes]
    run("train_model.py", kind, pictures, "--output-dir", runs, *options)


def restore_files(pictures: Path, output: Path, *network) -> None:
    run("infer.py", *network, "--restore", pictures, "--output", output)


def rehearse_alone(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Train on one picture, restore it: PSNR before and after, in 8 bits, and of BM3D."""
    image = luminance(read_rgb(KODAK / "kodim19.png"))[128:640, :512, 0]
    noisy = np.float32(image + np.random.default_rng(0).normal(scale=25, size=image.shape))
    save(folder / "picture.tif", noisy)
    options = ["--minutes", args.minutes or ALONE_MINUTES, "--output-dir", folder / "runs"]
    run("train_model.py", "single", folder / "picture.tif", *options)
    use = ("single", "picture", "--models", folder / "runs")
    restore_files(folder / "picture.tif", folder / "single", *use)
    restore_files(folder / "picture.tif", folder / "shipped", "--models", PRETRAINED)
    restored = {
        kind: tifffile.imread(folder / kind / "picture.tif") for kind in ("single", "shipped")
    }
    images = {"noisy": noisy} | restored
    if importlib.util.find_spec("bm3d"):
        import bm3d

        images["BM3D"] = bm3d.bm3d(noisy / 255, 25 / 255) * 255
    rounded = {name: np.rint(np.clip(values, 0, 255)) for name, values in images.items()}
    errors = {name: np.mean((values - image) ** 2) for name, values in rounded.items()}
    return {name: 10 * np.log10(255**2 / error) for name, error in errors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("rehearsals", nargs="*", metavar="NAME", help=f"{', '.join(REHEARSALS)} (default: sensor)")
    add("--epochs", type=int, default=20)
    add("--steps", type=int, default=200)
    add("--batch", type=int, default=8)
    add("--pictures", type=int, default=50, help="to test on (%(default)s)")
    add("--minutes", type=float, help=f"instead of these, to train for (alone: {ALONE_MINUTES})")
    add("--folder", type=Path, help="for files and networks (default: a temporary one)")
    add("--output-dir", type=Path, default=REPOSITORY / "results", metavar="DIR")
    args = parser.parse_args()
    names = args.rehearsals or ["sensor"]
    if unknown := set(names) - set(REHEARSALS):
        parser.error(f"no rehearsal is called {unknown.pop()}")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    made: dict[Camera, Rehearsal] = {}  # microscope and single share files and a network
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        for name in names:
            pictures = 1
            if name == "alone":
                means = rehearse_alone(folder / name, args)
            else:
                camera = COLOUR if name == "sensor" else MICROSCOPE
                if camera not in made:
                    kind = "stacks" if camera.grey else "colour"
                    made[camera] = Rehearsal(folder / kind, camera, args)
                files, pictures = made[camera], len(made[camera].tests)
                means = {"noisy": files.mean(None)}
                means |= {
                    network: files.mean(network)
                    for network in REHEARSALS[name]
                    if not (args.minutes and network == "clean targets")
                }
            unit, length, file_name = "steps", args.epochs * args.steps, f"rehearsal-{name}"
            if name == "alone":
                unit, length = "minutes", args.minutes or ALONE_MINUTES
            elif args.minutes:
                unit, length, file_name = "minutes", args.minutes, f"{file_name}-minutes"
            for label, value in means.items():
                print(f"{name}: {label:16} {value:.2f} dB, mean of {pictures}, {length:g} {unit}")
            with (args.output_dir / f"{file_name}.csv").open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow((unit, "pictures", *means))
                writer.writerow(
                    (f"{length:g}", pictures, *(f"{value:.2f}" for value in means.values()))
                )


if __name__ == "__main__":
    run_main(main)
