"""The figures: filters, the report's Chart 1 and Table 2, pictures before and after."""

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

if os.environ.get("MPLBACKEND", "").startswith("module://"):  # a notebook's, which is not here
    os.environ["MPLBACKEND"] = "agg"

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from noise2noise.files import make_folder, write_whole
from noise2noise.filters import FILTERS

plt.rcParams["text.parse_math"] = False  # names of files may hold dollars
TALL = 12  # inches: from there on noise in so many pixels makes files of many megabytes


def save_and_show(figure: Figure, path: Path, show: bool = True) -> None:
    """Save a figure, say where, and open a window with it where there is a screen."""
    make_folder(path.parent)
    encoded = io.BytesIO()  # of a full disk Pillow's encoder would say nothing
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of folders' names in other writings
        dpi = 100 if figure.get_figheight() > TALL else 150
        figure.savefig(encoded, format="png", dpi=dpi)
    write_whole(path, encoded.getbuffer())
    print(f"saved {path}")
    if show and plt.get_backend().lower() not in ("agg", "pdf", "svg", "ps", "cairo"):
        plt.show()
    plt.close(figure)


def filter_sheet(image: np.ndarray) -> Figure:
    """Draw a uint8 image under each filter, a row each: weak, test and strong strength."""
    clean = np.divide(image, 255, dtype=np.float32)
    height, width = clean.shape[:2]
    size = (9, (3 * height / width + 0.25) * len(FILTERS))
    figure, axes = plt.subplots(len(FILTERS), 3, figsize=size, layout="constrained")
    for row, noise in zip(axes, FILTERS.values(), strict=True):
        strengths = {"weak": noise.weak, "test": noise.test, "strong": noise.strong}
        for ax, (label, strength) in zip(row, strengths.items(), strict=True):
            noisy = noise.corrupt(clean, strength, np.random.default_rng(0))
            ax.imshow(noisy.clip(0, 1))  # clipped to be shown, and only for that
            ax.set_title(f"{noise.name}, {label}: {noise.symbol} = {strength:g}", fontsize=9)
            ax.axis("off")
    return figure


def chart1(
    history: Sequence[dict[str, float]], title: str, loss: str, noise_floor: float | None = None
) -> Figure:
    """Draw a run's history, a dict per epoch: Chart 1 of the report, and PSNR beside it.

    `noise_floor` is the MSE that a perfect network would have against the validation images'
    noisy targets, where there are no clean ones to measure PSNR against.
    """
    panels = [("loss", f"loss ({loss.upper()})"), ("mse", "MSE")]
    if "val_psnr" in history[0]:
        panels.append(("psnr", "PSNR against clean pictures (dB)"))
    size = (4 * len(panels), 3.6)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained")
    epochs = [row["epoch"] for row in history]
    for ax, (key, label) in zip(axes, panels, strict=True):
        for name, who in ((key, "training"), (f"val_{key}", "validation")):
            if name in history[0]:
                marker = "o" if len(epochs) == 1 else None
                ax.plot(epochs, [row[name] for row in history], label=who, marker=marker)
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(epochs) == 1:
            ax.set_xticks(epochs)
        ax.grid(alpha=0.3)
        ax.legend()
    if noise_floor:
        axes[1].axhline(noise_floor, color="grey", linestyle="--", label="noise of the targets")
        axes[1].legend()
        title += (
            "\nThe targets are noisy: in validation a perfect network would be on the dashed line\n"
            "(in training it can be below it, by learning their noise by heart)"
        )
    figure.suptitle(title, fontsize=10)
    return figure


def table2(rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]]) -> Figure:
    """Draw Table 2 of the report.

    Parameters
    ----------
    rows : sequence of (label, images)
        Images are (uint8 array, caption) for the input, the output and the true one.
    """
    height, width = rows[0][1][0][0].shape[:2]
    size = (10, (3.1 * min(height / width, 3) + 0.35) * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), 3, figsize=size, squeeze=False, layout="constrained")
    for row, (label, images) in zip(axes, rows, strict=True):
        for ax, (image, caption) in zip(row, images, strict=True):
            ax.imshow(image)
            ax.set_xlabel(caption, fontsize=9)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(label, fontsize=10)
    for ax, title in zip(axes[0], ("Input image", "Output image", "True image"), strict=True):
        ax.set_title(title, fontsize=11)
    return figure


def compare(before: np.ndarray, after: np.ndarray) -> Figure:
    """Draw an image before and after, and under each its most detailed part, magnified.

    Parameters
    ----------
    before, after : uint8 (height, width, 3)
    """
    height, width = after.shape[:2]
    size = max(32, min(height, width) // 8)
    # Where neighbours differ most in the restored image, block by block.
    sums = []
    for top in range(0, height, size):  # in the memory of a row of blocks
        steps = np.abs(np.diff(after[top : top + size].mean(2, dtype=np.float32), axis=1)).sum(0)
        sums.append(np.add.reduceat(np.append(steps, 0), np.arange(0, width, size)))
    row, column = np.unravel_index(np.argmax(sums), np.shape(sums))
    part = np.s_[row * size : (row + 1) * size, column * size : (column + 1) * size]
    step = max(1, max(height, width) // 1600)  # as many pixels as the figure can show
    ratios = [min(height / width, 3), 1]
    figure, axes = plt.subplots(
        2, 2, figsize=(10, 5 * sum(ratios) + 0.5), height_ratios=ratios, layout="constrained"
    )
    for column_axes, image, title in zip(axes.T, (before, after), ("Before", "After"), strict=True):
        column_axes[0].imshow(image[::step, ::step])
        column_axes[0].set_title(title)
        column_axes[1].imshow(image[part], interpolation="nearest")
        for ax in column_axes:
            ax.axis("off")
    return figure
