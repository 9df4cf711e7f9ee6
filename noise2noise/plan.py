"""The one dial: how to train in a given time, by what a step takes on this machine."""

import math

# What most was learned with in equal times, among what results/README.md lists: many small steps.
# A GPU takes about as long for a few crops as for many.
RECIPE = {"optimizer": "muon", "schedule": "cosine", "clip_norm": None}
ON_CPU = {"batch": 4, "learning_rate": 1e-3}
ON_GPU = {"batch": 64, "learning_rate": 2e-3}
PLANNED = ("epochs", "steps", *RECIPE, *ON_CPU)  # the options that --minutes stands for
TIMED_STEPS = 40
LEAST_STEPS = 50  # of a training, in all
EPOCHS = 50  # at most: validation and a checkpoint each
OVERHEAD = 0.05  # of the time, at most, for the ends of epochs
SPARE = 0.02  # of the time, for what was not foreseen


def recipe(gpu: bool) -> dict:
    """Return the options that do not depend on the time."""
    return RECIPE | (ON_GPU if gpu else ON_CPU)


def length(seconds: float, step: float, epoch_end: float) -> dict[str, int]:
    """Return the epochs and steps of a training that takes so many seconds.

    Parameters
    ----------
    step, epoch_end : float
        Seconds that a step and the end of an epoch take.
    """
    seconds *= 1 - SPARE
    epochs = int(min(EPOCHS, max(1, OVERHEAD * seconds / max(epoch_end, 1e-3))))
    steps = math.floor((seconds / epochs - epoch_end) / step)
    return {"epochs": epochs, "steps": max(1, steps)}
