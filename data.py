"""Noisy pairs for Keras: batches of corrupted (input, target) crops from pictures.

    python data.py               one picture under each filter: weak, test and strong
    python data.py FOLDER        the same with the first picture of FOLDER

The filters themselves are in filters.py; all of them can be had from here. What a batch is, is
in pairs.py.
"""

import argparse
import threading
from pathlib import Path

import numpy as np

from deadleaves import dead_leaves
from devices import keras
from errors import InputError, run_main
from filters import FILTERS, Filter, bernoulli, bernoulli_mask, gaussian, impulse, poisson, text
from images import ImageFiles, find_images, read_rgb
from pairs import CapturedPairs, Makers, NoisyPairs

__all__ = [
    "FILTERS",
    "CapturedDataset",
    "Filter",
    "NoisyDataset",
    "bernoulli",
    "bernoulli_mask",
    "gaussian",
    "impulse",
    "poisson",
    "text",
]


LOOKED_AT = 2  # batches of a stream that Keras asks for to see what they are like, then again


class NoisyDataset(keras.utils.PyDataset):
    """Batches of random crops, corrupted twice: `(input, target)`, float32, channels last.

    Where the filter drops pixels, a batch is `(input, target, weight)`, with weight
    (batch, height, width) 1 where the target says something, 0 where it does not. The crops
    and their noise are those of `pairs.NoisyPairs`, a function of seed and batch alone.

    `dataset[i]` is batch `i % steps` of epoch `i // steps`, for any i: Keras sees a stream
    without end, which it can prefetch across the ends of epochs, and wants
    `fit(dataset, steps_per_epoch=len(dataset))`.

    Parameters
    ----------
    images : sequence of uint8 (height, width, 3)
        Such as `ImageFiles` or `DeadLeaves`; or a folder of image files.
    filter : Filter or str
        What corrupts the crops, one of `FILTERS`.
    batch_size, crop_size, steps : int
        Crops per batch, pixels on a side, batches per epoch.
    clean_targets : bool
        Leave the targets as they are: ordinary supervised training, to compare with.
    seed : int
    first_batch : int
        Where the stream starts, to go on with a run that was interrupted.
    fixed : bool
        For validation: the same `steps` batches again and again, a stream with an end.
    share : (int, int)
        (i, n): make only the i-th of n equal parts of each batch, for the i-th of n processes.
    makers : int
        Processes that make the batches ahead, for accelerators; 0: whoever asks makes them.

    Raises
    ------
    InputError
        With a folder: that has no image, an unreadable one or one smaller than the crop.
        Where a batch cannot be shared equally.
    """

    kind = NoisyPairs

    def __init__(
        self,
        images,
        filter: Filter | str | None,
        batch_size: int = 16,
        crop_size: int = 64,
        steps: int = 100,
        clean_targets: bool = False,
        seed: int = 0,
        first_batch: int = 0,
        fixed: bool = False,
        share: tuple[int, int] = (0, 1),
        makers: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(images, str | Path):
            images = ImageFiles(find_images(Path(images)), min_size=crop_size)
        filter = FILTERS[filter] if isinstance(filter, str) else filter
        self.pairs = self.kind(images, filter, batch_size, crop_size, steps, clean_targets, seed)
        self.steps = steps
        self.first_batch = first_batch
        self.fixed = fixed
        process, processes = share
        if batch_size % processes:
            raise InputError(f"a batch of {batch_size} cannot be shared by {processes} processes")
        part = batch_size // processes
        self._part = range(process * part, (process + 1) * part)
        self._processes = makers
        self._makers = None
        self._lock = threading.Lock()
        self.failure: InputError | None = None  # the back end hides exceptions of its threads

    def __len__(self) -> int:
        return self.steps

    @property
    def num_batches(self) -> int | None:
        """What Keras asks for the length; None is a stream without end."""
        return self.steps if self.fixed else None

    def __getitem__(self, i: int) -> tuple[np.ndarray, ...]:
        try:
            if not self._processes:
                return self._make(i)
            with self._lock:
                return self._made_ahead(i)
        except InputError as error:
            self.failure = error
            raise

    def _make(self, i: int) -> tuple[np.ndarray, ...]:
        return self.pairs.make(self.first_batch + i, self._part)

    def _made_ahead(self, i: int) -> tuple[np.ndarray, ...]:
        wanted = self.first_batch + max(i, LOOKED_AT)
        if not self._makers or self._makers.number != wanted:
            self.close()
            self._makers = Makers(self.pairs, self._part, wanted, self._processes)
        return self._make(i) if i < LOOKED_AT else self._makers.take()

    def close(self) -> None:
        """End the processes that make batches; they start again with the next batch."""
        if self._makers:
            self._makers.close()
        self._makers = None


class CapturedDataset(NoisyDataset):
    """Batches of `(input, target)` from two different exposures of a scene, any ordered pair.

    Parameters
    ----------
    scenes : captured.Scenes
    Others as for `NoisyDataset`.
    """

    kind = CapturedPairs

    def __init__(self, scenes, **options):
        super().__init__(scenes, None, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description="Show a picture under each noise filter.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="of images (default: a generated picture)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("filters.png"), help="the figure (%(default)s)"
    )
    args = parser.parse_args()
    import figures

    if args.folder:
        picture = read_rgb(find_images(args.folder)[0])
    else:
        picture = dead_leaves(np.random.default_rng(0), size=256)
    figures.save_and_show(figures.filter_sheet(picture), args.output)


if __name__ == "__main__":
    run_main(main)
