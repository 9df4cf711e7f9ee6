"""What happens between training steps: PSNR, the annealing of L0, TensorBoard, checkpoints."""

import importlib.util
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from noise2noise import backend, metrics
from noise2noise.backend import keras
from noise2noise.errors import InputError, quiet_stderr
from noise2noise.filters import Filter
from noise2noise.images import middle
from noise2noise.ranges import to_8bit
from noise2noise.runs import CHECKPOINT, CHECKPOINT_SECONDS, SETTINGS, Interrupted, Run
from noise2noise.tiles import restore_image

PSNR_IMAGES = 8
STEPS_BETWEEN_TALKS = 5  # of processes that train together
PSNR_SIZE = 256  # pixels on a side of the part that is scored, in the middle


class CleanPSNR(keras.callbacks.Callback):
    """Adds `val_psnr` to each epoch: dB on validation images at the filter's test strength.

    The validation loss of noisy targets has a floor at the targets' own noise; this has
    none. Up to `PSNR_IMAGES` images, the middle `PSNR_SIZE` pixels of each.

    Parameters
    ----------
    filter : Filter
    images : sequence of uint8 (height, width, channels)
    build : callable
        Makes a network like the one that is trained.
    """

    def __init__(
        self, filter: Filter, images: Sequence[np.ndarray], build: Callable[[], keras.Model]
    ):
        super().__init__()
        chosen = np.unique(np.linspace(0, len(images) - 1, PSNR_IMAGES).round().astype(int))
        self._clean = [middle(images[int(k)], PSNR_SIZE) for k in chosen]
        self._noisy = [
            metrics.corrupt_for_score(filter, clean, i) for i, clean in enumerate(self._clean)
        ]
        self._build = build
        self._copy = None

    def on_epoch_end(self, epoch, logs=None):
        with backend.single_device() as distributed:
            model = self.model
            if distributed:  # one image cannot be shared by devices: each restores them all
                self._copy = self._copy or self._build()
                self._copy.set_weights(model.get_weights())
                model = self._copy
            logs["val_psnr"] = float(
                np.mean(
                    [
                        metrics.psnr(to_8bit(restore_image(model, noisy)), clean)
                        for noisy, clean in zip(self._noisy, self._clean, strict=True)
                    ]
                )
            )


class AnnealedL0(keras.losses.Loss):
    """The paper's L0 loss, section 3.4: (|f(x) - y| + 1e-8)^gamma, which seeks the mode.

    `Annealing` brings gamma from 2 to 0 in the course of the training.

    Raises
    ------
    InputError
        On JAX, which would compile gamma's first value into the step.
    """

    def __init__(self):
        if keras.backend.backend() != "tensorflow":
            raise InputError("--loss l0 needs TensorFlow: install it, and unset KERAS_BACKEND")
        super().__init__(name="annealed_l0")
        self.gamma = keras.Variable(2.0, trainable=False, dtype="float32", name="gamma")

    def call(self, y_true, y_pred):
        powers = keras.ops.power(keras.ops.abs(y_pred - y_true) + 1e-8, self.gamma)
        return keras.ops.mean(powers, axis=-1)  # one a pixel, as weights are


class Annealing(keras.callbacks.Callback):
    """Sets `AnnealedL0`'s gamma before each step, a function of the optimizer's steps alone."""

    def __init__(self, loss: AnnealedL0, optimizer, total_steps: int):
        super().__init__()
        self._loss, self._optimizer, self._total = loss, optimizer, total_steps

    def on_train_batch_begin(self, batch, logs=None):
        self._loss.gamma.assign(2 * (1 - int(self._optimizer.iterations) / self._total))


def tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    """Return the callback that writes TensorBoard's log, none where TensorFlow is missing."""
    if not importlib.util.find_spec("tensorflow"):
        print("no TensorBoard log: it takes TensorFlow, which is not installed")
        return []
    with quiet_stderr():
        return [keras.callbacks.TensorBoard(folder, write_graph=False)]


def resume(run: Run, model: keras.Model) -> None:
    """Bring a compiled model to the state of the run's checkpoint, if it has one."""
    model.optimizer.build(model.trainable_variables)
    # Keras makes the metrics' variables with the first batch: have them before it.
    nothing = np.zeros((1, 1, 1, model.output_shape[-1]), np.float32)
    model.compute_metrics(nothing, nothing, nothing)
    if run.arrays:
        assign(run, "weights", model.weights)
        assign(run, "optimizer", model.optimizer.variables)


def assign(run: Run, group: str, variables) -> None:
    """Give variables the values of the run's checkpoint."""
    if len(variables) != sum(key.startswith(group) for key in run.arrays):
        raise InputError(
            f"the checkpoint in {run.folder} is of another version: go on with that one, or "
            "--fresh keeps the folder aside and starts over"
        )
    for i, variable in enumerate(variables):
        variable.assign(run.arrays[f"{group}/{i}"])


class Checkpoint(keras.callbacks.Callback):
    """Writes the run's checkpoints and history, and stops it cleanly.

    A checkpoint is written at the end of each epoch, every `every` steps, and when a signal
    was caught, which then raises `Interrupted`. It stands after the others, which add to the
    epoch's logs or write them.

    Parameters
    ----------
    run : Run
    steps : int
        Per epoch.
    stop : object
        With `.signal`, the name of a signal that asks to stop, or None.
    every : int, optional
        Steps between checkpoints; a minute's worth if not given.
    processes : Processes
        Those that train together stop together.
    """

    def __init__(self, run: Run, steps: int, stop, every: int | None, processes: backend.Processes):
        super().__init__()
        self.processes = processes
        self.run = run
        self.steps = steps
        self.stop = stop
        self.every = every
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        # Keras has just reset the running metrics: in the middle of an epoch they go on too.
        self._epoch, self._first_step = epoch, self.run.step
        if self.run.step:
            assign(self.run, "metrics", self.model.metrics_variables)

    def on_train_batch_end(self, batch, logs=None):
        step = self._first_step + batch + 1
        if not np.isfinite(logs["loss"]):
            raise self._diverged(step)
        if step == self.steps:
            return  # the end of the epoch saves
        if caught := self._caught(step):
            self._save(self._epoch, step)
            raise Interrupted(caught, self._epoch, step)
        due = (
            step % self.every == 0
            if self.every
            else time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
        )
        if due:
            self._save(self._epoch, step)

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()}
        self.run.history.append(row)
        self._save(epoch + 1, 0)
        self.run.write_history()
        if caught := self._caught(0):
            raise Interrupted(caught, epoch + 1, 0)

    def _caught(self, step: int) -> str | None:
        """Return the signal that asks to stop; several processes ask each other now and then."""
        if self.processes.count == 1:
            return self.stop.signal
        if step % STEPS_BETWEEN_TALKS:
            return None
        number = signal.Signals[self.stop.signal] if self.stop.signal else 0
        number = max(self.processes.all_gather(number))
        return signal.Signals(number).name if number else None

    def _save(self, epoch: int, step: int) -> None:
        model = self.model
        groups = {
            "weights": model.weights,
            "optimizer": model.optimizer.variables,
            "metrics": model.metrics_variables,
        }
        arrays = {
            f"{group}/{i}": keras.ops.convert_to_numpy(variable)
            for group, variables in groups.items()
            for i, variable in enumerate(variables)
        }
        # The loss is that of the step before: a step that broke the weights shows here.
        if not all(np.isfinite(arrays[f"weights/{i}"]).all() for i in range(len(model.weights))):
            raise self._diverged(step)
        self.run.save(arrays, epoch, step)
        self._saved_at = time.monotonic()

    def _diverged(self, step: int) -> InputError:
        way_out = "try a lower --learning-rate with --fresh"
        if self.run.settings["minutes"]:
            way_out = (
                f"instead of --minutes give the options planned, which {SETTINGS} has, but a lower "
                "--learning-rate, with --fresh"
            )
        kept = ""
        if (self.run.folder / CHECKPOINT).exists():
            kept = f". The last good checkpoint stays in {self.run.folder}"
        return InputError(
            f"the loss is no longer a number at epoch {self._epoch + 1}, step "
            f"{step or self.steps}: {way_out}{kept}"
        )
