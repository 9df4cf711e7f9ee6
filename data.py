"""Noisy pairs for Keras: batches of corrupted (input, target) crops from pictures.

    python data.py               one picture under each filter: weak, test and strong
    python data.py FOLDER        the same with the first picture of FOLDER

The filters are in noise2noise/filters.py, what a batch is in noise2noise/pairs.py.
"""

import threading
from pathlib import Path

import numpy as np

from noise2noise.arguments import Parser
from noise2noise.backend import keras
from noise2noise.datasets import ImageFiles
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import InputError, run_main
from noise2noise.filters import FILTERS, Filter
from noise2noise.images import find_pictures, middle, read_rgb
from noise2noise.pairs import (
    TRAINING,
    VALIDATION,
    CameraPairs,
    CapturedPairs,
    NoisyPairs,
    SinglePairs,
)
from noise2noise.runs import RUNS
from noise2noise.workers import Workers

SHOWN_SIZE = 512  # pixels on a side of what the filters are shown on, at most
PEEKED = 2  # batches of a stream that Keras asks for to see their shapes, and then again


class NoisyDataset(keras.utils.PyDataset):
    """Batches of random crops, corrupted twice: `(input, target)`, float32, channels last.

    Where the filter drops pixels, a batch is `(input, target, weight)`, with weight
    (batch, height, width) 1 where the target says something, 0 where it does not; a camera's has
    one too (`pairs.CameraPairs`). The crops and their noise are those of `pairs.NoisyPairs`, a
    function of seed and batch alone.

    `dataset[i]` is batch `i % steps` of epoch `i // steps`, for any i from 0 on: Keras sees a
    stream without end, which it can prefetch across the ends of epochs, and wants
    `fit(dataset, steps_per_epoch=len(dataset))`.

    Parameters
    ----------
    images : sequence of uint8 (height, width, 3), grey (height, width, 1)
        Such as `ImageFiles` or `DeadLeaves`; or a folder of image files.
    filter : Filter or str
        What corrupts the crops, one of `FILTERS`.
    batch_size, crop_size, steps : int
        Crops per batch, pixels on a side, batches per epoch.
    validation : bool
        A stream of noise of its own that ends after `steps` batches, the same in each epoch.
    shard : (int, int)
        (i, n): make only the i-th of n equal parts of each batch, for the i-th of n processes.
    workers : int
        Processes that make the batches ahead, for accelerators; 0: whoever asks makes them.
    channels : int
        Of the images: 3, or 1 for grey ones.
    clean_targets, seed, large_from, flat_areas
        As for `NoisyPairs`.

    Raises
    ------
    InputError
        With a folder: that has no image, an unreadable one or one smaller than the crop.
        For a filter that does not exist, and where a batch cannot be shared equally.
    """

    kind = NoisyPairs

    def __init__(
        self,
        images,
        filter: Filter | str | None,
        batch_size: int = 8,
        crop_size: int = 64,
        steps: int = 200,
        validation: bool = False,
        shard: tuple[int, int] = (0, 1),
        workers: int = 0,
        channels: int = 3,
        **options,
    ):
        super().__init__()
        if isinstance(images, str | Path):
            paths = find_pictures(Path(images))
            images = ImageFiles(paths, min_size=crop_size, grey=channels == 1)
        if isinstance(filter, str) and filter not in FILTERS:
            raise InputError(f"no filter is called {filter}: there are {', '.join(FILTERS)}")
        filter = FILTERS[filter] if isinstance(filter, str) else filter
        kind = CameraPairs if filter and filter.draw_camera else self.kind
        self.pairs = kind(
            *(images, filter, batch_size, crop_size, steps),
            stream=VALIDATION if validation else TRAINING,
            channels=channels,
            **options,
        )
        self.steps = steps
        self.first_batch = 0  # where the stream starts: a run that was interrupted goes on
        self._ends = validation
        process, processes = shard
        if batch_size % processes:
            raise InputError(f"a batch of {batch_size} cannot be shared by {processes} processes")
        if self.pairs.large_from is not None and batch_size % (4 * processes):
            each = "each process" if processes > 1 else "large crops"
            raise InputError(f"a batch of {batch_size} has no quarter for {each}")
        part = batch_size // processes
        self._part = range(process * part, (process + 1) * part)
        self._worker_count = workers
        self._pool: Workers | None = None
        self._lock = threading.Lock()
        self.failure: InputError | None = None  # the back end hides exceptions of its threads

    def __len__(self) -> int:
        return self.steps

    @property
    def num_batches(self) -> int | None:
        """What Keras asks for the length; None is a stream without end."""
        return self.steps if self._ends else None

    def __getitem__(self, i: int) -> tuple[np.ndarray, ...]:
        try:
            if not self._worker_count:
                return self._make(i)
            with self._lock:
                return self._made_ahead(i)
        except InputError as error:
            self.failure = error
            raise

    def _make(self, i: int) -> tuple[np.ndarray, ...]:
        number = self.first_batch + i
        return self.pairs.make(number, self.pairs.crops(number, self._part))

    def _made_ahead(self, i: int) -> tuple[np.ndarray, ...]:
        wanted = self.first_batch + max(i, PEEKED)
        if not self._pool or self._pool.number != wanted:
            self._end()
            self._pool = Workers(self.pairs, self._part, wanted, self._worker_count)
        return self._make(i) if i < PEEKED else self._pool.take()

    def close(self) -> None:
        """End the workers, once they have made what is waited for; the next batch starts them."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._pool:
            self._pool.close()
        self._pool = None


class CapturedDataset(NoisyDataset):
    """Batches of `(input, target)` from two different exposures of a scene, any ordered pair.

    Parameters
    ----------
    scenes : scenes.Scenes
    Others as for `NoisyDataset`.
    """

    kind = CapturedPairs

    def __init__(self, scenes, **options):
        super().__init__(scenes, None, **options)


class SingleDataset(CapturedDataset):
    """Batches of `((region, chosen), target)`, of scenes of one exposure each (`SinglePairs`)."""

    kind = SinglePairs

    def __getitem__(self, i: int):
        region, chosen, target = super().__getitem__(i)
        return (region, chosen), target


def main() -> None:
    parser = Parser(description="Show a picture under each noise filter.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="of pictures (default: a generated one)"
    )
    parser.add_argument(
        "--output", type=Path, default=RUNS / "filters.png", help="the figure (runs/filters.png)"
    )
    args = parser.parse_args()
    if args.output.suffix.lower() != ".png":
        parser.error(f"--output {args.output} is no .png")
    from noise2noise import plots

    if args.folder:
        image = middle(read_rgb(find_pictures(args.folder)[0]), SHOWN_SIZE)
    else:
        image = dead_leaves(np.random.default_rng(8))  # neither dark nor bright
    plots.save_and_show(plots.filter_sheet(image), args.output)


if __name__ == "__main__":
    run_main(main)
