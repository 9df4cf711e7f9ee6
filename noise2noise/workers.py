"""Processes that make batches ahead, for accelerators, which take them faster than one thread does.

They start without Keras.
"""

import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.resource_tracker
import multiprocessing.util
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from noise2noise import cache
from noise2noise.errors import InputError
from noise2noise.pairs import NoisyPairs

PREFETCH = 4  # batches that the processes make before they wait
SMALLEST_CACHE = 1 << 28  # bytes of decoded pictures that each process may keep
GO_ON = b"."


class Workers:
    """Processes that make a stream of batches ahead, each its own part of every batch.

    For accelerators, which take crops faster than one thread makes them: threads do not help
    where Python itself has much to do (text, Poisson). The batches lie in shared memory; a thread
    copies the next one while the one before is trained on, for which Keras waits on JAX.

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
        # Of this batch; others, of small or large crops, are as many values.
        shapes = pairs.shapes(first, len(pairs.crops(first, part)))
        memory = [context.RawArray("f", PREFETCH * int(np.prod(shape))) for shape in shapes]
        self._arrays = functools.partial(_arrays, memory, pairs, part)
        self.number = first  # of the batch that comes next
        self._workers = []
        self._thread = ThreadPoolExecutor(1)
        # Also at the end of the program, before multiprocessing waits for what heeds no SIGTERM.
        self.close = multiprocessing.util.Finalize(self, _end, (self._workers,), exitpriority=10)
        for i in range(count):
            pipe, its_pipe = context.Pipe()
            process = context.Process(
                target=_make_ahead,
                args=(pairs, part, first, i, count, memory, its_pipe),
                daemon=True,
            )
            with _signals_held_back():
                process.start()
            self._workers.append((process, pipe))
            its_pipe.close()  # so that the process' end is the pipe's end
            for _ in range(PREFETCH):
                pipe.send_bytes(GO_ON)
        self._next = self._thread.submit(_copy, self._workers, self._arrays, first)

    def take(self) -> tuple[np.ndarray, ...]:
        """Return the next batch; raises what its making raised, and then ends."""
        try:
            batch = self._next.result()
        except _GoneError as gone:
            gone.process.join()
            self.close()
            code = gone.process.exitcode
            raise RuntimeError(f"a process that makes batches ended ({code})") from None
        except Exception:
            self.close()
            raise
        self.number += 1
        self._next = self._thread.submit(_copy, self._workers, self._arrays, self.number)
        return batch


class _GoneError(Exception):
    """A process has ended: who closes waits for it, and nobody else, who would not be told."""

    def __init__(self, process):
        super().__init__(process)
        self.process = process


def _copy(workers, arrays, number: int) -> tuple[np.ndarray, ...]:
    """Return batch `number` once all have made it, and have them make another in its place."""
    for process, pipe in workers:
        try:
            failure = pipe.recv()
        except (EOFError, OSError):
            raise _GoneError(process) from None
        if failure:
            raise failure
    batch = tuple(array.copy() for array in arrays(number))
    for _, pipe in workers:
        with contextlib.suppress(BrokenPipeError):  # the next batch tells
            pipe.send_bytes(GO_ON)
    return batch


def _end(workers) -> None:
    for process, _ in workers:
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


def _arrays(memory, pairs: NoisyPairs, part: range, number: int) -> list[np.ndarray]:
    """Return batch `number` in shared memory, where its place goes by that, modulo `PREFETCH`."""
    shapes = pairs.shapes(number, len(pairs.crops(number, part)))
    slots = (np.frombuffer(m, np.float32).reshape(PREFETCH, -1)[number % PREFETCH] for m in memory)
    return [slot.reshape(shape) for slot, shape in zip(slots, shapes, strict=True)]


def _make_ahead(pairs, part, first, i, count, memory, pipe) -> None:
    """What each of the `Workers`' processes does, until it is killed or its parent is gone."""
    cache.CACHE_BYTES = max(cache.CACHE_BYTES // count, SMALLEST_CACHE)
    for number in itertools.count(first):
        try:
            pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        failure = None
        try:
            whole = pairs.crops(number, part)
            crops = pairs.workers_crops(number, whole, i, count)
            made = pairs.make(number, crops)
            for array, values in zip(_arrays(memory, pairs, part, number), made, strict=True):
                array[[crop - whole.start for crop in crops]] = values
        except InputError as error:
            failure = error
        try:
            pipe.send(failure)
        except BrokenPipeError:
            return
