"""A GPU's benchmark: checks, speed beside PyTorch's, and a training; gpu.sh starts it.

Every part is a process of its own with a time limit, so that one that fails or hangs costs its
own result only, and no framework holds memory of the card that the next one needs. The last
line says what failed. Leaves in --output, a flat folder of at most eight files:

    gpu.md                       the tables, to go to results/speed-gpu-CARD.md
    log.txt, results.json        all that the parts printed; their numbers
    model.keras, history.csv, history.png, settings.json      the training's
    checkpoint.npz               in place of model.keras, where the time was too short for it
"""

import argparse
import contextlib
import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]

BEGUN = float(os.environ.get("GPU_BEGUN") or time.time())
LEAST_TRAINING = 180  # seconds, of which planning takes a minute
FED = 0.8  # of the highest rate: the smallest batch that reaches it feeds the card
PACKAGES = ("jax", "jaxlib", "keras", "torch", "tensorflow", "numpy")
GPU_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # for what runs beside others
ON_CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Sizes:
    """How much of everything; shapes are (pixels on a side, crops), the most wanted first."""

    bfloat16: tuple[tuple[int, int], ...] = ((64, 128), (64, 32), (64, 512), (256, 32), (256, 4))
    float32: tuple[tuple[int, int], ...] = ((64, 128), (256, 4), (64, 512), (256, 32), (64, 32))
    measured: float = 2.0  # seconds a shape
    megapixels: float = 12
    picture: int = 512  # pixels on a side, of the one that GPU and CPU restore
    crop: int = 64
    killed_steps: int = 300  # an epoch
    watched: float = 8.0  # seconds of a training whose pipeline is watched
    least_steps: int = 40
    otherwise: tuple[int, float] = (128, 5000.0)  # batch and crops/s, where none was measured
    options: tuple[str, ...] = ()


FULL = Sizes()
# Workers as beside a GPU; and CPUs compute in bfloat16 slowly on JAX.
DRY_OPTIONS = ("--workers", "2", "--precision", "float32")
TINY = Sizes(((32, 4),), ((32, 4),), 0.1, 0.1, 96, 32, 12, 0.1, 12, (4, 40.0), DRY_OPTIONS)


# What runs in processes of its own: `gpu.py --call NAME ARGUMENTS` prints lines of JSON.


def rates_of_keras(setting: str, deadline: str, dry: str) -> None:
    """Crops/s of `model.fit` on batches that are on the card already, at a precision and optimizer.

    "free": the step alone, nothing waits for a step's end; "fit": with a callback that reads the
    loss, as train_model.py has them.
    """
    import speed

    from noise2noise import backend
    from noise2noise.backend import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):  # by now the metrics have been read
            self.seconds = time.perf_counter() - self.begun

    class Waiting(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])

    def fit(model, batches, steps: int, *callbacks) -> float:
        clock = Clock()
        options = {"steps_per_epoch": steps, "shuffle": False, "verbose": 0}
        model.fit(batches, callbacks=[clock, *callbacks], **options)
        return clock.seconds / steps

    sizes = TINY if dry == "dry" else FULL
    precision, optimizer = setting.split()
    together = backend.steps_per_execution(0)
    model = speed.keras_network(precision, optimizer, together)
    flops = 3 * speed.unet_flops(1)  # forward and back
    shapes = getattr(sizes, precision)
    for crop, count in in_time(shapes[:2] if optimizer == "muon" else shapes, float(deadline)):
        begun = time.perf_counter()
        batches = on_device(crop, count)
        fit(model, batches, together)
        compiled = time.perf_counter() - begun
        steps = int(sizes.measured / 2 / fit(model, batches, 8))
        steps = together * max(1, steps // together)
        free, waiting = fit(model, batches, steps), fit(model, batches, steps, Waiting())
        report(
            shape=[crop, count],
            setting=setting,
            backend=keras.backend.backend(),
            device=backend.describe_device()[0],
            free=count / free,
            fit=count / waiting,
            tflops=flops * crop * crop * count / free / 1e12,
            compiling=compiled,
        )


def on_device(crop: int, count: int):
    """An endless stream of one batch (input, target), in the device's memory where that goes."""
    import numpy as np
    import speed

    from noise2noise.backend import keras

    rng = np.random.default_rng(0)
    batch = tuple(rng.random((count, crop, crop, 3), np.float32) for _ in range(2))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors(batch).repeat().prefetch(2)
    return speed.repeated(*map(keras.ops.convert_to_tensor, batch))


def rates_of_torch(setting: str, deadline: str, dry: str) -> None:
    """Crops/s of PyTorch's training step on a batch that is on the card already."""
    import speed
    import torch
    from torch_unet import trainer

    sizes = TINY if dry == "dry" else FULL
    precision = setting.split()[1]
    device = speed.torch_device()
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    for crop, count in in_time(getattr(sizes, precision), float(deadline)):
        begun = time.perf_counter()
        step = trainer(*speed.torch_network(setting))
        batch = [torch.rand(count, crop, crop, 3, device=device) for _ in range(2)]

        def steps(number, step=step, batch=batch):
            begun = time.perf_counter()
            for _ in range(number):
                step(*batch)
            synchronize()
            return (time.perf_counter() - begun) / number

        steps(3)
        compiled = time.perf_counter() - begun
        seconds = steps(max(3, int(sizes.measured / steps(5))))
        report(shape=[crop, count], setting=setting, free=count / seconds, compiling=compiled)
        if "compiled" in setting:
            torch._dynamo.reset()  # else the next shape is compiled as a variable one


def in_time(shapes, deadline: float):
    """Yield the shapes until one more, compiled as long as the last, would end too late."""
    last = 0.0
    for shape in shapes:
        begun = time.time()
        if begun + last > deadline:
            report(left_out=list(shape))
            continue
        yield shape
        last = time.time() - begun


def megapixels(kind: str, dry: str) -> None:
    """Megapixels/s of restoring one large picture, compiled and warm."""
    import speed

    from noise2noise.tiles import restore_image

    noisy = speed.picture((TINY if dry == "dry" else FULL).megapixels)
    if kind.startswith("torch"):
        from torch_unet import Restorer

        model = Restorer(*speed.torch_network(kind))
    else:
        model = speed.keras_network()
    restore_image(model, noisy)
    seconds = min(speed.once(lambda: restore_image(model, noisy)) for _ in range(3))
    report(kind=kind, megapixels=noisy.size / 3e6, speed=noisy.size / 3e6 / seconds)


def fused_equals_plain() -> None:
    """The fused network's output and the plain one's, with the same trained weights."""
    import numpy as np

    from model import load_unet
    from noise2noise import backend
    from noise2noise.fused import fuse

    backend.set_precision("float32")
    plain = load_unet(REPOSITORY / "pretrained/gaussian-bsds300.keras")
    x = np.random.default_rng(0).random((2, 64, 96, 3), np.float32)
    apart = np.abs(fuse(plain).predict_on_batch(x) - plain.predict_on_batch(x)).max()
    print(f"largest difference {apart:.1e}")
    assert apart < 1e-4


def same_as_on_a_cpu(size: str) -> None:
    """`infer.py --restore` of one noisy picture, here and by a process that sees no GPU."""
    import numpy as np
    from PIL import Image

    from noise2noise import metrics
    from noise2noise.deadleaves import dead_leaves
    from noise2noise.filters import FILTERS
    from noise2noise.ranges import to_8bit

    clean = dead_leaves(np.random.default_rng(0), size=int(size))
    noisy = to_8bit(metrics.corrupt_for_score(FILTERS["gaussian"], clean, 0))
    scores = [metrics.psnr(noisy, clean)]
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(noisy).save(Path(folder, "noisy.png"))
        command = [sys.executable, REPOSITORY / "infer.py", "gaussian", "bsds300", "--models"]
        command += [REPOSITORY / "pretrained", "--restore", f"{folder}/noisy.png", "--output"]
        for name, environment in {"gpu": {}, "cpu": ON_CPU}.items():
            done = [*map(str, command), f"{folder}/{name}"]
            subprocess.run(done, check=True, env=os.environ | environment)
            restored = np.asarray(Image.open(f"{folder}/{name}/noisy.png"))
            scores.append(metrics.psnr(restored, clean))
    print("noisy {:.2f} dB, restored here {:.3f} dB, on the CPU {:.3f} dB".format(*scores))
    assert scores[1] > scores[0] + 3
    assert abs(scores[1] - scores[2]) < 0.1  # one is in bfloat16


def killed_and_resumed(dataset: str, steps: str, *more: str) -> None:
    """A short training, killed without warning after a checkpoint; the same command goes on."""
    with tempfile.TemporaryDirectory() as folder:
        options = "--epochs 2 --batch 4 --crop 32 --checkpoint-steps 5 --steps"
        command = [sys.executable, str(REPOSITORY / "train_model.py"), "gaussian", dataset]
        command += [*options.split(), steps, *more, "--output-dir", folder, "--name", "run"]
        process = subprocess.Popen(command)
        while process.poll() is None and not Path(folder, "run/checkpoint.npz").exists():
            time.sleep(0.05)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(done.stdout, done.stderr)
        assert ", going on at epoch " in done.stdout
        assert Path(folder, "run/history.csv").read_text().count("\n") == 3
        assert Path(folder, "run/model.keras").exists()
        print(re.search(r"validation PSNR [\d.]+ dB", done.stdout)[0])


def watched(steps: str, *arguments: str) -> None:
    """train_model.py itself: ms a step of its second epoch, and how long it waits for batches."""
    import train_model
    from data import NoisyDataset
    from noise2noise.callbacks import Checkpoint

    marks, waits = [], [0.0]  # (step of its epoch, time, waited so far)
    ended, item = Checkpoint.on_train_batch_end, NoisyDataset.__getitem__

    def on_train_batch_end(self, batch, logs=None):
        ended(self, batch, logs)
        marks.append((batch, time.time(), waits[0]))

    def getitem(self, i):
        since = time.time()
        batch = item(self, i)
        waits[0] += 0 if self.num_batches else time.time() - since
        return batch

    Checkpoint.on_train_batch_end, NoisyDataset.__getitem__ = on_train_batch_end, getitem
    sys.argv = ["train_model.py", *arguments, "--steps", steps]
    train_model.main()
    # Of the second epoch, without its beginning, whose batches were made before it.
    second = [mark for mark in marks[len(marks) // 2 :] if mark[0] >= 8]
    (first, begun, waited), (last, end, waited_last) = second[0], second[-1]
    step = (end - begun) / (last - first)
    report(
        start=time.time() - BEGUN - 2 * int(steps) * step,  # and the end: all but the steps
        step=step,
        waiting=(waited_last - waited) / (end - begun),
    )


def report(**numbers) -> None:
    print(json.dumps(numbers), flush=True)


# The process that starts them.


class Benchmark:
    """The parts' results, their log and the time that is left.

    Parameters
    ----------
    output : Path
        Folder for what is left behind.
    deadline : float
        In seconds since 1970.
    """

    def __init__(self, output: Path, deadline: float, dry: bool):
        self.output, self.deadline, self.dry = output, deadline, dry
        self.sizes = TINY if dry else FULL
        self.reserved = 0  # seconds
        self.failed: list[str] = []
        self.results: dict[str, object] = {}
        self.sections: list[str] = []
        self.work = Path(tempfile.mkdtemp(prefix="gpu-"))
        output.mkdir(parents=True, exist_ok=True)
        self.log = (output / "log.txt").open("w")
        photos = REPOSITORY / "data/BSDS300/images/train"
        self.dataset = "bsds300" if len(list(photos.glob("*.jpg"))) == 200 else "deadleaves"
        self.environment = os.environ | {
            "PYTHONUNBUFFERED": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        }
        self.environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(self.work / "jax"))
        if importlib.util.find_spec("jax"):
            self.environment["KERAS_BACKEND"] = "jax"

    def fail(self, name: str) -> None:
        if name not in self.failed:
            self.failed.append(name)

    def left(self) -> float:
        return self.deadline - time.time()

    def say(self, text: str) -> None:
        line = f"[{time.time() - BEGUN:5.0f} s] {text}"
        print(line, flush=True)
        print(line, file=self.log, flush=True)

    def start(self, command: list, **environment: str):
        """Start a command in a process group of its own, its output to a file."""
        command = [sys.executable, *map(str, command)]
        file = tempfile.TemporaryFile(dir=self.work)  # noqa: SIM115
        environment = self.environment | {"GPU_BEGUN": str(time.time())} | environment
        options = {"cwd": REPOSITORY, "start_new_session": True, "stdin": subprocess.DEVNULL}
        return (
            subprocess.Popen(command, stdout=file, stderr=file, env=environment, **options),
            file,
        )

    def finish(self, name: str, started, seconds: float) -> str | None:
        """Wait for a command; return what it printed, None where it failed or was too slow.

        The results that it had before are kept in `self.results`.
        """
        process, file = started
        begun, failure = time.time(), ""
        try:
            code = process.wait(max(0.1, seconds))
            failure = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"not done within {seconds:.0f} s"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it may have left running, too
        process.wait()
        file.seek(0)
        text = file.read().decode(errors="replace")
        print(f"---- {name}\n{text}\n----", file=self.log, flush=True)
        lines = [line for line in text.splitlines() if line.startswith("{")]
        self.results[name] = []
        for line in lines:
            with contextlib.suppress(ValueError):
                self.results[name].append(json.loads(line))
        last = (text.strip().splitlines() or ["it printed nothing"])[-1]
        if failure:
            self.fail(name)
        self.say(f"{name}: {f'FAILED, {failure}: ' if failure else ''}{last[:200]}")
        self.results["seconds"] = self.results.get("seconds", {}) | {name: time.time() - begun}
        return None if failure else text

    def call(self, name: str, part: Callable, seconds: float, *arguments, **environment) -> None:
        """Run one of the functions above for at most so many seconds."""
        command = [__file__, "--call", part.__name__, *arguments]
        self.finish(name, self.start(command, **environment), seconds)

    def rows(self, *names: str) -> list[dict]:
        return [row for name in names for row in self.results.get(name, [])]

    def table(self, title: str, header: list[str], rows: list[list[str]], note: str = "") -> None:
        lines = [f"## {title}", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        self.sections.append("\n".join([*lines, *(["", note] if note else [])]))
        self.write()

    def write(self) -> None:
        """Write what is known so far: a benchmark that is cut off leaves that."""
        text = "\n\n".join(self.sections) + "\n"
        (self.output / "gpu.md").write_text(text)
        (self.output / "results.json").write_text(json.dumps(self.results, indent=1) + "\n")


def card(bench: Benchmark) -> None:
    """The machine, its card and the versions."""
    from importlib.metadata import PackageNotFoundError, version

    query = "name,memory.total,driver_version,utilization.gpu,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        found = f"no nvidia-smi ({error})"
    versions = [f"Python {sys.version.split()[0]}"]
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    cores = len(os.sched_getaffinity(0))
    title = "# A GPU's benchmark" + (" (dry run: its numbers mean nothing)" if bench.dry else "")
    bench.sections.append(
        f"{title}\n\n{found}; {cores} cores; {', '.join(versions)}; pictures: {bench.dataset}."
    )
    bench.results["card"] = found
    bench.say(found)
    bench.say(", ".join(versions))
    bench.write()


def checks(bench: Benchmark) -> None:
    """What only a GPU can get wrong; together, they take as long as the longest."""
    me, more = [__file__, "--call"], bench.sizes.options
    exact = GPU_MEMORY | {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "NVIDIA_TF32_OVERRIDE": "0"}
    commands = {
        "the GPU is found": (["-m", "noise2noise.backend"], GPU_MEMORY),
        "fused equals plain": ([*me, "fused_equals_plain"], exact),
        "restored as on a CPU": ([*me, "same_as_on_a_cpu", bench.sizes.picture], GPU_MEMORY),
        "killed and resumed": (
            [*me, "killed_and_resumed", bench.dataset, bench.sizes.killed_steps, *more],
            GPU_MEMORY,
        ),
    }
    until = time.time() + bench.left() / 4
    started = {name: bench.start(words, **env) for name, (words, env) in commands.items()}
    rows = []
    for name, process in started.items():
        text = bench.finish(name, process, until - time.time())
        if name == "the GPU is found" and text and "CPU" in text and not bench.dry:
            bench.fail(name)
        outcome = "failed" if name in bench.failed else "passed"
        rows.append([name, outcome, (text or "").strip().splitlines()[-1][:120] if text else ""])
    bench.table("Checks", ["check", "", "it printed"], rows)


def speeds(bench: Benchmark) -> None:
    """Crops/s of training, Keras' and PyTorch's, on the same network."""
    dry = "dry" if bench.dry else "full"
    torch = importlib.util.find_spec("torch") is not None
    backends = [name for name in ("jax", "tensorflow") if importlib.util.find_spec(name)]
    keras_settings = {"bfloat16 adam": 90, "bfloat16 muon": 45, "float32 adam": 45}  # seconds
    limits = {f"{backends[0]} bfloat16 adam": 90} if backends else {}
    if torch:
        limits |= {"torch bfloat16 channels-last": 25, "torch bfloat16 channels-last compiled": 60}
    else:
        bench.say("PyTorch is not installed: nothing to compare with")
    for name in backends:
        share = 1 if name == "jax" else 0.4
        limits |= {f"{name} {setting}": share * n for setting, n in keras_settings.items()}
    if torch:
        limits |= {"torch float32 channels-last": 20, "torch float32 channels-last compiled": 30}
    for name, limit in limits.items():
        framework, setting = name.split(" ", 1)
        part, environment = rates_of_keras, {"KERAS_BACKEND": framework}
        if framework == "torch":
            part, setting, environment = rates_of_torch, name, ON_CPU_BUT_TORCH
        timed_part(bench, name, part, limit, setting, dry, **environment)
    header = "network | back end | crops/s | with losses read | TFLOP/s | PyTorch | compiled"
    rows = []
    for row in bench.rows(*(name for name in limits if not name.startswith("torch"))):
        if "free" not in row:
            continue
        precision, _ = row["setting"].split()
        eager, compiled = (
            next(
                (
                    peer["free"]
                    for peer in bench.rows(f"torch {precision} channels-last{end}")
                    if peer.get("shape") == row["shape"]
                ),
                0,
            )
            for end in ("", " compiled")
        )
        crop, count = row["shape"]
        speeds = [f"{row[key]:.0f}" for key in ("free", "fit")] + [f"{row['tflops']:.2f}"]
        speeds += [f"{peer:.0f}" if peer else "-" for peer in (eager, compiled)]
        speeds += [f"{row['free'] / max(eager, compiled):.2f}" if eager or compiled else "-"]
        rows.append([f"{row['setting']}, {count} x {crop}x{crop}", row["backend"], *speeds])
    note = (
        "Batches lie on the card. PyTorch: channels last, autocast, fused Adam, cuDNN's search for "
        "the fastest; float32 multiplies in TF32 in both. The last column is over PyTorch's "
        "better one. TFLOP/s are those of Table 1, unfused, forward and back."
    )
    bench.table("Training", [*header.split(" | "), "of PyTorch"], rows, note)


# The weights are made by Keras, which must not take the card's memory.
ON_CPU_BUT_TORCH = {"JAX_PLATFORMS": "cpu"}


def timed_part(bench: Benchmark, name: str, part, limit: float, what, dry, **environment) -> None:
    """Call a part that leaves out what it has no time for, before it is ended."""
    limit = bench.left() / 3 if bench.dry else min(limit, bench.left() - bench.reserved)
    if limit < 5:
        bench.fail(name)
        bench.say(f"{name}: left out, no time")
        return
    bench.call(name, part, limit + 10, what, time.time() + limit, dry, **environment)


def restoring(bench: Benchmark) -> None:
    dry = "dry" if bench.dry else "full"
    kinds = {"this project": {}, "torch bfloat16 channels-last": ON_CPU_BUT_TORCH}
    if not importlib.util.find_spec("torch"):
        del kinds["torch bfloat16 channels-last"]
    for kind, environment in kinds.items():
        limit = bench.left() / 6 if bench.dry else min(45, bench.left() - bench.reserved)
        bench.call(f"restoring, {kind}", megapixels, limit, kind, dry, **environment)
    rows = [
        [row["kind"], f"{row['megapixels']:.2f}", f"{row['speed']:.2f}"]
        for row in bench.rows(*(f"restoring, {kind}" for kind in kinds))
    ]
    bench.table("Restoring", ["", "megapixels", "MP/s"], rows)


def feeding_batch(bench: Benchmark) -> tuple[int, float]:
    """The smallest batch that keeps the card busy, and its crops/s as `fit` runs."""
    rates = {
        row["shape"][1]: row["fit"]
        for row in bench.rows("jax bfloat16 adam")
        if row.get("shape", [0])[0] == bench.sizes.crop and "fit" in row
    }
    best = max(rates.values(), default=0)
    return min(((n, r) for n, r in rates.items() if r >= FED * best), default=bench.sizes.otherwise)


class Busy:
    """Samples how much of the time the card computes, as nvidia-smi has it."""

    def __init__(self, folder: Path):
        self._path, self._process = folder / "busy", None
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [*command, "-lms", "500"], stdout=self._path.open("w"), stderr=subprocess.DEVNULL
            )

    def end(self) -> str:
        """Return the median percentage over the second half of the time."""
        if not self._process:
            return "-"
        self._process.kill()
        self._process.wait()
        values = [int(word) for word in self._path.read_text().split() if word.isdigit()]
        values = sorted(values[len(values) // 2 :])
        return f"{values[len(values) // 2]}%" if values else "-"


def pipeline(bench: Benchmark) -> None:
    """The real command with the default workers: what the card waits for."""
    batch, rate = feeding_batch(bench)
    steps = max(bench.sizes.least_steps, 8 * int(bench.sizes.watched / 16 * rate / batch))
    rows = []
    for filter in ("gaussian", "poisson"):
        if filter != "gaussian" and (bench.dry or bench.left() < 100 + bench.reserved):
            bench.say(f"{filter}'s pipeline: left out, no time")
            continue
        options = ["--epochs", 2, "--batch", batch, "--crop", bench.sizes.crop, "--name", filter]
        options += ["--optimizer", "muon", *bench.sizes.options]
        options += ["--output-dir", bench.work / "watched"]
        busy, name = Busy(bench.work), f"pipeline, {filter}"
        limit = min(80, bench.left() - bench.reserved) if not bench.dry else bench.left() / 2
        bench.call(name, watched, limit, steps, filter, bench.dataset, *options)
        percentage = busy.end()
        for row in bench.rows(name):
            rows.append(
                [
                    filter,
                    *(str(batch), f"{1000 * batch / rate:.2f}", f"{1000 * row['step']:.2f}"),
                    *(f"{batch / row['step']:.0f}", f"{100 * row['waiting']:.1f}%", percentage),
                ]
            )
    header = "filter | batch | fit's ms a step | the command's | crops/s | waits for batches | "
    header += "card busy"
    bench.table("The input pipeline", header.split(" | "), rows)


def training(bench: Benchmark) -> None:
    """Train for the rest of the time, as `--minutes` plans it."""
    folder, busy, begun = bench.work / "trained/gaussian", Busy(bench.work), time.time()
    if bench.left() < LEAST_TRAINING and not bench.dry:
        bench.fail("training")
        bench.say("training: left out, no time")
        return
    command = ["train_model.py", "gaussian", bench.dataset, "--minutes"]
    command += [f"{(bench.left() - 40) / 60:.1f}"]
    if bench.dry:
        command[-2:] = ["--epochs", "2", "--steps", "4", "--batch", "4", "--crop", "32"]
    options = [*bench.sizes.options, "--output-dir", folder.parent, "--name", folder.name]
    process, _ = started = bench.start([REPOSITORY / command[0], *command[1:], *options])
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(1, bench.left() - 22))
    process.terminate()  # it saves, where it is not done
    bench.finish("training", started, 10)
    names = ["model.keras", "history.csv", "history.png", "settings.json"]
    for name in names if (folder / names[0]).exists() else [*names[1:], "checkpoint.npz"]:
        with contextlib.suppress(OSError):
            shutil.copy(folder / name, bench.output)
    crops, psnr = 0, float("nan")
    with contextlib.suppress(OSError):
        settings = json.loads((folder / "settings.json").read_text())["settings"]
        for epoch in csv.DictReader((folder / "history.csv").open()):
            crops += settings["steps"] * settings["batch"]
            psnr = float(epoch["val_psnr"] or "nan")
    row = [" ".join(command), str(crops), f"{time.time() - begun:.0f}", f"{psnr:.2f} dB"]
    header = ["command", "crops", "s", "validation PSNR", "card busy"]
    bench.table("The training", header, [[*row, busy.end()]])


def main() -> int:
    if sys.argv[1:2] == ["--call"]:
        globals()[sys.argv[2]](*sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "runs/gpu", metavar="DIR")
    parser.add_argument(
        "--seconds", type=float, default=560, help="to end within, all told (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU too")
    parts = {part.__name__: part for part in (checks, speeds, restoring, pipeline, training)}
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts], help="(all)")
    args = parser.parse_args()
    bench = Benchmark(args.output.resolve(), BEGUN + args.seconds, args.dry_run)
    phases = [card, *(part for name, part in parts.items() if name in args.parts)]
    for number, phase in enumerate(phases, 1):
        after = phases[number:]
        bench.reserved = sum(LEAST_TRAINING if part is training else 60 for part in after)
        try:
            phase(bench)
        except Exception as error:  # whatever it is, the next ones run
            bench.fail(phase.__name__)
            bench.say(f"{phase.__name__}: FAILED, {type(error).__name__}: {error}")
    bench.write()
    shutil.rmtree(bench.work, ignore_errors=True)
    print((bench.output / "gpu.md").read_text())
    bench.say(f"FAILED: {', '.join(bench.failed)}" if bench.failed else "all parts passed")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
