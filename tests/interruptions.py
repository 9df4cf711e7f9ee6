"""Kill a small training again and again, and compare it with one that ran undisturbed.

    python tests/interruptions.py                     20 times with SIGKILL
    python tests/interruptions.py --signal TERM       20 times with SIGTERM

The instants are random: while the process starts, in the middle of a step, while it writes a
checkpoint. After each, the same command goes on. In the end weights and history must equal
those of the undisturbed run to the bit, no step may be repeated but those since the last
checkpoint (with SIGTERM: at most one), and the exit code is 1 if any of that fails.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from noise2noise.files import PART
from noise2noise.openvino_unet import read_weights
from noise2noise.runs import CHECKPOINT

STEPS, EPOCHS, EVERY = 12, 5, 4
COMMAND = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import train_model
from noise2noise import callbacks, errors
ended = callbacks.Checkpoint.on_train_batch_end
def watched(self, batch, logs=None):  # notes each step that was done, and changes nothing
    with open(sys.argv[0], "a") as log:
        log.write(f"{{self._epoch * {STEPS} + self._first_step + batch + 1}}\\n")
    ended(self, batch, logs)
callbacks.Checkpoint.on_train_batch_end = watched
errors.run_main(train_model.main)
"""


class Training:
    """One run of train_model.py in `folder`, started and killed as often as need be."""

    def __init__(self, folder: Path, pictures: Path):
        self.folder = folder
        self.log = folder / "steps.log"
        folder.mkdir()
        arguments = f"--epochs {EPOCHS} --steps {STEPS} --batch 4 --crop 32 --name run"
        self.arguments = ["gaussian", pictures, *arguments.split(), "--output-dir", folder]
        self.arguments += ["--checkpoint-steps", str(EVERY), "--large-crops", "0.5"]

    def start(self) -> subprocess.Popen:
        # The log's name stands in sys.argv[0], which argparse does not look at.
        program = COMMAND.replace("import sys\n", f"import sys\nsys.argv[0] = {str(self.log)!r}\n")
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, self.arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def steps(self) -> list[int]:
        """The numbers of all steps done so far, in the order in which they were."""
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    def result(self) -> tuple[list[bytes], str]:
        layers = read_weights(self.folder / "run/model.keras").values()
        weights = [array.tobytes() for layer in layers for array in layer]
        return weights, (self.folder / "run/history.csv").read_text()


def wait_for_instant(kind: str, training: Training, process, rng: random.Random) -> None:
    """Return at a random instant of the kind, or when the process has ended."""
    if kind == "start-up":
        time.sleep(rng.uniform(0.05, 6))
        return
    done = len(training.steps())
    if kind == "step":
        wanted = done + rng.randint(1, 6)
        while process.poll() is None and len(training.steps()) < wanted:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        return
    saving = f"{PART}*{CHECKPOINT}"
    while process.poll() is None and not any((training.folder / "run").glob(saving)):
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, 0.03))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        pictures = temporary / "pictures"
        pictures.mkdir()
        from PIL import Image

        for k in range(9):
            values = np.random.default_rng(k).integers(0, 256, (48, 48, 3)).astype(np.uint8)
            Image.fromarray(values).save(pictures / f"{k}.png")

        undisturbed = Training(temporary / "undisturbed", pictures)
        process = undisturbed.start()
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
        print(f"undisturbed: {len(undisturbed.steps())} steps", flush=True)

        kinds = [("start-up", "step", "save")[k % 3] for k in range(args.kills)]
        rng.shuffle(kinds)
        killed = Training(temporary / "killed", pictures)
        repeated = []
        for number, kind in enumerate(kinds, start=1):
            before = killed.steps()
            process = killed.start()
            wait_for_instant(kind, killed, process, rng)
            process.send_signal(getattr(signal, f"SIG{args.signal}"))
            errors = process.communicate()[1]
            steps = killed.steps()
            new = steps[len(before) :]
            again = max(0, max(before) - new[0] + 1) if before and new else 0
            repeated.append(again)
            print(
                f"{number:3} {kind:9} exit {process.returncode:4}, at step {max(steps, default=0)}"
                f" of {STEPS * EPOCHS}, steps repeated since the one before: {again}",
                flush=True,
            )
            if "Traceback" in errors:
                failures.append(f"a traceback: {errors}")
            if (killed.folder / "run/model.keras").exists():
                print("the run is finished: starting another one")
                failures += compare(undisturbed, killed)
                killed = Training(temporary / f"killed{number}", pictures)
        process = killed.start()
        before = killed.steps()
        errors = process.communicate()[1]
        new = killed.steps()[len(before) :]
        repeated.append(max(0, max(before) - new[0] + 1) if before and new else 0)
        assert process.returncode == 0, errors
        failures += compare(undisturbed, killed)
    limit = EVERY if args.signal == "KILL" else 1
    if max(repeated) > limit:
        failures.append(f"{max(repeated)} steps were repeated, more than {limit}")
    print(f"most steps repeated after one kill: {max(repeated)} (allowed: {limit})")
    print(json.dumps(failures) if failures else "weights and histories are the same to the bit")
    return 1 if failures else 0


def compare(undisturbed: Training, killed: Training) -> list[str]:
    names = ("the weights differ", "the histories differ")
    pairs = zip(names, undisturbed.result(), killed.result(), strict=True)
    return [name for name, expected, found in pairs if expected != found]


if __name__ == "__main__":
    sys.exit(main())
