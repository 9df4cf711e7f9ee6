"""The options of train_model.py, the name of its run folder and the settings kept in it."""

import argparse
import hashlib
import platform
import shlex
import sys
from pathlib import Path

import runs
from datasets import NAMES
from filters import FILTERS

CAPTURED = "captured"  # stands where a filter does: real exposures instead of synthetic noise


def parse(doc: str) -> argparse.Namespace:
    """Parse the command line; `doc` is the script's docstring: summary, examples, note."""
    summary, _, note = doc.strip().split("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=note)
    add = parser.add_argument
    add(
        "filter",
        nargs="?",
        default="gaussian",
        choices=(*FILTERS, CAPTURED),
        help="the noise (%(default)s); captured takes real exposures",
    )
    add(
        "dataset",
        nargs="?",
        default="deadleaves",
        help=f"{', '.join(NAMES)}, or a folder of images (%(default)s: generated, no network); for "
        "captured a folder of scenes, each a sub-folder of exposures, or a/ and b/",
    )
    add("--epochs", type=positive(int), metavar="N", default=20, help="(%(default)s)")
    add("--steps", type=positive(int), metavar="N", default=200, help="per epoch (%(default)s)")
    add("--batch", type=positive(int), metavar="N", default=8, help="crops a step (%(default)s)")
    add(
        "--crop",
        type=crop_size,
        metavar="PIXELS",
        default=64,
        help="on a crop's side, a multiple of 32 (%(default)s)",
    )
    add(
        "--learning-rate",
        type=positive(float),
        metavar="RATE",
        default=1e-4,
        help="Adam's, at the start (%(default)s)",
    )
    add(
        "--schedule",
        choices=("constant", "cosine"),
        default="constant",
        help="of the learning rate (%(default)s); cosine falls to 0",
    )
    add(
        "--clip-norm",
        type=positive(float),
        metavar="NORM",
        help="scale a step's gradient (each GPU's part) down to it, where the loss leaps (off)",
    )
    add(
        "--loss",
        choices=("l2", "l1", "l0"),
        help="l1 suits text, whose mean is not 0, l0 impulse (default: l2, for impulse l0)",
    )
    add(
        "--start-from",
        type=existing_file,
        metavar="MODEL",
        help="a trained network's .keras file, to train further (default: random weights)",
    )
    add("--clean-targets", action="store_true", help="train on clean targets, to compare with")
    add(
        "--seed",
        type=natural,
        metavar="N",
        default=0,
        help="of weights, crops, noise (%(default)s)",
    )
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="to compute in; auto takes what the hardware is fast in (%(default)s)",
    )
    add(
        "--data-processes",
        type=natural,
        metavar="N",
        help="that make the noisy pairs (default: for a GPU as many as there are cores, else none)",
    )
    add(
        "--checkpoint-steps",
        type=positive(int),
        metavar="N",
        help="save every N steps, besides each epoch (default: a minute's worth)",
    )
    add(
        "--output-dir",
        type=Path,
        default=runs.RUNS,
        metavar="DIR",
        help="where the run's folder goes (default: runs)",
    )
    add(
        "--name", type=plain_name, help="of the run's folder (default: FILTER-DATASET[-l1][-clean])"
    )
    add("--fresh", action="store_true", help="start over, keeping the old run under another name")
    args = parser.parse_args()
    if args.filter == CAPTURED and args.dataset in NAMES:
        parser.error("captured takes a folder: python train_model.py captured FOLDER")
    if args.filter == CAPTURED and args.clean_targets:
        parser.error("captured has no clean targets")
    args.usual_loss = "l2" if args.filter == CAPTURED else FILTERS[args.filter].loss
    args.loss = args.loss or args.usual_loss
    return args


def positive(kind):
    def convert(text: str):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    convert.__name__ = kind.__name__
    return convert


def natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def crop_size(text: str) -> int:
    value = int(text)
    if value <= 0 or value % 32:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 32")
    return value


def existing_file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return Path(text)


def plain_name(text: str) -> str:
    if text != Path(text).name:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder's name")
    return text


def run_name(args: argparse.Namespace) -> str:
    """FILTER-DATASET, with the loss if it is not the usual one, and -clean."""
    dataset = args.dataset if args.dataset in NAMES else Path(args.dataset).resolve().name
    parts = [args.filter, dataset]
    parts += [args.loss] if args.loss != args.usual_loss else []
    parts += ["clean"] if args.clean_targets else []
    return "-".join(parts)


def usage(filter: str, name: str) -> str:
    """The command that uses the trained model of a run folder."""
    command = f"python infer.py {shlex.join((filter, name.removeprefix(f'{filter}-')))}"
    return f"{command} --restore PICTURES --output DIR" if filter == CAPTURED else command


def settings(args: argparse.Namespace, precision: str, backend: str) -> dict:
    """What determines a run's result, to the bit on one machine."""
    known = args.dataset in NAMES
    keys = (
        "filter",
        "clean_targets",
        "loss",
        "epochs",
        "steps",
        "batch",
        "crop",
        "learning_rate",
        "schedule",
        "clip_norm",
        "seed",
    )
    start = args.start_from and hashlib.sha256(args.start_from.read_bytes()).hexdigest()
    return {
        "dataset": args.dataset if known else str(Path(args.dataset).resolve()),
        **{key: getattr(args, key) for key in keys},
        "start_from": start,  # its SHA-256
        "precision": precision,
        "backend": backend,
    }


def about(device: str) -> dict:
    """What else it takes to repeat a run: the command, the machine, the versions."""
    from importlib.metadata import version

    packages = ("keras", "tensorflow", "numpy", "pillow")
    return {
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": device,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
