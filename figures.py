"""The figures: the sheet of filters, Chart 1 and Table 2 of the report."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from errors import write_failure
from filters import FILTERS


def save_and_show(figure: Figure, path: Path, show: bool = True) -> None:
    """Save a figure, say where, and open a window with it where there is a screen."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise write_failure(path, error) from None
    print(f"saved {path}")
    if show and plt.get_backend().lower() not in ("agg", "pdf", "svg", "ps", "cairo"):
        plt.show()
    plt.close(figure)


def filter_sheet(picture: np.ndarray) -> Figure:
    """Draw uint8 `picture` under each filter, a row each: weak, test and strong strength."""
    clean = np.divide(picture, 255, dtype=np.float32)
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


def chart1(history: Sequence[dict[str, float]], title: str, loss: str) -> Figure:
    """Draw a run's history, a dict per epoch: Chart 1 of the report, and PSNR beside it."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    panels = (("loss", f"loss ({loss.upper()})"), ("mse", "MSE"), ("psnr", "PSNR (dB)"))
    epochs = [row["epoch"] for row in history]
    for ax, (key, label) in zip(axes, panels, strict=True):
        for name, who in ((key, "training"), (f"val_{key}", "validation")):
            if name in history[0]:
                marker = "o" if len(epochs) == 1 else None
                ax.plot(epochs, [row[name] for row in history], label=who, marker=marker)
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    axes[2].set_title("against the clean pictures", fontsize=9)
    figure.suptitle(title)
    return figure


def table2(rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]]) -> Figure:
    """Draw Table 2 of the report.

    Parameters
    ----------
    rows : sequence of (label, pictures)
        Pictures are (uint8 array, caption) for the input, the output and the true image.
    """
    height, width = rows[0][1][0][0].shape[:2]
    size = (10, (3.1 * height / width + 0.35) * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), 3, figsize=size, squeeze=False, layout="constrained")
    for row, (label, pictures) in zip(axes, rows, strict=True):
        for ax, (picture, caption) in zip(row, pictures, strict=True):
            ax.imshow(picture)
            ax.set_xlabel(caption, fontsize=9)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(label, fontsize=10)
    for ax, title in zip(axes[0], ("Input image", "Output image", "True image"), strict=True):
        ax.set_title(title, fontsize=11)
    return figure
