"""Train the paper's U-Net on pairs of noisy pictures.

    python train_model.py                          gaussian noise, generated pictures
    python train_model.py gaussian kodak           downloads Kodak if it is not there
    python train_model.py text bsds300 --loss l1
    python train_model.py poisson my/pictures --epochs 100
    python train_model.py captured my/scenes       real noisy exposures, no clean pictures

Leaves a folder runs/FILTER-DATASET/ with the model, its history and chart. Run again, the
same command goes on where it was stopped.
"""

import os
import sys
from pathlib import Path

import options
import runs
from captured import inspect, training_scenes, warn_of_jpeg
from datasets import training_images
from errors import InputError, run_main
from filters import FILTERS

BETA1, BETA2 = 0.9, 0.99  # Adam's, as in the report
VALIDATION_CROPS = 128


def main() -> int:
    args = options.parse(__doc__)
    noise = FILTERS.get(args.filter)  # none for captured exposures
    folder = args.output_dir.resolve() / (args.name or options.run_name(args))
    usage = options.usage(args.filter, folder.name)
    floor = None
    if noise:
        training, validation = training_images(args.dataset, args.crop, args.seed)
    else:
        training, validation = training_scenes(Path(args.dataset), args.crop)
        warn_of_jpeg(training)
        inspect(training)
        floor = inspect(validation, "validation")
    # Keras takes seconds to load, so it comes after all that may be wrong with the arguments.
    import devices
    import figures
    from callbacks import AnnealedL0, Annealing, Checkpoint, CleanPSNR, resume
    from data import CapturedDataset, NoisyDataset
    from devices import keras
    from fused import fuse
    from model import build_unet, load_unet

    process, processes = devices.join_processes()
    first = process == 0  # it alone writes the run
    if not first:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    if args.fresh and first:
        runs.set_aside(folder)
    earlier = runs.read_settings(folder)
    device, precision = devices.describe_device()
    if args.precision != "auto":
        precision = args.precision
    elif earlier:  # a run goes on in the precision that it was begun in
        precision = earlier["settings"]["precision"]
    settings = options.settings(args, precision, keras.backend.backend())
    device += f" x {processes} processes" if processes > 1 else ""
    start = load_unet(args.start_from).get_weights() if args.start_from else None
    run = open_run(folder, settings, options.about(device), process, processes)
    if run.finished:
        print(f"{folder} is finished: {usage} shows it, --fresh starts over")
        return 0

    share = process, processes
    size = {"batch_size": args.batch, "crop_size": args.crop, "share": share}
    # With Keras' own workers batches that were prefetched are lost where an iterator ends.
    makers = devices.makers() if args.data_processes is None else args.data_processes
    steps = {"steps": args.steps, "seed": args.seed, "makers": makers}
    validation_steps = {"steps": -(-VALIDATION_CROPS // args.batch), "seed": 0, "fixed": True}
    if noise:
        size["clean_targets"] = args.clean_targets
        batches = NoisyDataset(training, noise, **size, **steps)
        validation_batches = NoisyDataset(validation, noise, **size, **validation_steps)
    else:
        batches = CapturedDataset(training, **size, **steps)
        validation_batches = CapturedDataset(validation, **size, **validation_steps)

    with devices.quiet_stderr():  # it loads TensorFlow on every back end
        keras.utils.set_random_seed(args.seed)
    devices.set_precision(precision)
    learning_rate = args.learning_rate
    if args.schedule == "cosine":
        total = args.epochs * args.steps
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, total)
    with devices.distribute(args.batch):
        losses = {"l2": "mean_squared_error", "l1": "mean_absolute_error", "l0": AnnealedL0()}
        model = build_unet()
        if start:
            model.set_weights(start)
        model = fuse(model)
        model.compile(
            optimizer=keras.optimizers.Adam(
                learning_rate, BETA1, BETA2, global_clipnorm=args.clip_norm
            ),
            loss=losses[args.loss],
            weighted_metrics=[keras.metrics.MeanSquaredError(name="mse")],
            jit_compile=devices.jit_compile(),
        )
        resume(run, model)
    print(f"{describe(args, training, validation)}, {precision} on {device}, into {folder}")
    if run.epoch or run.step:
        print(f"going on at epoch {run.epoch + 1}, step {run.step + 1}")
    sys.stdout.flush()

    with runs.catch_signals() as note:
        callbacks = [CleanPSNR(noise, validation)] if noise else []
        if args.loss == "l0":
            callbacks.append(Annealing(losses["l0"], model.optimizer, args.epochs * args.steps))
        callbacks.append(Checkpoint(run, args.steps, note, args.checkpoint_steps, processes))
        if first:
            log = folder / runs.TENSORBOARD
            callbacks.append(keras.callbacks.TensorBoard(log, write_graph=False))
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
        except InputError:
            raise
        except Exception:
            failure = batches.failure or validation_batches.failure
            if failure:  # a picture; the back end has wrapped the error in its own
                raise failure from None
            raise

    if not first:
        return 0
    run.write_history()
    title = f"{folder.name}: {args.loss.upper()}, {precision}, Adam {args.learning_rate:g}"
    chart = figures.chart1(run.history, title, args.loss, floor)
    figures.save_and_show(chart, folder / runs.CHART, show=False)
    trained = model.get_weights()
    keras.config.set_dtype_policy("float32")  # no trace of the precision it was trained in
    with devices.alone():
        model = build_unet()
        model.set_weights(trained)
        run.finish(model)
    if noise:
        print(f"validation PSNR {run.history[-1]['val_psnr']:.2f} dB")
    print(f"the model is {folder / runs.MODEL}. See it with: {usage}")
    return 0


def open_run(folder: Path, settings: dict, about: dict, process: int, processes: int) -> runs.Run:
    """Open the run folder: the first of several processes for writing, then the others."""
    import devices

    run = runs.Run(folder, settings, about) if process == 0 else None
    devices.gather(0, processes)
    run = run or runs.Follower(folder)
    places = devices.gather(run.epoch * settings["steps"] + run.step, processes)
    if len(set(places)) > 1:
        raise InputError(f"{folder} is another on each host: --output-dir must be a shared folder")
    return run


def describe(args, training, validation) -> str:
    """Say in one line what will be done."""
    kind = "pictures" if args.filter != options.CAPTURED else "scenes"
    count = len(training) if hasattr(training, "__len__") else "generated"
    targets = "clean" if args.clean_targets else "noisy"
    return (
        f"{args.filter} noise, {targets} targets, {count} {kind} and {len(validation)} to "
        f"validate: {args.epochs} epochs of {args.steps} batches of {args.batch} crops of "
        f"{args.crop}x{args.crop}"
    )


if __name__ == "__main__":
    run_main(main)
