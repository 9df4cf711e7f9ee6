"""Train the paper's U-Net on pairs of noisy pictures.

    python train_model.py                          gaussian noise, generated pictures
    python train_model.py gaussian kodak           downloads Kodak if it is not there
    python train_model.py text bsds300 --loss l1
    python train_model.py poisson my/pictures --epochs 100

Leaves a folder runs/FILTER-DATASET/ with the model, its history and chart. Run again, the
same command goes on where it was stopped.
"""

import argparse
import platform
import sys
from pathlib import Path

import runs
from datasets import NAMES, training_images
from errors import run_main
from filters import FILTERS

BETA1, BETA2 = 0.9, 0.99  # Adam's, as in the report
VALIDATION_CROPS = 128


def parse_arguments() -> argparse.Namespace:
    summary, _, note = __doc__.strip().split("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=note)
    add = parser.add_argument
    add(
        "filter",
        nargs="?",
        default="gaussian",
        choices=FILTERS,
        help="the noise (%(default)s)",
    )
    add(
        "dataset",
        nargs="?",
        default="deadleaves",
        help=f"{', '.join(NAMES)}, or a folder of images (%(default)s: generated, no network)",
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
        "--loss",
        choices=("l2", "l1"),
        default="l2",
        help="(%(default)s); l1 suits text, whose mean is not 0",
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
    return parser.parse_args()


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


def plain_name(text: str) -> str:
    if text != Path(text).name:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder's name")
    return text


def run_name(args: argparse.Namespace) -> str:
    """FILTER-DATASET, with -l1 and -clean where they apply."""
    dataset = args.dataset if args.dataset in NAMES else Path(args.dataset).resolve().name
    parts = [args.filter, dataset]
    parts += ["l1"] if args.loss == "l1" else []
    parts += ["clean"] if args.clean_targets else []
    return "-".join(parts)


def main() -> int:
    args = parse_arguments()
    noise = FILTERS[args.filter]
    folder = args.output_dir.resolve() / (args.name or run_name(args))
    training, validation = training_images(args.dataset, args.crop, args.seed)
    if args.fresh:
        runs.set_aside(folder)

    # Keras takes seconds to load, so it comes after all that may be wrong with the arguments.
    import devices
    import figures
    from callbacks import Checkpoint, CleanPSNR
    from data import NoisyDataset
    from devices import keras
    from fused import fuse
    from model import build_unet

    earlier = runs.read_settings(folder)
    device, precision = devices.describe_device()
    if args.precision != "auto":
        precision = args.precision
    elif earlier:  # a run goes on in the precision that it was begun in
        precision = earlier["settings"]["precision"]
    run = runs.Run(folder, settings(args, precision, keras.backend.backend()), about(device))
    if run.finished:
        print(f"{folder} is finished: python infer.py shows it, --fresh starts over")
        return 0

    keras.utils.set_random_seed(args.seed)
    devices.set_precision(precision)
    batches, validation_batches = (
        NoisyDataset(
            images,
            noise,
            batch_size=args.batch,
            crop_size=args.crop,
            clean_targets=args.clean_targets,
            **options,
        )
        for images, options in (
            (training, {"steps": args.steps, "seed": args.seed}),
            (validation, {"steps": -(-VALIDATION_CROPS // args.batch), "seed": 0, "fixed": True}),
        )
    )

    model = fuse(build_unet())
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate(args, keras), BETA1, BETA2),
        loss={"l2": "mean_squared_error", "l1": "mean_absolute_error"}[args.loss],
        weighted_metrics=[keras.metrics.MeanSquaredError(name="mse")],
        jit_compile=devices.jit_compile(),
    )
    pictures = f"{len(training)} pictures" if hasattr(training, "__len__") else "generated pictures"
    print(
        f"{args.filter} noise, {'clean' if args.clean_targets else 'noisy'} targets, {pictures} "
        f"and {len(validation)} to validate: {args.epochs} epochs of {args.steps} batches of "
        f"{args.batch} crops of {args.crop}x{args.crop}, {precision} on {device}, into {folder}",
        flush=True,
    )
    if run.epoch or run.step:
        print(f"going on at epoch {run.epoch + 1}, step {run.step + 1}", flush=True)

    with runs.catch_signals() as note:
        checkpoint = Checkpoint(run, args.steps, note, args.checkpoint_steps)
        checkpoint.restore(model)
        with devices.quiet_stderr():  # it loads TensorFlow on every back end
            tensorboard = keras.callbacks.TensorBoard(folder / runs.TENSORBOARD, write_graph=False)
        callbacks = [CleanPSNR(noise, validation), checkpoint, tensorboard]
        try:
            while run.epoch < args.epochs:
                # An epoch that was interrupted is finished first, by a fit of its own.
                batches.first_batch = run.epoch * args.steps + run.step
                model.fit(
                    batches,
                    validation_data=validation_batches,
                    initial_epoch=run.epoch,
                    epochs=run.epoch + 1 if run.step else args.epochs,
                    steps_per_epoch=args.steps - run.step,
                    shuffle=False,  # the data set shuffles itself
                    callbacks=callbacks,
                    verbose=1 if sys.stdout.isatty() else 2,
                )
        except runs.Interrupted as stopped:
            print(stopped, flush=True)
            return runs.EXIT_INTERRUPTED
        except Exception:
            if batches.failure:  # a picture; the back end has wrapped the error in its own
                raise batches.failure from None
            raise

    run.write_history()
    title = f"{folder.name}: {args.loss.upper()}, {precision}, Adam {args.learning_rate:g}"
    figures.save_and_show(
        figures.chart1(run.history, title, args.loss), folder / runs.CHART, show=False
    )
    run.finish(float32_copy(model, keras))
    print(
        f"validation PSNR {run.history[-1]['val_psnr']:.2f} dB; the model is "
        f"{folder / runs.MODEL}. See it with: python infer.py"
    )
    return 0


def learning_rate(args: argparse.Namespace, keras):
    if args.schedule == "constant":
        return args.learning_rate
    return keras.optimizers.schedules.CosineDecay(args.learning_rate, args.epochs * args.steps)


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
        "seed",
    )
    return {
        "dataset": args.dataset if known else str(Path(args.dataset).resolve()),
        **{key: getattr(args, key) for key in keys},
        "precision": precision,
        "backend": backend,
    }


def about(device: str) -> dict:
    """What else it takes to repeat a run: the command, the machine, the versions."""
    from importlib.metadata import version

    packages = ("keras", "tensorflow", "numpy", "pillow")
    return {
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": device,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def float32_copy(model, keras):
    """The same network with no trace of the precision it was trained in, for any machine."""
    from model import build_unet

    keras.config.set_dtype_policy("float32")
    copy = build_unet()
    copy.set_weights(model.get_weights())
    return copy


if __name__ == "__main__":
    run_main(main)
