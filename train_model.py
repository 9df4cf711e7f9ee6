"""Train the paper's U-Net on pairs of noisy pictures.

    python train_model.py                          gaussian noise, generated pictures
    python train_model.py gaussian kodak           downloads Kodak if it is not there
    python train_model.py text bsds300 --loss l1
    python train_model.py poisson my/pictures --epochs 100
    python train_model.py captured my/scenes       real noisy exposures, no clean pictures
    python train_model.py single my/pictures       the same with one exposure of each scene

Leaves a folder runs/FILTER-DATASET/ with the model, its history and chart. Run again, the
same command goes on where it was stopped.
"""

import argparse
import contextlib
import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from download_BSDS300 import download_BSDS300
from download_kodak import download_kodak
from noise2noise import images, plan, runs
from noise2noise.arguments import (
    Parser,
    add_range,
    check_range,
    crop_size,
    existing_file,
    given_path,
    natural,
    not_empty,
    plain_name,
    positive,
    share,
)
from noise2noise.choice import choose_networks, networks_to_restore_with
from noise2noise.datasets import (
    BSDS300,
    CAPTURED,
    KODAK,
    NAMES,
    REAL_NOISE,
    SINGLE,
    dataset_name,
    fingerprint,
    training_images,
)
from noise2noise.errors import InputError, NetworkError, full_disk, reading, run_main
from noise2noise.exposures import open_exposures
from noise2noise.files import sha256
from noise2noise.filters import FILTERS
from noise2noise.networks import PRETRAINED

STARTED = time.monotonic()
BETA1, BETA2 = 0.9, 0.99  # Adam's, as in the report
VALIDATION_CROPS = 128
APART = 0.2  # pixels from which what is left between exposures is an error that counts
DEFAULTS = {  # the options' values where neither they nor --minutes are given, the report's if any
    "epochs": 20,
    "steps": 200,
    "batch": 8,
    "optimizer": "adam",
    "learning_rate": 1e-4,
    "schedule": "constant",
    "clip_norm": None,
    "large_crops": 0.0,
    "flat_areas": 0.0,
}


def main() -> int:
    args = parse_arguments()
    training, validation, noise_floor = open_images(args)
    if args.large_crops and not can_bear_large_crops(args, training):
        raise InputError(
            f"--large-crops of {2 * args.crop} pixels are made from {4 * args.crop}, and a picture "
            f"has {training.smallest}: leave it out, or take a smaller --crop"
        )
    # Keras takes seconds to load, so it comes after all that may be wrong with the arguments.
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook or a desktop names: it shows nothing
    from noise2noise import backend, callbacks

    backend.keep_freed_memory()
    processes = backend.join_processes()
    given, start = args.start_from, open_start(args)
    if args.minutes:
        plan_training(args, training, validation, processes)
    if args.loss == "l0":
        callbacks.AnnealedL0()  # which JAX has not: to be said before there is a run's folder
    run = open_run(args, fingerprint(training, validation), processes)
    if run.finished:
        print(f"{run.folder} is finished: {usage(args, run)} shows it, --fresh starts over")
        return 0
    large_from = args.steps * small_crop_epochs(args) if args.large_crops else None
    batches, validation_batches = make_batches(args, training, validation, processes, large_from)
    with backend.distribute(smallest_batch(args)):
        stretches = run.step, args.checkpoint_steps or args.steps
        model = compile_model(args, start, run.settings["precision"], stretches)
        callbacks.resume(run, model)
    print(f"{describe(args, training, validation, run)}, into {run.folder}", flush=True)
    took = "this stretch took" if run.epoch or run.step else "this took"
    try:
        with runs.stop_flag() as stop:
            watching = make_callbacks(args, validation, model, run, processes, stop)
            fit(args, model, batches, validation_batches, watching, run)
    except runs.Interrupted as stopped:
        again = "the same command"
        again += ", without --fresh," if args.fresh else ""
        again += f" and with --start-from {args.start_from}," if args.start_from != given else ""
        with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends `| tee` first
            print(f"{stopped}: {again} goes on from there", flush=True)
        return runs.EXIT_INTERRUPTED

    if processes.chief:
        finish(args, model, run, noise_floor, validation)
        if args.minutes:
            minutes = (time.monotonic() - STARTED) / 60
            print(f"{took} {minutes:.1f} minutes, {args.minutes:g} were planned in all")
    return 0


def open_images(args: argparse.Namespace):
    """Return the training and validation images, and the noise floor of captured exposures.

    Of real exposures it also sets what they say: `args.channels`, `saw_grey`, `range`, `deep`.
    """
    if args.filter in REAL_NOISE:
        training, validation, noise_floor = open_exposures(
            args.filter, Path(args.dataset), args.crop, args.range, args.neighbours
        )
        args.channels, args.saw_grey = 1 if training.grey else 3, training.shows_grey
        args.range, args.deep = training.span, training.dtype != "uint8"
        return training, validation, noise_floor
    try:
        if args.dataset == "kodak":
            download_kodak(KODAK)
        elif args.dataset == "bsds300":
            download_BSDS300(BSDS300)
    except NetworkError as error:
        raise InputError(
            f"{error}. Without a network, train on generated pictures: "
            "python train_model.py gaussian deadleaves"
        ) from None
    return *training_images(args.dataset, args.crop, args.seed, args.grey), None


def open_start(args: argparse.Namespace):
    """Return the network of --start-from, if any, and note what it is in `args`."""
    if not args.start_from:
        return None
    from model import load_unet

    start = load_unet(args.start_from)
    if start.output_shape[-1] < args.channels:
        raise InputError(
            f"{args.start_from} is for grey pictures, and these files have three channels: start "
            "from a network for colours, or save them with one channel"
        )
    # Before --fresh renames the folder that it may be in.
    args.start_sha256 = sha256(args.start_from)
    args.trained_before = runs.read_training(args.start_from)
    return start


def plan_training(args: argparse.Namespace, training, validation, processes) -> None:
    """Set the options that --minutes stands for: as the run was planned, or by timing it anew."""
    from noise2noise import backend

    folder = run_folder(args)
    earlier = None if args.fresh else runs.read_settings(folder)
    precision = choose_precision(args, earlier)
    asked = run_settings(args, precision, backend.keras.backend.backend())
    if kept := plan.kept(earlier, asked, folder):
        vars(args).update(kept)
        return
    recipe = plan.recipe(args.filter, backend.on_gpu(), further=bool(args.start_from))
    recipe |= {} if can_bear_large_crops(args, training) else {"large_crops": 0.0}
    trial = argparse.Namespace(**vars(args) | recipe | {"epochs": 1, "steps": plan.TIMED_STEPS})

    def prepare(batch: int):
        trial.batch = batch
        images = training, validation, processes
        batches, validation_batches = make_batches(trial, *images)
        large_batches = make_batches(trial, *images, large_from=0)[0] if trial.large_crops else None
        with backend.distribute(smallest_batch(trial)):
            model = compile_model(trial, None, precision)
        return model, batches, large_batches, validation_batches, clean_psnr(trial, validation)

    def agree(number: int) -> int:
        return processes.all_gather(number)[0]

    if processes.chief:
        runs.check_free(folder)  # before it takes its time
        print(f"timing some steps, to plan {args.minutes:g} minutes", flush=True)
    each = 4 * backend.device_count()  # of whose large crops each device takes as many
    batch = -(-trial.batch // each) * each
    vars(args).update(recipe, **plan.by_timing(args.minutes, STARTED, batch, prepare, agree))


def run_folder(args: argparse.Namespace) -> Path:
    """Return where the run is, or will be; `InputError` where that cannot be looked at."""
    folder = args.output_dir.resolve() / (args.name or run_name(args))
    with reading(folder):  # a name that is too long, a folder that may not be entered
        folder.exists()
    return folder


def choose_precision(args: argparse.Namespace, earlier: dict | None) -> str:
    """Return the precision to train in: a run goes on in the one that it was trained in."""
    from noise2noise import backend

    if args.precision != "auto":
        return args.precision
    going_on = earlier and runs.was_trained(run_folder(args))
    return earlier["settings"]["precision"] if going_on else backend.describe_device()[1]


def open_run(args: argparse.Namespace, pictures: dict[str, str], processes) -> runs.Run:
    """Open the run folder, once it has its settings; with --fresh a new one."""
    from noise2noise import backend

    folder = run_folder(args)
    if args.fresh and processes.chief:
        other = runs.archive(folder)
        if other and args.start_from and folder in args.start_from.resolve().parents:
            args.start_from = other / args.start_from.resolve().relative_to(folder)
    processes.all_gather(0)  # nobody reads the folder before it has its other name
    device, _ = backend.describe_device()
    precision = choose_precision(args, runs.read_settings(folder))
    settings = run_settings(args, precision, backend.keras.backend.backend())
    device += f" x {processes.count} processes" if processes.count > 1 else ""
    idle = backend.idle_gpus(smallest_batch(args) // processes.count)
    for line in filter(None, (backend.unused_gpu(), idle)):
        print(line)
    return runs.open_together(folder, settings, device, pictures, processes)


def make_batches(args: argparse.Namespace, training, validation, processes, large_from=None):
    """Return the data sets to train on, from batch `large_from` on large crops, and to validate."""
    from data import CapturedDataset, NoisyDataset, SingleDataset
    from noise2noise import backend

    make = {CAPTURED: CapturedDataset, SINGLE: SingleDataset}.get(args.filter, NoisyDataset)
    options = {"batch_size": args.batch, "crop_size": args.crop, "channels": args.channels}
    options["shard"] = processes.index, processes.count
    if args.filter not in REAL_NOISE:
        options |= {"filter": args.filter, "clean_targets": args.clean_targets}
    batches = make(
        training,
        **options,
        steps=args.steps,
        seed=args.seed,
        workers=backend.default_workers() if args.workers is None else args.workers,
        large_from=large_from,
        flat_areas=args.flat_areas,
    )
    steps = -(-VALIDATION_CROPS // args.batch)
    return batches, make(validation, **options, steps=steps, validation=True)


def small_crop_epochs(args: argparse.Namespace) -> int:
    """Return the epochs before those on large crops: of several, one at least is."""
    large = round(args.large_crops * args.epochs)
    if args.large_crops and args.epochs > 1:
        large = max(1, large)
    return args.epochs - large


def can_bear_large_crops(args: argparse.Namespace, training) -> bool:
    """Whether the pictures are as large as what large crops are cut from, where that matters.

    Of single exposures these are regions of twice their size. Mirrored ones would have the
    target's pixels in the input, too.
    """
    return args.filter != SINGLE or training.smallest >= 4 * args.crop


def smallest_batch(args: argparse.Namespace) -> int:
    """Return the crops of the training's smallest batches, that devices have to share."""
    return args.batch // 4 if args.large_crops else args.batch


def compile_model(args: argparse.Namespace, start, precision: str, stretches=()):
    """Build the network, with the weights of the network `start` if there is one; compile it.

    A GPU is given several steps at once. Their number divides that of an epoch and each of
    `stretches`: the steps that the run has done of an epoch, and those between two checkpoints.
    """
    from model import build_unet, start_from
    from noise2noise import backend, callbacks
    from noise2noise.backend import keras
    from noise2noise.fused import fuse
    from noise2noise.muon import Muon

    with backend.quiet_stderr():  # it loads TensorFlow on every back end
        keras.utils.set_random_seed(args.seed)
    backend.set_precision(precision)
    learning_rate = args.learning_rate
    if args.schedule == "cosine":
        total_steps = args.epochs * args.steps
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, total_steps)
    model = build_unet(args.channels, args.channels)
    if start:
        start_from(model, start)
    model = fuse(model)
    if args.filter == SINGLE:
        from noise2noise.neighbours import NeighbourModel

        model = NeighbourModel(model)
    kind = Muon if args.optimizer == "muon" else keras.optimizers.Adam
    optimizer = kind(learning_rate, BETA1, BETA2, global_clipnorm=args.clip_norm)
    if args.filter == SINGLE and precision == "float16":  # Keras goes by the model's own policy
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    losses = {"l2": "mean_squared_error", "l1": "mean_absolute_error"}
    annealed = args.loss == "l0"  # at each step
    model.compile(
        optimizer=optimizer,
        loss=callbacks.AnnealedL0() if annealed else losses[args.loss],
        weighted_metrics=[keras.metrics.MeanSquaredError(name="mse")],
        jit_compile=backend.jit_compile(),
        steps_per_execution=1 if annealed else backend.steps_per_execution(args.steps, *stretches),
    )
    return model


def make_callbacks(args: argparse.Namespace, validation, model, run, processes, stop):
    """Return what happens between steps: PSNR, annealing, checkpoints, TensorBoard's log."""
    from noise2noise import callbacks

    # Checkpoint saves what those before it add to an epoch's history, and may stop the run.
    made = clean_psnr(args, validation)
    if args.loss == "l0":
        total_steps = args.epochs * args.steps
        made.append(callbacks.Annealing(model.loss, model.optimizer, total_steps))
    made += callbacks.tensorboard(run.folder / runs.TENSORBOARD) if processes.chief else []
    return [*made, callbacks.Checkpoint(run, args.steps, stop, args.checkpoint_steps, processes)]


def clean_psnr(args: argparse.Namespace, validation) -> list:
    """Return what measures PSNR at the end of an epoch, where there are clean pictures."""
    from model import build_unet
    from noise2noise import callbacks

    if args.filter in REAL_NOISE:
        return []
    build = partial(build_unet, args.channels, args.channels)
    return [callbacks.CleanPSNR(FILTERS[args.filter], validation, build)]


def fit(args: argparse.Namespace, model, batches, validation_batches, watching, run) -> None:
    """Train, from where the run is to its end."""
    from noise2noise.backend import keras, original_errors, stream

    small = small_crop_epochs(args)
    with original_errors(batches, validation_batches), full_disk(run.folder):
        while run.epoch < args.epochs:
            # An epoch that was interrupted is finished first, by a fit of its own.
            batches.first_batch = run.epoch * args.steps + run.step
            end = args.epochs if run.epoch >= small else small  # Keras wants one size in a fit
            end = run.epoch + 1 if run.step else end
            stop = keras.callbacks.LambdaCallback(on_epoch_end=partial(stop_at, model, end))
            if run.epoch >= small:  # or its graph is for any size, which rounds otherwise
                model.make_train_function(force=True)
            model.fit(
                stream(batches),
                validation_data=stream(validation_batches),
                initial_epoch=run.epoch,
                epochs=args.epochs,
                steps_per_epoch=args.steps - run.step,
                shuffle=False,  # the data set shuffles itself
                callbacks=[*watching, stop],
                verbose=1 if sys.stdout.isatty() else 2,
            )


def stop_at(model, end: int, epoch: int, logs: dict) -> None:
    """End a fit after its epoch `end`, as it is counted: Keras shows the last one of all."""
    model.stop_training = epoch + 1 == end


def describe(args: argparse.Namespace, training, validation, run: runs.Run) -> str:
    """Say in one line what will be done."""
    count = len(training) if hasattr(training, "__len__") else "generated"
    kind = ("scene" if args.filter == CAPTURED else "picture") + "s" * (count != 1)
    targets = "clean" if args.clean_targets else "noisy"
    place = f", going on at epoch {run.epoch + 1}, step {run.step + 1}"
    return (
        f"{args.filter} noise, {targets} targets, {count} {kind} and {len(validation)} to "
        f"validate: {args.epochs} epochs of {args.steps} batches of {args.batch} crops of "
        f"{args.crop}x{args.crop}, {run.settings['precision']} on {run.device}"
        f"{place if run.epoch or run.step else ''}"
    )


def run_name(args: argparse.Namespace) -> str:
    """FILTER-DATASET, with the loss if it is not the default one, -grey and -clean."""
    parts = [args.filter, dataset_name(args.dataset)]
    parts += [args.loss] if args.loss != args.default_loss else []
    parts += ["grey"] if args.grey else []
    parts += ["clean"] if args.clean_targets else []
    return "-".join(parts)


def usage(args: argparse.Namespace, run: runs.Run) -> str:
    """The command that uses the trained model of a run folder."""
    name = run.folder.name.removeprefix(f"{args.filter}-")
    words = ["python", "infer.py", args.filter, *([] if args.name else [name])]
    words += ["--restore", "PICTURES", "--output", "DIR"] if args.filter in REAL_NOISE else []
    # A name of the user's own may be another network's, too.
    folder = run.folder if args.name else run.folder.parent
    words += ["--models", str(folder)] if folder != runs.RUNS else []
    return shlex.join(words)


def run_settings(args: argparse.Namespace, precision: str, backend_name: str) -> dict:
    """What determines a run's result, to the bit on one machine."""
    keys = ["filter", "clean_targets", "loss", "crop", "seed", "grey", "neighbours", "minutes"]
    known = args.dataset in NAMES
    return {
        "dataset": args.dataset if known else str(Path(args.dataset).resolve()),
        **{key: getattr(args, key) for key in (*keys, *plan.PLANNED)},
        "start_from": args.start_sha256,
        "range": args.range and list(args.range),
        "precision": precision,
        "backend": backend_name,
    }


def finish(args: argparse.Namespace, model, run: runs.Run, noise_floor, validation) -> None:
    """Leave the run's chart and its network behind, and say where."""
    from model import build_unet
    from noise2noise import backend, plots

    run.write_history()
    recipe = f"{args.optimizer.title()} {args.learning_rate:g}"
    title = f"{run.folder.name}: {args.loss.upper()}, {recipe}"
    chart = plots.chart1(run.history, title, args.loss, noise_floor)
    plots.save_and_show(chart, run.folder / runs.CHART, show=False)
    backend.set_precision("float32")  # no trace in the file of the precision it trained in
    with backend.single_device():
        trained = build_unet(args.channels, args.channels)  # as it is in Table 1, not fused
        trained.set_weights(model.get_weights())
        run.finish(trained, what_was_trained(args))
        if args.filter == CAPTURED:
            print(beside_shipped(trained, validation))
    psnr = run.history[-1].get("val_psnr")
    reached = "" if psnr is None else f"validation PSNR {psnr:.2f} dB, "
    print(f"{reached}the model is {run.folder / runs.MODEL}. See it with: {usage(args, run)}")


def beside_shipped(trained, validation) -> str:
    """Say how near the truth a network comes, and the shipped one for such pictures, if any."""
    from infer import load_model
    from noise2noise.metrics import psnr_by_exposures

    def words(psnr: float) -> str:
        return f"to {psnr:.2f} dB" if psnr < np.inf else "nearer to the truth than they can tell"

    reached = psnr_by_exposures(trained, validation)
    said = f"as exposures tell that it has not seen, the network restores {words(reached)}"
    if validation.apart > APART:
        said += f" (they lie up to {validation.apart:.1f} pixels apart, which counts as error)"
    try:
        networks = networks_to_restore_with(None, None, [PRETRAINED])
    except InputError:
        return said
    with images.open_file(validation.paths[0]) as file:
        shipped, _ = next(iter(choose_networks(file, networks, by_default=True).values()))
    model = load_model(shipped.path)
    others = psnr_by_exposures(model, validation)
    said += f", {shipped.name}, which comes with the code, {words(others)}"
    if others <= reached:
        return said
    further = f", --name ANOTHER --start-from {shlex.quote(str(shipped.path))}"
    bears = model.output_shape[-1] >= trained.output_shape[-1]
    return f"{said}: that is better. Take it, or train for longer{further * bears}"


def what_was_trained(args: argparse.Namespace) -> dict:
    """What the network is for and what it has seen, to be kept in its file."""
    before = args.trained_before
    seen = [*before.get("trained_on", []), dataset_name(args.dataset)]
    return {
        "filter": args.filter,
        "loss": args.loss,
        "clean_targets": args.clean_targets,
        "grey": args.saw_grey,
        "trained_on": sorted(set(seen)),
        "range": args.range and list(args.range),
        "deep": args.deep,
        "crops": before.get("crops", 0) + args.epochs * args.steps * args.batch,
        "epochs": args.epochs,
    }


def parse_arguments() -> argparse.Namespace:
    summary, _, note = __doc__.strip().split("\n\n")
    parser = Parser(description=summary, epilog=note)
    add = parser.add_argument
    count = partial(add, type=positive(int), metavar="N")
    add(
        "filter",
        nargs="?",
        default="gaussian",
        choices=(*FILTERS, *REAL_NOISE),
        help="the noise (%(default)s); captured takes real exposures, single one of each scene",
    )
    add(
        "dataset",
        nargs="?",
        type=not_empty,
        default="deadleaves",
        help=f"{', '.join(NAMES)}, or a folder of pictures (%(default)s: generated, no network); "
        "for captured a folder of scenes, each a stack or a sub-folder of exposures, or a/ and b/; "
        "for single a folder of noisy pictures, or one, or a stack",
    )
    add(
        "--minutes",
        type=positive(float),
        metavar="N",
        help="train for so long: it times some steps and plans --epochs, --steps, --batch, "
        "--optimizer, --learning-rate, --schedule, --clip-norm, --large-crops and --flat-areas",
    )
    count("--epochs", help=f"({DEFAULTS['epochs']})")
    count("--steps", help=f"per epoch ({DEFAULTS['steps']})")
    count("--batch", help=f"crops a step ({DEFAULTS['batch']})")
    add(
        "--crop",
        type=crop_size,
        metavar="PIXELS",
        default=64,
        help="on a crop's side, a multiple of 32 (%(default)s)",
    )
    add(
        "--large-crops",
        type=share,
        metavar="SHARE",
        help="of the epochs, at the end, on a quarter as many crops of twice the size, without "
        "which long trainings break down on large pictures (0)",
    )
    add(
        "--flat-areas",
        type=share,
        metavar="SHARE",
        help="of the crops, given an area of one colour, black half of the time, without which "
        "bernoulli takes black areas for lost pixels (0)",
    )
    add(
        "--optimizer",
        choices=("adam", "muon"),
        help="(adam, as in the report); muon learns more in as many minutes, at 1e-3",
    )
    add("--learning-rate", type=positive(float), metavar="RATE", help="at the start (0.0001)")
    add(
        "--schedule",
        choices=("constant", "cosine"),
        help="of the learning rate (constant); cosine falls to 0",
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
        help="a trained network's .keras file, to train further; one for colours starts a grey one "
        "too (default: random weights)",
    )
    add(
        "--grey",
        action="store_true",
        help="train on the pictures' luminance, n = m = 1 (captured, single: by themselves)",
    )
    count(
        "--neighbours",
        help="captured: pairs of exposures at most N apart in their order, such as frames of a "
        "stack in which something moves (default: any)",
    )
    add_range(
        parser,
        "captured, single: the values that the network takes for 0 and 1 (default: of 8 bits 0 to "
        "255, of more as measured)",
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
        "--workers",
        type=natural,
        metavar="N",
        help="processes that make the noisy pairs (default: beside a GPU one per core, else none)",
    )
    count(
        "--checkpoint-steps",
        help="save every N steps, besides each epoch (default: a minute's worth)",
    )
    add(
        "--output-dir",
        type=given_path,
        default=runs.RUNS,
        metavar="DIR",
        help="where the run's folder goes (default: runs)",
    )
    add(
        "--name",
        type=plain_name,
        help="of the run's folder (default: FILTER-DATASET[-LOSS][-grey][-clean])",
    )
    add("--fresh", action="store_true", help="start over, keeping the old run under another name")
    args = parser.parse_args()
    check_arguments(parser, args)
    args.channels = 1 if args.grey else 3  # the network's n and m
    # What others find out: open_images of real exposures, open_start.
    args.deep, args.saw_grey = False, args.grey
    if args.filter in FILTERS:
        args.saw_grey |= FILTERS[args.filter].grey_too
    args.start_sha256, args.trained_before = None, {}
    args.default_loss = "l2" if args.filter in REAL_NOISE else FILTERS[args.filter].loss
    args.loss = args.loss or args.default_loss
    return args


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and give those left out their values."""
    for key, value in DEFAULTS.items():
        given = getattr(args, key) is not None
        if given and args.minutes:
            parser.error(f"--minutes plans it: leave out --{key.replace('_', '-')}")
        setattr(args, key, getattr(args, key) if given else value)
    if args.filter in REAL_NOISE and args.dataset in NAMES:
        parser.error(f"{args.filter} takes a folder: python train_model.py {args.filter} FOLDER")
    if args.filter in REAL_NOISE and args.clean_targets:
        parser.error(f"{args.filter} has no clean targets")
    if args.filter != CAPTURED and args.neighbours:
        parser.error("--neighbours is for captured exposures")
    if args.filter in REAL_NOISE and args.grey:
        parser.error(f"{args.filter} is grey by itself where all exposures are: leave --grey out")
    if args.filter not in REAL_NOISE and args.range:
        parser.error(f"--range is for {' and '.join(REAL_NOISE)}")
    check_range(parser, args.range)
    if args.large_crops and args.batch % 4:
        parser.error("--large-crops takes a quarter of --batch, which must be a multiple of 4")
    if args.flat_areas and not plan.paints(args.filter):
        parser.error(f"--flat-areas is not for {args.filter}")
    if args.grey and FILTERS[args.filter].needs_color:
        parser.error(f"{args.filter} is in colours: leave --grey out")


if __name__ == "__main__":
    run_main(main)
