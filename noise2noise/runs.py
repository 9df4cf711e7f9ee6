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
import platform
import shlex
import signal
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from filelock import FileLock, Timeout

from noise2noise.errors import InputError, write_failure
from noise2noise.files import make_folder, remove_parts, whole, write_whole

RUNS = Path(__file__).resolve().parent.parent / "runs"
MODEL = "model.keras"
SETTINGS = "settings.json"
PICTURES = "pictures.json"
HISTORY = "history.csv"
CHART = "history.png"
TENSORBOARD = "tensorboard"
CHECKPOINT = "checkpoint.npz"
PREVIOUS = "checkpoint-previous.npz"
NEW = f"new-{CHECKPOINT}"
PLACE = "epoch", "step", "history"  # in the run, of a checkpoint
LOCK = "lock"
TRAINING_JSON = "training.json"  # inside a .keras file: what the network was trained on and for

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: the same command goes on; prj_test.sb requeues on it
CHECKPOINT_SECONDS = 60.0
NAMED = 3  # changed pictures that an error names
DAMAGED = (  # what reading a damaged zip file raises, and what is in it
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_model(model, path: Path, training: dict) -> None:
    """Save `model` as a .keras file, whole or not at all, with what it was trained on in it.

    Keras reads past the file's additional member; `read_training` returns it.
    """
    with whole(path) as part:
        model.save(part)
        with zipfile.ZipFile(part, "a") as file:
            file.writestr(TRAINING_JSON, json.dumps(training))


def read_training(path: Path) -> dict:
    """Return what a .keras file says of its network's training; {} where it says nothing."""
    try:
        with zipfile.ZipFile(path) as file:
            return dict(json.loads(file.read(TRAINING_JSON)))
    except DAMAGED:
        return {}  # a damaged file is named by who loads its network


class Interrupted(Exception):  # noqa: N818, it is not an error
    """A signal stopped the run after it was saved."""

    def __init__(self, signal_name: str, epoch: int, step: int):
        place = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
        super().__init__(f"stopped by {signal_name} and saved after {place}")


class Run:
    """A run folder that this process holds the lock of.

    Parameters
    ----------
    folder : Path
        Made if need be.
    settings : dict
        What determines the result. A folder that was begun with other settings is refused,
        but for more `epochs` where the schedule does not depend on their number.
    device : str
        What it trains on, in words.
    pictures : dict of str to str
        The files trained on, each with its contents' hash or, where that takes long, its size
        (`datasets.fingerprint`). A folder that was begun with others is refused.

    Raises
    ------
    InputError
        For other settings or pictures, a lock held by a living process, damaged
        checkpoints, or a folder that cannot be written.
    """

    def __init__(self, folder: Path, settings: dict, device: str, pictures: dict[str, str]):
        self.folder = folder
        self.settings = settings
        self.device = device
        make_folder(folder)
        self._lock = _lock(folder)
        remove_parts(folder, 0)  # nobody else writes here, as the lock says
        earlier = read_settings(folder)
        self._load()
        if not was_trained(folder):
            earlier = None  # nothing was trained yet: what failed may be given otherwise
        elif earlier is None:
            raise InputError(f"{folder / SETTINGS} is gone: --fresh keeps the folder aside")
        if earlier is not None:
            there = earlier["settings"]
            # Other exposures may have another range: then it is they that are named.
            if there.get("dataset") == settings["dataset"]:
                self._check_pictures(pictures)
            elif by_file_name(self._read_pictures()) == by_file_name(pictures):
                there = there | {"dataset": settings["dataset"]}  # the same ones, moved
            self._check_settings(there, settings)
        epochs = settings["epochs"]
        if earlier is None or earlier["settings"]["epochs"] != epochs:
            if earlier is not None:
                self._check_epochs(earlier["settings"], epochs)
            text = json.dumps({"settings": settings, "metadata": metadata(device)}, indent=2)
            write_whole(folder / PICTURES, json.dumps(pictures, indent=0).encode())
            write_whole(folder / SETTINGS, (text + "\n").encode())
        self.finished = self._has_model(epochs)

    def _has_model(self, epochs: int) -> bool:
        """Whether the network trained for so many epochs is there."""
        # A run that was given more epochs has the network of fewer until it has finished again.
        # A finished one may have no checkpoint: somebody may need the room.
        model = self.folder / MODEL
        there = model.exists() and read_training(model).get("epochs", epochs) >= epochs
        return there and (self.epoch >= epochs or not self.arrays)

    def _check_settings(self, earlier: dict, settings: dict) -> None:
        differing = [
            "another --start-from"
            if key == "start_from"  # its hash tells nobody anything
            else f"{key} {earlier.get(key)!r} there, {value!r} now"
            for key, value in settings.items()
            if key != "epochs" and earlier.get(key) != value
        ]
        if differing:
            raise InputError(
                f"{self.folder} was begun with other settings ({'; '.join(differing)}): give "
                "those, another --name, or --fresh to keep it aside and start over"
            )

    def _check_epochs(self, earlier: dict, epochs: int) -> None:
        """Refuse another number of epochs where the run would not be the one it was begun as."""
        what = "learning rate" if earlier["schedule"] != "constant" else ""
        what = what or ("loss" if earlier["loss"] == "l0" else "")
        if what or earlier.get("large_crops"):
            what = what or "crops' size"
            raise InputError(
                f"{self.folder} was planned for {earlier['epochs']} epochs, not {epochs}, and its "
                f"{what} depends on their number: train the finished network further under "
                f"another --name with --start-from {self.folder / MODEL}"
            )
        if epochs < self.epoch:
            raise InputError(f"{self.folder} has {self.epoch} epochs already, more than {epochs}")
        if not self.arrays and (self.folder / MODEL).exists():
            raise InputError(
                f"{self.folder} keeps no checkpoint to go on from: train its network further "
                f"under another --name with --start-from {self.folder / MODEL}"
            )

    def _read_pictures(self) -> dict[str, str]:
        """Return what the run was begun with; `InputError` where that cannot be read."""
        path = self.folder / PICTURES
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            raise InputError(f"{path} cannot be read: --fresh keeps the folder aside") from None

    def _check_pictures(self, pictures: dict[str, str]) -> None:
        """Refuse pictures that are not those that the run was begun with."""
        earlier = self._read_pictures()
        changed = [f"{name} is gone" for name in earlier if name not in pictures]
        changed += [f"{name} is new" for name in pictures if name not in earlier]
        changed += [
            f"{name} has other contents"
            for name in pictures
            if pictures[name] != earlier.get(name, pictures[name])
        ]
        if changed:
            more = f" and {len(changed) - NAMED} more" * (len(changed) > NAMED)
            raise InputError(
                f"the pictures have changed since {self.folder} was begun: "
                f"{', '.join(changed[:NAMED])}{more}. Bring them back, give another --name, or "
                "--fresh to keep the run aside and start over"
            )

    def _load(self) -> None:
        """Read the newest sound checkpoint, if there is any."""
        self.arrays: dict[str, np.ndarray] = {}
        self.epoch = self.step = 0  # the place in the run: epochs done, steps of the next
        self.history: list[dict[str, float]] = []
        damaged = []
        for name in (NEW, CHECKPOINT, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                # Every member of the zip file has a checksum, so flipped bytes are noticed.
                with np.load(path, allow_pickle=False) as file:
                    arrays = {key: file[key] for key in file.files}
                place = json.loads(str(arrays.pop("place")))
                self.epoch, self.step, self.history = (place[key] for key in PLACE)
            except DAMAGED:
                damaged.append(str(path))
                continue
            if damaged:
                print(f"{damaged[0]} is damaged: going on from {path}", flush=True)
            self.arrays = arrays
            return
        if damaged:
            raise InputError(
                f"{' and '.join(damaged)} cannot be read, damaged: --fresh keeps the folder "
                "aside and starts over"
            )

    def save(self, arrays: dict[str, np.ndarray], epoch: int, step: int) -> None:
        """Write a checkpoint; the one before stays until the new one is safe on disk."""
        place = json.dumps(dict(zip(PLACE, (epoch, step, self.history), strict=True)))
        file = io.BytesIO()
        np.savez(file, place=np.array(place), **arrays)
        new = self.folder / NEW  # until the one before has its other name
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

    def finish(self, model, training: dict) -> None:
        """Save the trained model. The last checkpoint stays, for more epochs to go on from."""
        save_model(model, self.folder / MODEL, training)
        (self.folder / PREVIOUS).unlink(missing_ok=True)


class ReadOnlyRun(Run):
    """A run that another process, the chief, writes: this one goes along, and writes nothing."""

    def __init__(self, folder: Path, settings: dict):
        self.folder = folder
        self.settings = settings
        self.device = ""  # the chief says it
        self._load()
        self.finished = self._has_model(settings["epochs"])

    def save(self, arrays, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step

    def write_history(self) -> None:
        pass


def open_together(
    folder: Path, settings: dict, device: str, pictures: dict[str, str], processes
) -> Run:
    """Open a run folder: the chief of several processes for writing, then the others to read.

    Raises `InputError` as `Run` does, and where the folder is not one that all of them share.
    """
    run = Run(folder, settings, device, pictures) if processes.chief else None
    processes.all_gather(0)
    run = run or ReadOnlyRun(folder, settings)
    places = processes.all_gather(run.epoch * settings["steps"] + run.step)
    if len(set(places)) > 1:
        raise InputError(f"{folder} is another on each host: --output-dir must be a shared folder")
    return run


def by_file_name(pictures: dict[str, str]) -> list[tuple[str, str]]:
    """Return fingerprints in their order, wherever the files are."""
    return [(Path(name).name, contents) for name, contents in pictures.items()]


def read_settings(folder: Path) -> dict | None:
    """Return what a run folder's settings file holds, None where there is none.

    Raises `InputError` where it cannot be read.
    """
    path = folder / SETTINGS
    try:
        contents = json.loads(path.read_text())
        contents["settings"]["filter"]
        return contents
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} cannot be read: --fresh keeps the folder aside") from None


def metadata(device: str) -> dict:
    """What else it takes to repeat a run: the command, the machine, the versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("keras", "tensorflow", "jax", "numpy", "pillow"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": device,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **versions,
    }


def was_trained(folder: Path) -> bool:
    """Whether a run folder holds what was trained, a checkpoint or a network."""
    return any((folder / name).exists() for name in (NEW, CHECKPOINT, PREVIOUS, MODEL))


def check_free(folder: Path) -> None:
    """Raise `InputError` where another training runs in a folder."""
    if folder.exists():
        _lock(folder).release()


def archive(folder: Path) -> Path | None:
    """Give an earlier run another name, NAME.1 or the next that is free, say so and return it."""
    if folder.exists():
        lock = _lock(folder)
        number = 1
        while (other := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        if os.name == "nt":  # which renames no folder with an open file in it
            lock.release()
        try:
            folder.rename(other)
        except OSError as error:
            raise write_failure(other, error) from None
        lock.release()
        print(f"the earlier run is now {other}")
        return other
    return None


def _lock(folder: Path) -> FileLock:
    """Take the folder's lock, which the system lets go of when the process dies."""
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another training runs in {folder}: wait for it, or give another --name"
        ) from None
    except OSError as error:
        raise write_failure(folder / LOCK, error) from None
    return lock


@contextlib.contextmanager
def stop_flag() -> Iterator[SimpleNamespace]:
    """Turn SIGTERM, SIGINT and SIGUSR1 into a flag, `.signal`, their name, to be acted on later.

    A second Ctrl-C acts as usual, at once; schedulers send SIGTERM more than once.
    """
    flag = SimpleNamespace(signal=None)
    names = [n for n in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, n)]
    before = {}

    def raise_flag(number, frame):
        flag.signal = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    for name in names:
        number = getattr(signal, name)
        before[number] = signal.signal(number, raise_flag)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
