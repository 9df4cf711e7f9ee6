"""Which recipe learns most in equal time: the trials behind train_model.py's --minutes.

    python benchmarks/recipes.py                    each for five minutes, one after the other
    python benchmarks/recipes.py muon adam --minutes 10
    python benchmarks/recipes.py --list             what each of them changes

Each trial is `train_model.py gaussian bsds300 --minutes N`, all but `muon` with 4 crops a step
instead of 8, and with one more thing changed in the recipe that --minutes plans with. Prints and
adds to a CSV file its minutes from the command to the model, its steps, and its dB on BSDS300's
test pictures, where CBM3D has 30.34, and on Kodak.
"""

import argparse
import csv
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import train_model
from noise2noise import plan, runs
from noise2noise.errors import run_main
from noise2noise.pairs import NoisyPairs

CROPS = 4  # a step, unless a trial says another; --minutes has 8
WARM_UP = 400  # steps


def unchanged() -> None:
    """Change nothing: --minutes as it is."""


def recipe(**options) -> None:
    """Change options that --minutes plans."""
    plan.BATCH = options.pop("batch", CROPS)
    plan.RECIPE |= options


adam = functools.partial(recipe, optimizer="adam")


def warm_up() -> None:
    """Let Adam's rate rise from 0 to where the cosine begins."""
    from noise2noise.backend import keras

    adam()
    cosine = keras.optimizers.schedules.CosineDecay
    keras.optimizers.schedules.CosineDecay = lambda rate, steps: cosine(
        0.0, max(1, steps - WARM_UP), warmup_target=rate, warmup_steps=WARM_UP
    )


def decoupled_decay() -> None:
    """Let Adam's weights decay (AdamW, Loshchilov and Hutter 2019)."""
    from noise2noise.backend import keras

    adam()
    adamw = keras.optimizers.AdamW
    keras.optimizers.Adam = lambda rate, *betas, **options: adamw(rate, 1e-2, *betas, **options)


def larger_batches() -> None:
    """End on four times as many crops a step instead of a quarter as many of twice the size."""
    adam()
    NoisyPairs.size = lambda self, number: self.crop_size
    NoisyPairs.crops = lambda self, number, usual: (
        range(4 * usual.start, 4 * usual.stop) if self._is_large(number) else usual
    )
    # --minutes takes these steps to last as long as others do.
    planned = plan.length
    longer = 1 + 3 * plan.RECIPE["large_crops"]
    plan.length = lambda seconds, *others: planned(seconds / longer, *others)


def scaled(low: float, high: float) -> None:
    """Cut crops from pictures scaled by U(low, high)."""
    recipe()
    cut = NoisyPairs._cut

    def scaled_cut(self, rng, size, image):
        (crop,) = cut(self, rng, round(size / rng.uniform(low, high)), image)
        planes = [Image.fromarray(plane) for plane in np.moveaxis(crop, 2, 0)]
        resized = [np.asarray(p.resize((size, size), Image.Resampling.BICUBIC)) for p in planes]
        return [np.stack(resized, axis=2)]

    NoisyPairs._cut = scaled_cut


def generated() -> None:
    """Let a quarter of the pictures be generated ones."""
    from noise2noise.datasets import ImageFiles
    from noise2noise.deadleaves import dead_leaves

    recipe()
    opened = train_model.training_images

    def with_generated(*arguments):
        photos, validation = opened(*arguments)
        folder = Path(tempfile.mkdtemp())
        for i in range(len(photos) // 3):
            Image.fromarray(dead_leaves(np.random.default_rng(i), 400)).save(folder / f"{i}.png")
        return ImageFiles([*photos.paths, *sorted(folder.iterdir())]), validation

    train_model.training_images = with_generated


TRIALS: dict[str, Callable[[], None]] = {
    "muon": unchanged,
    "muon-4-crops": functools.partial(recipe, batch=CROPS),
    "adam": adam,
    "adam-warm-up": warm_up,
    "adamw": decoupled_decay,
    "adam-2e-3-clipped": functools.partial(adam, learning_rate=2e-3, clip_norm=2e-3),
    "adam-larger-batches-late": larger_batches,
    "muon-2e-3": functools.partial(recipe, learning_rate=2e-3),
    "muon-5e-4": functools.partial(recipe, learning_rate=5e-4),
    "muon-no-large-crops": functools.partial(recipe, large_crops=0.0),
    "muon-no-flat-areas": functools.partial(recipe, flat_areas=0.0),
    "muon-scaled-down": functools.partial(scaled, 0.5, 1.0),
    "muon-enlarged": functools.partial(scaled, 1.0, 1.6),
    "muon-generated": generated,
}


def trial(name: str, minutes: float) -> dict[str, str]:
    """Train in a process of its own, score what it leaves; return a row of the table."""
    from speed import machine

    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        command = [sys.executable, __file__, "--train", name, "gaussian", "bsds300"]
        command += ["--minutes", f"{minutes:g}", "--output-dir", folder, "--name", "run"]
        command += ["--workers", "0"]  # they would know nothing of what is changed here
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=sys.stderr)
        took = (time.monotonic() - begin) / 60
        settings = json.loads((Path(folder) / "run" / runs.SETTINGS).read_text())["settings"]
        scores = score(Path(folder) / "run" / runs.MODEL)
    steps = settings["epochs"] * settings["steps"]
    row = {"recipe": name, "planned minutes": f"{minutes:g}", "minutes": f"{took:.1f}"}
    row |= {"steps": str(steps), "crops a step": str(settings["batch"])}
    return row | {key: f"{dB:.2f}" for key, dB in scores.items()} | {"machine": machine()}


def score(path: Path) -> dict[str, float]:
    """Return a network's mean dB, by the sets' names."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["infer.py", "gaussian", "--models", path, "--score", "--output", folder]
        command = [sys.executable, *map(str, command)]
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=sys.stderr)
        with Path(folder, "scores.csv").open(newline="") as file:
            found = {row["pictures"]: float(row["PSNR"]) for row in csv.DictReader(file)}
    return {name: found[name] for name in ("bsds300", "kodak")}


def main() -> int | None:
    if sys.argv[1:2] == ["--train"]:
        TRIALS[sys.argv[2]]()
        del sys.argv[1:3]
        return train_model.main()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="trials (default: all)")
    add("--minutes", type=float, default=5, help="of each (%(default)s)")
    add("--csv", type=Path, default=REPOSITORY / "results/recipes.csv", help="(%(default)s)")
    add("--list", action="store_true", help="say what each trial changes")
    args = parser.parse_args()
    if unknown := set(args.names) - set(TRIALS):
        parser.error(f"no such trial: {', '.join(sorted(unknown))} (--list shows them)")
    for name in args.names or TRIALS:
        if args.list:
            made = TRIALS[name]
            options = getattr(made, "keywords", {}) or getattr(made, "args", ())
            print(f"{name:26} {options or made.__doc__.splitlines()[0]}")
            continue
        row = trial(name, args.minutes)
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        with args.csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
    return 0


if __name__ == "__main__":
    run_main(main)
