"""The study: does noise on the targets change what the network learns? Every run of it.

    python benchmarks/study.py                 what is not trained yet, one run after the other
    python benchmarks/study.py --list          what there is to train, and what is done
    python benchmarks/study.py gaussian-bsds300-19200 gaussian-bsds300-19200-clean

Each run is a plain `train_model.py`. Those that are compared have one recipe and one number of
steps, so that only what their names say differs. Killed and started again it goes on. A finished
run's network stays in runs/, one that users want goes to pretrained/ too, with float16 weights;
its history goes to results/histories/.
"""

import argparse
import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from noise2noise import runs
from noise2noise.choice import BY_NOISE

RECIPE = "--epochs 20 --steps 400 --batch 4 --learning-rate 1e-3 --schedule cosine"
LITERAL = "--epochs 20 --steps 400 --batch 4"  # the report's constant 1e-4
FILTERS = ("gaussian", "poisson", "bernoulli", "text")
# Where the targets say less it takes more steps for noisy ones to come as far as clean ones.
POISSON = RECIPE.replace("--epochs 20 --steps 400", "--epochs 14 --steps 1000")
# At 1e-3 Bernoulli's loss leaps now and then, by a hundredfold.
BERNOULLI = POISSON.replace("--epochs 14", "--epochs 10").replace("1e-3", "5e-4")
TEXT = POISSON.replace("--epochs 14", "--epochs 8")
RECIPES = {"gaussian": RECIPE, "poisson": POISSON, "bernoulli": BERNOULLI, "text": TEXT}

# On a GPU (an H100 takes 5 ms a step): the networks that are shipped, and a pair with fewer steps.
GPU = "--epochs 20 --batch 64 --optimizer muon --learning-rate 1e-3 --schedule cosine"
GPU = f"{GPU} --large-crops 0.15 --steps"
RUNS = {
    "gaussian-bsds300": f"gaussian bsds300 {GPU} 1600 --flat-areas 0.125",
    "poisson-bsds300": f"poisson bsds300 {GPU} 480",
    "bernoulli-bsds300": f"bernoulli bsds300 {GPU} 1000 --flat-areas 0.25",
    "text-bsds300-l1": f"text bsds300 {GPU} 1000 --loss l1",
    "gaussian-bsds300-19200": f"gaussian bsds300 {GPU} 960",
    "gaussian-bsds300-19200-clean": f"gaussian bsds300 {GPU} 960 --clean-targets",
    # Eight times the crops and larger ones, all that 370 s of an H100 alone gave.
    "gaussian-bsds300-15520": f"gaussian bsds300 {GPU} 776 --batch 128 --crop 128 "
    "--large-crops 0.25 --flat-areas 0.125",
}
# On CPUs, in steps of 4 crops: the same with Adam, and text.
ADAM = {filter: f"{filter}-bsds300-adam" for filter in FILTERS} | {"text": "text-bsds300"}
for filter, name in ADAM.items():
    RUNS[name] = f"{filter} bsds300 {RECIPES[filter]}"
    RUNS[f"{name}-clean"] = f"{RUNS[name]} --clean-targets"
RUNS |= {
    "text-bsds300-l1-adam": f"{RUNS['text-bsds300']} --loss l1",
    "text-bsds300-l1-adam-clean": f"{RUNS['text-bsds300']} --loss l1 --clean-targets",
}
for filter in FILTERS:
    RUNS[f"{filter}-kodak"] = f"{filter} kodak --minutes 30"
# The ones for people's own pictures: long, each from a network that has seen pictures already.
CAMERA = "--optimizer muon --steps 1000 --batch 4 --learning-rate 5e-4 --schedule cosine"
RUNS["camera-bsds300"] = (
    f"camera bsds300 {CAMERA} --epochs 76 --start-from runs/{ADAM['gaussian']}/model.keras"
)
RUNS["camera-bsds300-grey"] = (
    f"camera bsds300 --grey {CAMERA} --epochs 60 --start-from pretrained/camera-bsds300.keras"
)
RUNS |= {"gaussian-deadleaves": f"gaussian deadleaves {RECIPE}"}
RUNS |= {"gaussian-bsds300-literal": f"gaussian bsds300 {LITERAL}"}
RUNS |= {
    f"gaussian-bsds300-{precision}": f"gaussian bsds300 {RECIPE} --precision {precision}"
    for precision in ("float32", "bfloat16")
}
for seed in (1, 2):
    for clean in ("", "-clean"):
        adam = RUNS[f"{ADAM['gaussian']}{clean}"]
        RUNS[f"gaussian-bsds300{clean}-seed{seed}"] = f"{adam} --seed {seed}"
# As many more steps as noise on the targets makes Adam's shorter (target_noise.py).
RUNS["gaussian-bsds300-seed1-27epochs"] = f"{RUNS['gaussian-bsds300-seed1']} --epochs 27"
# Or the rate as much higher.
for name in ("gaussian-bsds300-seed1", "gaussian-bsds300-seed2"):
    RUNS[f"{name}-rate"] = f"{RUNS[name]} --learning-rate 1.33e-3"
RUNS["poisson-bsds300-rate"] = f"poisson bsds300 {POISSON} --learning-rate 1.33e-3"
# Trained further from where they end, the rate up again and falling to 0 once more, on other
# crops and noise, as many steps to an epoch as before. Bernoulli's leaps are from single steps
# whose gradient is twenty times the usual: with those scaled down it bears the higher rate.
FURTHER = {
    "gaussian-bsds300-adam": ["--epochs 60 --learning-rate 1e-3 --seed 1"],
    "poisson-bsds300-adam": ["--epochs 10 --learning-rate 5e-4 --seed 1"],
    "bernoulli-bsds300-adam": [
        "--epochs 14 --learning-rate 5e-4 --seed 1",
        "--epochs 30 --learning-rate 1e-3 --clip-norm 0.01 --seed 2",
    ],
    "text-bsds300": ["--epochs 16 --learning-rate 1e-3 --seed 1"],
    "text-bsds300-l1-adam": ["--epochs 16 --learning-rate 1e-3 --seed 1"],
}
FURTHER |= {f"{name}-clean": options for name, options in FURTHER.items()}
# On crops of 64 pixels the innermost layers see 2x2 values and the padding around them: trained so
# for long, a network breaks down on larger pictures that are flat. The end is on larger crops.
LARGE_CROPS = "--crop 256 --batch 1 --optimizer adam --learning-rate 2e-4 --clip-norm 0.1"
# So have larger crops from the beginning, for what is known of grain and weak noise. (At 4e-4 a
# single step of the grey network's lost it a decibel for some epochs.)
LARGER = "--crop 128 --steps 250 --large-crops 0.15"
# For noise of each pixel's own, from the network that knows white noise best.
SENSOR = f"{LARGER} --batch 4 --optimizer muon --schedule cosine --learning-rate 4e-4"
SENSOR = f"{SENSOR} --clip-norm 0.05 --start-from pretrained/gaussian-bsds300.keras --epochs"
RUNS["sensor-bsds300"] = f"sensor bsds300 {SENSOR} 32"
RUNS["sensor-bsds300-grey"] = f"sensor bsds300 --grey {SENSOR} 50"
# The last stage was the first to see specimens, of few photons on black.
SPECIMENS = "--epochs 12 --learning-rate 3e-4 --seed 2"
FURTHER["sensor-bsds300"] = [SPECIMENS]
FURTHER["sensor-bsds300-grey"] = ["--epochs 22 --seed 1", SPECIMENS]
# Then scenes are drawn, too: night skies, and in the last two stages pages.
DRAWN = f"{LARGER} --learning-rate 3e-4 --clip-norm 0.05 --seed 7 --epochs"
FURTHER["camera-bsds300"] = [
    f"{LARGE_CROPS} --epochs 20 --steps 500",
    f"{LARGER} --epochs 48 --learning-rate 4e-4 --seed 5",
    f"{DRAWN} 12",
    f"{DRAWN} 24",
    f"{DRAWN} 20 --seed 8",
]
FURTHER["camera-bsds300-grey"] = [
    f"{LARGE_CROPS} --epochs 14 --steps 500",
    f"{LARGER} --epochs 28 --learning-rate 3e-4 --clip-norm 0.05 --seed 6",
    f"{DRAWN} 12",
    f"{DRAWN} 24",
    f"{DRAWN} 20 --seed 8",
]
# Shipped is the weighted mean of its weights in the end, this share, and of those after a stage: it
# has most of what came with grain, skies, pages or specimens, and little of what they cost.
MEANS = {
    "camera-bsds300": (0.75, "camera-bsds300-stage2"),
    "sensor-bsds300": (0.75, "sensor-bsds300-stage1"),
    "sensor-bsds300-grey": (0.75, "sensor-bsds300-grey-stage2"),
}
# Photographs have little that is quite black, which came out dark green.
FURTHER["text-bsds300-l1"] = [
    "--optimizer adam --batch 16 --epochs 3 --steps 120 --learning-rate 3e-5 --large-crops 0 "
    "--flat-areas 0.25 --seed 2"
]
FURTHER["poisson-bsds300"] = [
    "--crop 128 --batch 8 --epochs 80 --steps 100 --learning-rate 4e-4 --large-crops 0 "
    "--flat-areas 0.125"
]
# The report's eight, text as the paper trains it, and the cameras'; the others are for comparison.
SHIPPED = [f"{filter}-{dataset}" for filter in FILTERS for dataset in ("bsds300", "kodak")]
SHIPPED += ["text-bsds300-l1", *BY_NOISE.values()]


def home(name: str) -> Path:
    """Return where a run's network is, once it is trained."""
    return REPOSITORY / "runs" / name / runs.MODEL


def stages(name: str) -> dict[str, list[str]]:
    """Return the arguments of each train_model.py of a run, by the name of its folder."""
    further = FURTHER.get(name, [])
    folders = [*(f"{name}-stage{i}" for i in range(1, len(further) + 1)), name]
    arguments = {folders[0]: RUNS[name].split()}
    for before, folder, options in zip(folders, folders[1:], further, strict=False):
        start = ["--start-from", f"runs/{before}/model.keras"]
        arguments[folder] = [*RUNS[name].split(), *options.split(), *start]
    return arguments


def join_histories(sources: list[Path], target: Path) -> None:
    """Write the histories of a run's stages as one, its epochs counted on."""
    rows = []
    for source in sources:
        with source.open(newline="") as file:
            before = len(rows)
            rows += [row | {"epoch": before + int(row["epoch"])} for row in csv.DictReader(file)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def pack(source: Path, target: Path, before: Path, share: float) -> None:
    """Copy a .keras file, its weights as float16: half the bytes, 0.001 dB of a picture's score.

    The network itself stays float32, so whoever loads the file has float32 weights again. The
    weights of `before` have the rest of `share` in a weighted mean.
    """
    with zipfile.ZipFile(source) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(before) as file:
        earlier = io.BytesIO(file.read("model.weights.h5"))
    halved = io.BytesIO()
    newest = io.BytesIO(members["model.weights.h5"])
    with h5py.File(newest) as old, h5py.File(earlier) as others, h5py.File(halved, "w") as new:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                weights = item[()]
                if share != 1 and weights.dtype.kind == "f":
                    weights = share * weights + (1 - share) * others[name][()].astype(weights.dtype)
                made = new.create_dataset(name, data=weights.astype("float16"))
            else:
                made = new.create_group(name)
            made.attrs.update(item.attrs)

        old.visititems(copy)
    members["model.weights.h5"] = halved.getvalue()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, contents in members.items():
            file.writestr(zipfile.ZipInfo(name), contents, zipfile.ZIP_DEFLATED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs (default: all)")
    parser.add_argument(
        "--list", action="store_true", help="list the runs and whether they are done"
    )
    args = parser.parse_args()
    unknown = set(args.names) - set(RUNS)
    if unknown:
        parser.error(f"no such run: {', '.join(sorted(unknown))} (--list shows them)")
    for name in args.names or RUNS:
        if args.list:
            done = "done" if home(name).exists() else "-"
            for folder, arguments in stages(name).items():
                print(f"{done:5} {folder:32} train_model.py {' '.join(arguments)}")
            continue
        if home(name).exists():
            print(f"{name} is done: delete {home(name).parent} to train it again", flush=True)
            continue
        for folder, arguments in stages(name).items():
            command = [sys.executable, "train_model.py", *arguments, "--name", folder]
            code = subprocess.run(command, cwd=REPOSITORY).returncode
            if code:
                return code
        join_histories(
            [REPOSITORY / "runs" / folder / "history.csv" for folder in stages(name)],
            REPOSITORY / f"results/histories/{name}.csv",
        )
        if name in SHIPPED:
            share, stage = MEANS.get(name, (1.0, name))
            pack(home(name), REPOSITORY / f"pretrained/{name}.keras", home(stage), share)
        print(f"{name} is done: {home(name)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
