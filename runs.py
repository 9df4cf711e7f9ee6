"""The run folder: its settings, its lock, its checkpoints and its history.

A checkpoint is the whole state of a training run in one file: weights, optimizer, running
metrics, place in the run and history so far. Every batch is a function of (seed, epoch,
index), so a run that goes on from a checkpoint ends bit for bit where it would have ended.
Keras' `BackupAndRestore` repeats the epoch it was in and knows no history.
"""

import contextlib
import csv
import io
import json
import os
import signal
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from errors import InputError, write_failure

RUNS = Path(__file__).resolve().parent / "runs"
MODEL = "model.keras"
SETTINGS = "settings.json"
HISTORY = "history.csv"
CHART = "history.png"
TENSORBOARD = "tensorboard"
CHECKPOINT = "checkpoint.npz"
PREVIOUS = "checkpoint-previous.npz"
LOCK = "lock"

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: the same command goes on; prj_test.sb requeues on it
CHECKPOINT_SECONDS = 60.0


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file so that it is there whole or as it was; `InputError` where it cannot be."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise write_failure(path, error) from None


def save_model(model, path: Path) -> None:
    """Save `model` as a .keras file, whole or not at all."""
    part = path.with_name(f".part-{path.name}")
    try:
        model.save(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise write_failure(path, error) from None


class Interrupted(Exception):  # noqa: N818, it is not an error
    """A signal stopped the run after it was saved."""

    def __init__(self, signal_name: str, epoch: int, step: int):
        super().__init__(
            f"stopped by {signal_name} and saved after step {step} of epoch {epoch + 1}: "
            "the same command goes on from there"
        )


class Run:
    """A run folder that this process holds the lock of.

    Parameters
    ----------
    folder : Path
        Made if need be.
    settings : dict
        What determines the result. A folder that was made with other settings is refused.
    about : dict
        What else is worth knowing (versions, device); kept in the settings file only.

    Raises
    ------
    InputError
        For other settings, a lock held by a living process, damaged checkpoints, or a
        folder that cannot be written.
    """

    def __init__(self, folder: Path, settings: dict, about: dict):
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(folder, error) from None
        self._lock = _lock(folder)
        earlier = read_settings(folder)
        if earlier is not None:
            differing = [
                f"{key} {earlier['settings'].get(key)!r} there, {value!r} now"
                for key, value in settings.items()
                if earlier["settings"].get(key) != value
            ]
            if differing:
                raise InputError(
                    f"{folder} was begun with other settings ({'; '.join(differing)}): give "
                    "those, another --name, or --fresh to keep it aside and start over"
                )
        else:
            text = json.dumps({"settings": settings, "about": about}, indent=2)
            write_whole(folder / SETTINGS, (text + "\n").encode())
        self._load()

    def _load(self) -> None:
        """Read the newest sound checkpoint, if there is any."""
        self.arrays: dict[str, np.ndarray] = {}
        self.epoch = self.step = 0  # the place in the run: epochs done, steps of the next
        self.history: list[dict[str, float]] = []
        damaged = []
        for name in (CHECKPOINT, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                # Every member of the zip file has a checksum, so flipped bytes are noticed.
                with np.load(path, allow_pickle=False) as file:
                    arrays = {key: file[key] for key in file.files}
                place = json.loads(str(arrays.pop("place")))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
                damaged.append(str(path))
                continue
            if damaged:
                print(f"{damaged[0]} is damaged: going on from {path}", flush=True)
            self.arrays, self.epoch, self.step = arrays, place["epoch"], place["step"]
            self.history = place["history"]
            return
        if damaged:
            raise InputError(
                f"{' and '.join(damaged)} cannot be read, damaged: --fresh keeps the folder "
                "aside and starts over"
            )

    def save(self, arrays: dict[str, np.ndarray], epoch: int, step: int) -> None:
        """Write a checkpoint; the one before stays until the new one is safe on disk."""
        place = json.dumps({"epoch": epoch, "step": step, "history": self.history})
        file = io.BytesIO()
        np.savez(file, place=np.array(place), **arrays)
        new = self.folder / f"new-{CHECKPOINT}"
        write_whole(new, file.getvalue())
        with contextlib.suppress(FileNotFoundError):
            (self.folder / CHECKPOINT).replace(self.folder / PREVIOUS)
        new.replace(self.folder / CHECKPOINT)
        self.epoch, self.step = epoch, step

    def write_history(self) -> None:
        """Write the history as CSV, a row per epoch, every digit kept."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.history[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_whole(self.folder / HISTORY, text.getvalue().encode())

    @property
    def finished(self) -> bool:
        """Whether the trained model is there."""
        return (self.folder / MODEL).exists()

    def finish(self, model) -> None:
        """Save the trained model, which marks the run as finished, and drop its checkpoints."""
        save_model(model, self.folder / MODEL)
        for name in (CHECKPOINT, PREVIOUS):
            (self.folder / name).unlink(missing_ok=True)


class Follower(Run):
    """A run that another process writes: this one goes along, and writes nothing."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._load()

    def save(self, arrays, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step

    def write_history(self) -> None:
        pass


def read_settings(folder: Path) -> dict | None:
    """Return what a run folder's settings file holds, None where there is none."""
    path = folder / SETTINGS
    try:
        contents = json.loads(path.read_text())
        contents["settings"]["filter"]
        return contents
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} cannot be read: --fresh keeps the folder aside") from None


def set_aside(folder: Path) -> None:
    """Give an earlier run another name, NAME.1 or the next that is free, and say so."""
    if folder.exists():
        lock = _lock(folder)
        number = 1
        while (other := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        folder.rename(other)
        lock.close()
        print(f"the earlier run is now {other}")


def _lock(folder: Path) -> io.IOBase:
    """Take the folder's lock, which the system lets go of when the process dies."""
    file = (folder / LOCK).open("a")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has another way
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            raise _locked(folder) from None
    except OSError:
        raise _locked(folder) from None
    return file


def _locked(folder: Path) -> InputError:
    return InputError(f"another training runs in {folder}: wait for it, or give another --name")


@contextlib.contextmanager
def catch_signals() -> Iterator[SimpleNamespace]:
    """Turn SIGTERM, SIGINT and SIGUSR1 into a note, `.caught`, that is acted on later.

    A second Ctrl-C acts as usual, at once; schedulers send SIGTERM more than once.
    """
    note = SimpleNamespace(caught=None)
    names = [n for n in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, n)]
    before = {}

    def take_note(number, frame):
        note.caught = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    for name in names:
        number = getattr(signal, name)
        before[number] = signal.signal(number, take_note)
    try:
        yield note
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
