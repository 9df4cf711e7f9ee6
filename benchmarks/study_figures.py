"""The study's figures, from its histories and networks: what noisy targets cost, if anything.

    python benchmarks/study_figures.py             all of them
    python benchmarks/study_figures.py curves      one: front, chart1, curves, sweep, details, ...

Writes to results/: front.png and camera.png (the README's), chart1.png (the report's), curves.png
(PSNR over training), sweep.csv and sweep.png (PSNR over the strengths of the noise, on every
twentieth of BSDS300's test pictures), details.png (parts of a picture at full size), and
covered.csv (what text covers, apart from the rest, on every fourth). Noisy- and clean-target
networks side by side.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from study import RUNS, home

import infer
from noise2noise import metrics, plots
from noise2noise.datasets import scored_paths
from noise2noise.errors import InputError, run_main
from noise2noise.filters import FILTERS
from noise2noise.images import read_rgb
from noise2noise.ranges import to_8bit
from noise2noise.tiles import restore_image

RESULTS = REPOSITORY / "results"
PAIRS = {  # panel: the filter, and the name that both networks share
    "gaussian": ("gaussian", "gaussian-bsds300-adam"),
    "poisson": ("poisson", "poisson-bsds300-adam"),
    "bernoulli": ("bernoulli", "bernoulli-bsds300-adam"),
    "text, L1": ("text", "text-bsds300-l1-adam"),
    "text, L2": ("text", "text-bsds300"),
}
TARGETS = {"noisy targets": "", "clean targets": "-clean"}
STRENGTHS = {
    "gaussian": (5, 10, 15, 20, 25, 30, 40, 50),
    "poisson": (2, 5, 10, 20, 30, 40, 50),
    "bernoulli": (0.1, 0.3, 0.5, 0.7, 0.9),
    "text": (0.05, 0.15, 0.25, 0.35, 0.5),
}
PARTS = {"126007.jpg": (60, 330), "102061.jpg": (60, 200)}  # top, left of what details.png shows
PART = 96
FRONT, FRONT_PART = "126007.jpg", np.s_[40:220, 150:450]  # what front.png shows
CAMERA_PART = np.s_[30:230, 120:320]  # the same of camera.png
SURROUNDINGS = 3  # pixels from a covered one


def load(name: str):
    """Load a network as it was trained (study.py), or as it is shipped; `InputError` without."""
    for path in (home(name), REPOSITORY / f"pretrained/{name}.keras"):
        if path.exists():
            return infer.load_model(path)
    raise InputError(f"{name} is not trained: python benchmarks/study.py {name}")


def style(targets: str, note: str = "") -> dict:
    return {"linestyle": "--" if targets == "clean targets" else "-", "label": targets + note}


def panels(titles):
    figure, axes = plots.plt.subplots(
        1, len(titles), figsize=(3.2 * len(titles), 3.2), layout="constrained", squeeze=False
    )
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=10)
        ax.grid(alpha=0.3)
    return figure, dict(zip(titles, axes[0], strict=True))


def read_history(name: str) -> list[dict[str, float]]:
    """Return a network's history, a dict per epoch; nothing if it is not trained."""
    path = RESULTS / f"histories/{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def draw_chart1() -> None:
    """Loss and MSE against epochs, of what the report shows: Poisson noise on Kodak."""
    title = "poisson-kodak, noisy targets: L2, Muon, 1e-3 falling to 0"
    chart = plots.chart1(read_history("poisson-kodak"), title, "l2")
    plots.save_and_show(chart, RESULTS / "chart1.png", show=False)


def draw_front() -> None:
    """What the README shows first: part of a picture under three noises."""
    ((index, path),) = [
        (i, path) for i, path in enumerate(scored_paths("bsds300")) if path.name == FRONT
    ]
    clean = read_rgb(path)
    rows = []
    for name in ("gaussian-bsds300", "bernoulli-bsds300", "text-bsds300-l1"):
        filter = name.split("-")[0]
        images = metrics.noisy_and_restored(load(name), FILTERS[filter], clean, index)
        captions = [f"{metrics.psnr(image, clean):.2f} dB" for image in images]
        shown = [image[FRONT_PART] for image in (*images, clean)]
        rows.append((filter, list(zip(shown, [*captions, ""], strict=True))))
    plots.save_and_show(plots.table2(rows), RESULTS / "front.png", show=False)


def draw_camera() -> None:
    """What the camera network makes of a photo in the public domain (NASA), by a test camera."""
    from skimage.data import astronaut

    clean = astronaut()[CAMERA_PART]
    noisy = metrics.corrupt_for_score(FILTERS["camera"], clean, 0)
    noisy = to_8bit(noisy)
    images = [noisy, restore_image(load("camera-bsds300"), noisy, keep_means=True)]
    shown = [*zip(images, ("", "camera-bsds300"), strict=True), (clean, "")]
    plots.save_and_show(plots.table2([("", shown)]), RESULTS / "camera.png", show=False)


def draw_curves() -> None:
    """PSNR on validation pictures after each epoch."""
    figure, axes = panels(PAIRS)
    for title, ax in axes.items():
        steps = int(re.search(r"--steps (\d+)", RUNS[PAIRS[title][1]])[1])  # per epoch
        for targets, suffix in TARGETS.items():
            rows = read_history(PAIRS[title][1] + suffix)
            values = [row["val_psnr"] for row in rows]
            last = f": {values[-1]:.2f}" if rows else ""
            thousands = [row["epoch"] * steps / 1000 for row in rows]
            ax.plot(thousands, values, **style(targets, last))
        ax.set(xlabel="thousand steps", ylabel="PSNR on validation pictures (dB)")
        ax.legend(fontsize=8)
    plots.save_and_show(figure, RESULTS / "curves.png", show=False)


def measure(names: list[str]) -> list[tuple[str, float, float, float]]:
    """Return (network, strength, noisy PSNR, PSNR) over its filter's strengths."""
    originals = list(enumerate(read_rgb(path) for path in scored_paths("bsds300")))[::20]
    rows = []
    for name in names:
        network = load(name)
        filter = FILTERS[name.split("-")[0]]
        for strength in STRENGTHS[filter.name]:
            values = []
            for index, clean in originals:
                pair = metrics.noisy_and_restored(network, filter, clean, index, strength)
                values.append([metrics.psnr(picture, clean) for picture in pair])
            rows.append((name, strength, *np.mean(values, axis=0)))
            print(f"{name} {strength:g}: {rows[-1][2]:.2f} -> {rows[-1][3]:.2f} dB", flush=True)
    return rows


def draw_sweep() -> None:
    """PSNR over the strength of the noise."""
    names = [f"{name}{suffix}" for _, name in PAIRS.values() for suffix in TARGETS.values()]
    rows = measure(names)
    with (RESULTS / "sweep.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("network", "strength", "noisy PSNR", "PSNR"))
        writer.writerows((*row[:2], *(f"{value:.2f}" for value in row[2:])) for row in rows)
    figure, axes = panels(PAIRS)
    for title, ax in axes.items():
        filter, name = PAIRS[title]
        for targets, suffix in TARGETS.items():
            mine = [row for row in rows if row[0] == name + suffix]
            ax.plot([row[1] for row in mine], [row[3] for row in mine], **style(targets))
        noisy = sorted({row[1:3] for row in rows if row[0] == name})
        ax.plot(*zip(*noisy, strict=True), color="grey", linestyle=":", label="input")
        ax.set(xlabel=f"strength {FILTERS[filter].symbol}", ylabel="PSNR (dB)")
        ax.legend(fontsize=8)
    plots.save_and_show(figure, RESULTS / "sweep.png", show=False)


def draw_details() -> None:
    """Parts of pictures: input, both outputs, truth."""
    paths = {path.name: (i, path) for i, path in enumerate(scored_paths("bsds300"))}
    columns = ("input", *TARGETS, "true")
    rows = [(title, picture) for title in PAIRS for picture in PARTS]
    figure, axes = plots.plt.subplots(
        len(PAIRS), len(PARTS) * len(columns), figsize=(16, 2.3 * len(PAIRS)), layout="constrained"
    )
    for number, (title, picture) in enumerate(rows):
        filter, name = PAIRS[title]
        index, path = paths[picture]
        clean = read_rgb(path)
        noisy = metrics.corrupt_for_score(FILTERS[filter], clean, index)
        networks = [load(name + suffix) for suffix in TARGETS.values()]
        shown = [to_8bit(noisy), *(to_8bit(restore_image(network, noisy)) for network in networks)]
        captions = [f"{metrics.psnr(image, clean):.2f} dB" for image in shown]
        top, left = PARTS[picture]
        row, column = divmod(number, len(PARTS))
        here = axes[row][column * len(columns) : (column + 1) * len(columns)]
        for ax, output, caption, head in zip(
            here, [*shown, clean], [*captions, ""], columns, strict=True
        ):
            ax.imshow(output[top : top + PART, left : left + PART], interpolation="nearest")
            ax.set(xticks=[], yticks=[], xlabel=caption)
            if row == 0:
                ax.set_title(head, fontsize=10)
        if column == 0:
            here[0].set_ylabel(title)
    plots.save_and_show(figure, RESULTS / "details.png", show=False)


def measure_covered() -> None:
    """PSNR of the text networks on covered pixels, their surroundings, both, and the rest."""
    rows = []
    originals = list(enumerate(read_rgb(path) for path in scored_paths("bsds300")))[::4]
    for title, (filter, name) in PAIRS.items():
        for targets, suffix in TARGETS.items() if filter == "text" else ():
            network = load(name + suffix)
            values = []
            for index, clean in originals:
                noisy = metrics.corrupt_for_score(FILTERS[filter], clean, index)
                error = (to_8bit(restore_image(network, noisy)) / 255 - clean / 255) ** 2
                covered = (noisy != clean / np.float32(255)).any(-1)
                near = binary_dilation(covered, iterations=SURROUNDINGS)
                parts = error, *(error[k] for k in (covered, near & ~covered, near, ~near))
                values.append([-10 * np.log10(part.mean()) for part in parts])
            means = (f"{value:.2f}" for value in np.mean(values, axis=0))
            rows.append((f"{title}, {targets}", *means))
            print(*rows[-1], flush=True)
    with (RESULTS / "covered.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("network", "PSNR", "covered", "around", "both", "elsewhere"))
        writer.writerows(rows)


DRAWINGS = {
    "front": draw_front,
    "camera": draw_camera,
    "chart1": draw_chart1,
    "curves": draw_curves,
    "sweep": draw_sweep,
    "details": draw_details,
    "covered": measure_covered,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(DRAWINGS)} (all)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(DRAWINGS):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    for name in args.names or DRAWINGS:
        DRAWINGS[name]()


if __name__ == "__main__":
    run_main(main)
