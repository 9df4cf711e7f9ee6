"""The one dial: how to train in a given time, by what a step takes on this machine."""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from noise2noise import runs
from noise2noise.errors import InputError
from noise2noise.filters import FILTERS

# What most was learned with in equal times, among what results/README.md lists: many small steps.
# Of 4 crops they are as good as of 8 in five minutes of a core; in ten and thirty 8 are better.
# An H100 takes 2.8 ms for 32 crops, 5.5 for 128.
RECIPE = {"optimizer": "muon", "learning_rate": 1e-3, "schedule": "cosine", "clip_norm": None}
RECIPE |= {"large_crops": 0.15, "flat_areas": 0.125}
FURTHER_RATE = 3e-4  # of a network that has learned already: 1e-3 would undo some of it
BATCH, GPU_BATCH = 8, 64
MOST_CROPS = 512  # a step, that a longer time may ask for
PLANNED = ("epochs", "steps", "batch", *RECIPE)  # the options that --minutes stands for
TIMED_STEPS, TIMED_SECONDS = 40, 5.0  # or as many steps more as take so long
FEW_STEPS = 16  # two of what a GPU is given at once, or nothing lies between them
LEAST_STEPS = 50  # of a training, in all
# Of a training; longer ones have more crops a step. A plan of 104,000 steps of 4 crops broke down
# on large pictures near its 16,000th; 23,550 of 32 in the same time did not (results/).
MOST_STEPS = 24_000
EPOCHS = 50  # at most: validation and a checkpoint each
OVERHEAD = 0.05  # of the time, at most, for the ends of epochs
LEAST_EPOCHS, MOST_OVERHEAD = 6, 0.2  # or so, that large crops have their share of epochs
ROUND = 8  # steps of an epoch are a multiple, so that a GPU can be given several at once
SPARE = 0.02  # of the time, for what was not foreseen


def recipe(filter: str, gpu: bool, further: bool = False) -> dict:
    """Return the options that do not depend on the time; `further`: with --start-from."""
    planned = RECIPE | {"batch": GPU_BATCH if gpu else BATCH}
    planned |= {} if paints(filter) else {"flat_areas": 0.0}
    return planned | ({"learning_rate": FURTHER_RATE} if further else {})


def paints(filter: str) -> bool:
    """Whether a training can give crops flat areas: not real exposures, nor drawn cameras."""
    return filter in FILTERS and not FILTERS[filter].draw_camera


def kept(earlier: dict | None, asked: dict, folder: Path) -> dict | None:
    """Return the options that were planned for a run before; None where they are to be planned.

    Parameters
    ----------
    earlier : dict or None
        What the run's folder says (`runs.read_settings`).
    asked : dict
        The settings that the run would have now: of them all but the planned ones must be those
        of before, unless the run trained already, which goes on or is refused (`runs.Run`).

    Raises
    ------
    InputError
        Where what was trained was begun with other minutes, or none.
    """
    if earlier is None:
        return None
    settings, trained = earlier["settings"], runs.was_trained(folder)
    if settings.get("minutes") == asked["minutes"]:
        same = all(settings.get(key) == asked[key] for key in asked.keys() - set(PLANNED))
        # `Run` refuses a run of an older version, which lacks some.
        planned = {key: settings[key] for key in PLANNED if key in settings}
        return planned if same or trained else None
    if trained:
        begun = settings.get("minutes")
        begun = f"with --minutes {begun:g}" if begun else "without --minutes"
        finished = (folder / runs.MODEL).exists()
        further = f"train its network further, --name ANOTHER --start-from {folder / runs.MODEL}"
        raise InputError(
            f"{folder} was begun {begun}: {further if finished else 'go on so'}, or --fresh starts "
            "over"
        )
    return None


def by_timing(
    minutes: float,
    started: float,
    batch: int,
    prepare: Callable[[int], tuple],
    agree: Callable[[int], int],
) -> dict[str, int]:
    """Time some steps of a training; return the `length` of one that ends in time, and its batch.

    Parameters
    ----------
    minutes, started : float
        How long all may take, and since when, by `time.monotonic`.
    batch : int
        Crops a step, or as many times more as `more_crops` says.
    prepare : callable
        Returns, for so many crops a step, the compiled model, batches to train on, the same with
        large crops (None: without), batches to validate with, and a list of callbacks that do
        their work at the end of an epoch. The training will do it again.
    agree : callable
        Makes a number that each of several processes has another of one that all have.

    Raises
    ------
    InputError
        For too short a time.
    """
    planned = _timed(minutes, started, partial(prepare, batch), agree)
    if (times := more_crops(planned, batch)) > 1:
        batch *= times
        planned = _timed(minutes, started, partial(prepare, batch), agree)
    return planned | {"batch": batch}


def _timed(
    minutes: float, started: float, prepare: Callable[[], tuple], agree: Callable[[int], int]
) -> dict[str, int]:
    """Time some steps of so many crops, as `by_timing`; return the `length`."""
    from noise2noise import backend
    from noise2noise.backend import keras

    beginning = time.monotonic()
    model, batches, large_batches, validation_batches, at_end = prepare()
    marks = []  # (step, when it was done)

    def mark(batch, logs):
        marks.append((batch, time.monotonic()))

    def fit(steps: int, batches, callbacks: list, validation=None) -> tuple[float, float]:
        """Return the seconds of a step and of the epoch's end."""
        marks.clear()
        options = {"steps_per_epoch": steps, "shuffle": False, "verbose": 0}
        last = keras.callbacks.LambdaCallback(
            on_train_batch_end=mark, on_epoch_end=lambda epoch, logs: mark(steps, logs)
        )
        with backend.original_errors(*filter(None, (batches, validation))):
            options["validation_data"] = validation and backend.stream(validation)
            model.fit(backend.stream(batches), callbacks=[*callbacks, last], **options)
        batches.close()
        # After the first fifth, in which workers still decode their first pictures.
        (first, begun), (step, ended), (_, end) = marks[len(marks) // 5], marks[-2], marks[-1]
        return (ended - begun) / max(1, step - first), end - ended

    def in_time() -> bool:
        """Whether half of the time is left, or it is too short already."""
        return bool(agree(time.monotonic() - started < 30 * minutes))

    # It compiles, as the training has to again.
    step, epoch_end = fit(FEW_STEPS, batches, at_end, validation_batches)
    if large_batches is not None:
        fit(FEW_STEPS, large_batches, [])  # likewise
    starting = time.monotonic() - beginning
    if in_time():
        step, epoch_end = fit(TIMED_STEPS, batches, at_end, validation_batches)
    if minutes > 2 and in_time():  # worth the time; forty steps of a GPU take 0.2 s
        steps = agree(TIMED_STEPS * max(1, round(TIMED_SECONDS / step / TIMED_STEPS)))
        step, epoch_end = fit(steps, batches, at_end, validation_batches)
    keras.backend.clear_session()
    few = FEW_STEPS if large_batches is None else 2 * FEW_STEPS
    starting -= few * step + epoch_end  # which are no part of it
    left = 60 * minutes - (time.monotonic() - started) - starting
    planned = {key: agree(n) for key, n in length(left, step, epoch_end).items()}
    if planned["epochs"] * planned["steps"] < LEAST_STEPS:
        before = 60 * minutes - left
        enough = math.ceil(1.2 * (before + LEAST_STEPS * step + epoch_end) / 60)
        raise InputError(
            f"--minutes {minutes:g} is too short here: planning and starting take {before:.0f} "
            f"seconds, a step {step:.2g}; --minutes {enough} is enough"
        )
    return planned


def more_crops(planned: dict[str, int], batch: int) -> int:
    """Return how many times as many crops a step wants for no more than about `MOST_STEPS`."""
    steps = planned["epochs"] * planned["steps"]
    times = 2 ** max(0, math.ceil(math.log2(steps / MOST_STEPS)))
    return max(1, min(times, MOST_CROPS // batch))


def length(seconds: float, step: float, epoch_end: float) -> dict[str, int]:
    """Return the epochs and steps of a training that takes so many seconds.

    Parameters
    ----------
    step, epoch_end : float
        Seconds that a step and the end of an epoch take.
    """
    seconds *= 1 - SPARE
    ends = seconds / max(epoch_end, 1e-3)
    epochs = int(min(EPOCHS, max(1, OVERHEAD * ends, min(LEAST_EPOCHS, MOST_OVERHEAD * ends))))
    steps = math.floor((seconds / epochs - epoch_end) / step)
    if steps > 100 * ROUND:
        steps -= steps % ROUND
    return {"epochs": epochs, "steps": max(1, steps)}
