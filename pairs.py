"""What a training batch is: crops of pictures, corrupted twice; and processes that make them.

Needs NumPy and Pillow only: a process that makes batches starts without Keras. `data.py` gives
them to Keras.
"""

import contextlib
import itertools
import multiprocessing
import multiprocessing.resource_tracker
import multiprocessing.util
import signal
from collections.abc import Sequence

import numpy as np

import images
from deadleaves import CROPS_PER_PICTURE, WINDOW
from errors import InputError
from filters import Filter

CROPS_PER_DECODING = 8  # of a large folder's pictures, in as many batches
AHEAD = 4  # batches that processes make before they wait
SMALLEST_CACHE = 1 << 28  # bytes of decoded pictures that each process may keep
GO_ON = b"."


class NoisyPairs:
    """Every batch of a training, by its number: `(input, target)` or `(input, target, weight)`.

    Crops are flipped and turned by quarters at random. Input and target are corrupted
    independently, each with a strength of its own drawn from the filter's training range.
    Every draw comes from a generator seeded by (seed, epoch, index, crop), so any batch, or a
    part of it, can be made again, by any thread or process and in any order.

    Parameters
    ----------
    pictures : sequence of uint8 (height, width, 3)
        Such as `ImageFiles` or `DeadLeaves`.
    filter : Filter or None
        What corrupts the crops.
    batch_size, crop_size, steps : int
        Crops per batch, pixels on a side, batches per epoch.
    clean_targets : bool
        Leave the targets as they are.
    seed : int
    """

    def __init__(
        self,
        pictures,
        filter: Filter | None,
        batch_size: int,
        crop_size: int,
        steps: int,
        clean_targets: bool = False,
        seed: int = 0,
    ):
        self.images = pictures
        self.filter = filter
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.steps = steps
        self.clean_targets = clean_targets
        self.weighted = bool(filter and filter.mask) and not clean_targets
        self.seed = seed

    def shapes(self, crops: int) -> list[tuple[int, ...]]:
        """Return the shapes of the arrays of so many crops."""
        shape = (crops, self.crop_size, self.crop_size)
        return [(*shape, 3), (*shape, 3)] + ([shape] if self.weighted else [])

    def make(self, number: int, part: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Return the crops `part` of batch `number`, counted from the training's beginning.

        float32: input and target (crops, crop_size, crop_size, 3), any value, and where the
        filter drops pixels weight (crops, crop_size, crop_size), 1 where the target says
        something, 0 where it does not. Raises `InputError` for a picture that cannot be read.
        """
        chosen, streams = self._begin(number)
        beginnings = [stream.bit_generator.state for stream in streams]
        batch = tuple(np.empty(shape, np.float32) for shape in self.shapes(len(part)))
        for j, crop in enumerate(part):
            # Far apart in each stream, so that a crop does not depend on those before it.
            for stream, beginning in zip(streams, beginnings, strict=True):
                stream.bit_generator.state = beginning
                stream.bit_generator.advance(crop << 64)
            # Without weights, zip leaves out the pair's third.
            for array, values in zip(batch, self._pair(int(chosen[crop]), *streams), strict=False):
                array[j] = values
        return batch

    def divide(self, number: int, part: range, i: int, count: int) -> Sequence[int]:
        """Return the crops of batch `number`'s `part` that the i-th of `count` processes makes."""
        if hasattr(self.images, "__len__"):
            return part[i::count]
        # What is generated serves crops of many batches: no two processes generate one picture.
        chosen, _ = self._begin(number)
        return [crop for crop in part if chosen[crop] % count == i]

    def _begin(self, number: int):
        """Return the picture of each of a batch's crops, and three streams of random numbers."""
        epoch, index = divmod(number, self.steps)
        # One stream each, so that crops and inputs are the same with clean targets.
        pictures, *streams = np.random.default_rng((self.seed, epoch, index)).spawn(4)
        return self._pictures(epoch, index, pictures), streams

    def _pair(self, k: int, crops, noise, target_noise):
        """Return input, target and the target's weights from a random part of picture k."""
        (clean,) = self._cut(crops, self.images[k])
        corrupted, _ = self._corrupt(clean, noise)
        return corrupted, *(
            (clean, 1) if self.clean_targets else self._corrupt(clean, target_noise)
        )

    def _pictures(self, epoch: int, index: int, rng: np.random.Generator) -> np.ndarray:
        """Return the indices of the pictures that batch `index` of `epoch` is cut from."""
        if not hasattr(self.images, "__len__"):  # generated without end: fresh ones come in
            crops = (epoch * self.steps + index) * self.batch_size + np.arange(self.batch_size)
            return crops // CROPS_PER_PICTURE + rng.integers(WINDOW, size=self.batch_size)
        # The report's shuffled indices: an order per epoch, gone through again and again.
        # Pictures too many to keep serve in several batches in a row for one decoding.
        reuse = 1 if len(self.images) < images.LARGE else CROPS_PER_DECODING
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        first = index // reuse * self.batch_size
        return order[np.arange(first, first + self.batch_size) % len(order)]

    def _cut(self, rng: np.random.Generator, *pictures: np.ndarray) -> list[np.ndarray]:
        """Cut the same random part of each picture, turned and flipped alike, to float32."""
        size = self.crop_size
        top, left = (rng.integers(n - size + 1) for n in pictures[0].shape[:2])
        turns, flip = rng.integers(4), rng.integers(2)
        crops = []
        for picture in pictures:
            crop = np.rot90(picture[top : top + size, left : left + size], turns)
            crop = crop[:, ::-1] if flip else crop
            crops.append(np.divide(crop, np.iinfo(crop.dtype).max, dtype=np.float32))
        return crops

    def _corrupt(self, clean: np.ndarray, rng: np.random.Generator):
        """Return a corrupted crop and the weight of each of its pixels as a target."""
        strength = rng.uniform(*self.filter.training)
        if self.filter.mask is None:
            return self.filter.corrupt(clean, strength, rng), 1
        mask = self.filter.mask(clean.shape, strength, rng)
        return clean * mask, mask[..., 0]


class CapturedPairs(NoisyPairs):
    """Two different exposures of a scene, any ordered pair; of `captured.Scenes`."""

    def _pair(self, k: int, crops, noise, target_noise):
        exposures = self.images[k]
        chosen = noise.choice(len(exposures), 2, replace=False)
        return *self._cut(crops, *(exposures[i] for i in chosen)), 1


class Makers:
    """Processes that make a stream of batches ahead, each its own part of every batch.

    For accelerators, which take crops faster than one thread makes them: threads do not help
    where Python itself has much to do (text, Poisson). The batches lie in shared memory.

    Parameters
    ----------
    pairs : NoisyPairs
    part : range
        The crops wanted of each batch.
    first : int
        Number of the first batch.
    count : int
        Processes, of which no more than there are crops are started.
    """

    def __init__(self, pairs: NoisyPairs, part: range, first: int, count: int):
        # Not forked: the back end's threads may hold locks that a copy would wait for.
        context = multiprocessing.get_context("spawn")
        count = min(count, len(part))
        shapes = pairs.shapes(AHEAD * len(part))
        memory = [context.RawArray("f", int(np.prod(shape))) for shape in shapes]
        self._arrays = _slots(memory, shapes)
        self.number = first  # of the batch that comes next
        self._makers = []
        # Also at the end of the program, before multiprocessing waits for what heeds no SIGTERM.
        self.close = multiprocessing.util.Finalize(self, _end, (self._makers,), exitpriority=10)
        for i in range(count):
            pipe, its_pipe = context.Pipe()
            process = context.Process(
                target=_make_ahead,
                args=(pairs, part, first, i, count, memory, shapes, its_pipe),
                daemon=True,
            )
            with _signals_held_back():
                process.start()
            self._makers.append((process, pipe))
            its_pipe.close()  # so that the process' end is the pipe's end
            for _ in range(AHEAD):
                pipe.send_bytes(GO_ON)

    def take(self) -> tuple[np.ndarray, ...]:
        """Return the next batch; raises what its making raised, and then ends."""
        try:
            for process, pipe in self._makers:
                try:
                    failure = pipe.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    raise RuntimeError(
                        f"a process that makes batches ended ({process.exitcode})"
                    ) from None
                if failure:
                    raise failure
        except Exception:
            self.close()
            raise
        batch = tuple(array[self.number % AHEAD].copy() for array in self._arrays)
        self.number += 1
        for _, pipe in self._makers:
            with contextlib.suppress(BrokenPipeError):  # the next `take` tells
                pipe.send_bytes(GO_ON)
        return batch


def _end(makers) -> None:
    for process, _ in makers:
        process.kill()
        process.join()


@contextlib.contextmanager
def _signals_held_back():
    """A process started inside never sees the signals that stop a training.

    They are for the training's first process, which saves before it ends; but a scheduler or a
    terminal sends them to all.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # it would let SIGINT and SIGTERM through
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _slots(memory, shapes) -> list[np.ndarray]:
    """Shared memory as arrays whose first axis is a batch's number, modulo `AHEAD`."""
    return [
        np.frombuffer(buffer, np.float32).reshape(AHEAD, -1, *shape[1:])
        for buffer, shape in zip(memory, shapes, strict=True)
    ]


def _make_ahead(pairs, part, first, i, count, memory, shapes, pipe) -> None:
    """What each of the `Makers`' processes does, until it is killed or its parent is gone."""
    images.CACHE_BYTES = max(images.CACHE_BYTES // count, SMALLEST_CACHE)
    arrays = _slots(memory, shapes)
    for number in itertools.count(first):
        try:
            pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        failure = None
        try:
            crops = pairs.divide(number, part, i, count)
            for array, values in zip(arrays, pairs.make(number, crops), strict=True):
                array[number % AHEAD][[crop - part.start for crop in crops]] = values
        except InputError as error:
            failure = error
        try:
            pipe.send(failure)
        except BrokenPipeError:
            return
