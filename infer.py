"""Use trained networks: the report's Table 2, one picture, scores, or your own noisy pictures.

    python infer.py                                  every model there is, one picture
    python infer.py gaussian kodak                   one model
    python infer.py gaussian kodak --image FILE
    python infer.py --score                          all models, Kodak and BSDS300
    python infer.py gaussian kodak --score my/pictures
    python infer.py --restore PICTURES --output DIR
    python infer.py captured scenes --restore PICTURES --output DIR

Models are taken from pretrained/ and runs/ (of two with one name, that in runs/), or from where
--models says. The clean picture is corrupted by the filter at its test strength, the same way
every time, and restored; with --restore, pictures that are noisy already are restored to files
of the same names and kinds, where no network is named by the one for their colours and noise.
"""

import argparse
import csv
import io
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from noise2noise import images, metrics, runs
from noise2noise.arguments import Parser, add_range, check_range, given_path, not_empty, share
from noise2noise.choice import choose_networks, networks_to_restore_with
from noise2noise.datasets import BSDS300, REAL_NOISE, scored_paths
from noise2noise.errors import InputError, ModelError, WriteError, reading, report, run_main
from noise2noise.files import make_folder, remove_parts, write_whole
from noise2noise.filters import FILTERS
from noise2noise.images import read_rgb
from noise2noise.metrics import METRICS
from noise2noise.networks import PRETRAINED, Trained, find_models
from noise2noise.picture import SUFFIXES
from noise2noise.restore import restore_file
from noise2noise.targets import files_to_restore
from noise2noise.tiles import Ensemble, FewSizes

SHOWN = BSDS300 / "images/test/126007.jpg"  # the picture of Table 2
SCORES = [f"{kind}{name}" for name in METRICS for kind in ("noisy ", "")]
COLUMNS = ("model", "pictures", "strength", *SCORES, "note")
EACH_COLUMNS = ("model", "pictures", "file", "strength", *SCORES)
LONGEST_NAME = 251  # bytes, that .png may follow


def main() -> int:
    args = parse_arguments()
    if args.restore:
        return restore_files(args)
    models = find_models(args.filter, args.dataset, folders=args.models)
    if args.filter in REAL_NOISE:
        raise InputError(f"{args.filter} models have no clean pictures to show: use --restore")
    if args.score is None:
        show(models, args)
    else:
        score(models, args)
    return 0


def load_model(path: Path, precision: str = "float32"):
    """Load a trained U-Net, ready to restore: on a CPU through OpenVINO, where that is installed.

    In float32 its scores are the same everywhere. "auto" is for restoring: faster where bfloat16
    is, and where each size of pictures takes a compilation. Raises `InputError` for a file that
    `model.load_unet` refuses.
    """
    from noise2noise import openvino_unet

    if network := openvino_unet.load(path, precision):
        return network
    from model import load_unet
    from noise2noise import backend
    from noise2noise.fused import fuse

    backend.set_precision(precision)
    model = fuse(load_unet(path))
    model.compile(jit_compile=backend.jit_compile())
    return FewSizes(model) if precision == "auto" and backend.jit_compile() else model


def load(trained: Trained, ensemble: bool, precision: str = "float32"):
    """Load a trained network; as an `Ensemble`, unless its noise looks otherwise when turned."""
    shipped = PRETRAINED / f"{trained.name}.keras"
    if shipped.exists() and not shipped.samefile(trained.path):
        print(f"{trained.name} is {trained.path}; --models {PRETRAINED} takes the shipped one")
    model = load_model(trained.path, precision)
    return Ensemble(model) if ensemble and not trained.oriented else model


def picture_to_show(image: Path | None):
    """Return the clean picture of the figure, uint8, and how it is called."""
    if image is None and SHOWN.is_file():
        image = SHOWN
    if image is None:
        import matplotlib

        image = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
        print(
            "BSDS300 is not there (python download_BSDS300.py fetches it): "
            "showing the photo that Matplotlib ships"
        )
    return read_rgb(image), image.name


def show(models: list[Trained], args: argparse.Namespace) -> None:
    """Make Table 2: a row per model, input, output and true image with their PSNR."""
    from noise2noise import plots

    clean, name = picture_to_show(args.image)
    rows = []
    for trained in models:
        model = load(trained, args.ensemble)
        true = as_seen(clean, model)
        pair = metrics.noisy_and_restored(model, trained.filter, true, 0, args.strength)
        captions = [f"{metrics.psnr(image, true):.2f} dB" for image in pair]
        shown = (np.broadcast_to(image, clean.shape) for image in (*pair, true))
        rows.append((trained.name, list(zip(shown, [*captions, name], strict=True))))
        print(f"{trained.name}: {name}, noisy {captions[0]}, restored {captions[1]}", flush=True)
    plots.save_and_show(plots.table2(rows), args.output / "table2.png")


def as_seen(clean: np.ndarray, model) -> np.ndarray:
    """Return a clean picture as a network sees it: a grey one its luminance."""
    return images.luminance(clean) if model.output_shape[-1] == 1 else clean


def score(models: list[Trained], args: argparse.Namespace) -> None:
    """Score every model on every dataset: a table on screen, scores.csv and scores.md."""
    sets = {dataset: scored_paths(dataset) for dataset in args.score or ("kodak", "bsds300")}
    make_folder(args.output)
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    for path in (path for paths in sets.values() for path in paths):
        with images.open_file(path) as file:
            if min(file.size()) < metrics.MIN_SIZE:
                raise InputError(f"{path} is smaller than {metrics.MIN_SIZE} pixels: remove it")
    rows, each = [], []
    with Progress(console=Console(stderr=True)) as progress:
        for trained in models:
            model = load(trained, args.ensemble)
            for dataset, paths in sets.items():
                values = []
                number = trained.filter.test if args.strength is None else args.strength
                strength = f"{trained.filter.symbol} = {number:g}"
                task = progress.add_task(escape(f"{trained.name} on {dataset}"), total=len(paths))
                for index, path in enumerate(paths):
                    clean = as_seen(read_rgb(path), model)
                    noise = trained.filter, clean, index, args.strength
                    pair = metrics.noisy_and_restored(model, *noise)
                    scored = [
                        metric(image, clean) for metric, _ in METRICS.values() for image in pair
                    ]
                    values.append(scored)
                    each.append((trained.name, dataset, path.name, strength, *digits(scored)))
                    progress.advance(task)
                # Its own training pictures: the score says little of other pictures. (Of
                # BSDS300 the test pictures are scored, which nothing is trained on.)
                seen = dataset != "bsds300" and Path(dataset).resolve().name in trained.trained_on
                these = "these" if dataset == "kodak" else "a folder of this name"
                notes = [f"trained on {these}"] * seen + ["8 views"] * isinstance(model, Ensemble)
                notes += ["on luminance"] * (model.output_shape[-1] == 1)
                means = digits(np.mean(values, axis=0))
                rows.append((trained.name, dataset, strength, *means, ", ".join(notes)))
    write_tables(rows, each, args.output)


def digits(values) -> list[str]:
    """Scores of inputs and outputs as they stand in tables."""
    places = [places for _, places in METRICS.values() for _ in ("input", "output")]
    return [f"{value:.{n}f}" for value, n in zip(values, places, strict=True)]


def write_tables(rows: list[tuple], each: list[tuple], folder: Path) -> None:
    """Print the scores, and write scores.csv, scores.md and each picture's into `folder`."""
    widths = [max(len(row[i]) for row in (COLUMNS, *rows)) for i in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) + " |"
        for row in (COLUMNS, tuple("-" * n for n in widths), *rows)
    ]
    print("\n".join(lines))
    files = {"scores.md": "\n".join(lines) + "\n"}
    tables = {"scores-each.csv": (EACH_COLUMNS, *each), "scores.csv": (COLUMNS, *rows)}
    for name, table in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        files[name] = text.getvalue()
    for name, text in files.items():
        write_whole(folder / name, text.encode(errors="surrogateescape"))  # names may be no text
    print(f"saved {folder / 'scores.csv'}, scores-each.csv and scores.md")


def figure_path(path: Path) -> Path:
    """Return a picture's name with .png behind it; of one that is too long for that, its end."""
    fits = len(os.fsencode(path.name)) <= LONGEST_NAME
    return path.with_name(f"{path.name if fits else path.name[-60:]}.png")


def names(networks: Iterable[Trained]) -> str:
    return " and ".join(sorted({trained.name for trained in networks}))


def restore_files(args: argparse.Namespace) -> int:
    """Restore noisy pictures to files of the same names in --output; 2 if any failed.

    What is there already is kept, so that a restoring that was stopped goes on.
    """
    networks = networks_to_restore_with(args.filter, args.dataset, args.models)
    with reading(args.output):  # a folder that may not be entered, a name that is too long
        targets = files_to_restore(args.restore, args.output, args.overwrite)
    if not targets:
        print("nothing is left to restore")
        return 0
    from rich.console import Console
    from rich.progress import Progress

    for folder in {target.parent for target in targets}:
        remove_parts(folder)
    failed, models, said = 0, {}, set()

    def networks_for(file: images.PictureFile) -> dict[int, tuple]:
        """Load the networks for a file's pages, by their channels; say why, once for each kind."""
        loaded = {}
        chosen = choose_networks(file, networks, by_default=args.filter is None)
        for channels, (trained, why) in chosen.items():
            if why and why not in said:
                said.add(why)
                print(f"{file.path} {why}", flush=True)
            if trained not in models:
                models[trained] = load(trained, args.ensemble, "auto")
            loaded[channels] = models[trained], trained
        return loaded

    figures = args.output / "compare" if args.compare else None
    if taken := [target for target in targets if figures in target.parents]:
        raise InputError(f"{taken[0]} would be among the figures of --compare: restore it apart")
    console = Console(stderr=True)
    options = {"disable": not console.is_interactive, "redirect_stdout": sys.stdout.isatty()}
    with Progress(console=console, **options) as progress:
        done = progress.add_task(f"{len(targets)} pictures", total=len(targets))
        for target, path in targets.items():
            progress.advance(done)
            try:
                with images.open_file(path) as file:
                    chosen = networks_for(file)
                    figure = figures and figure_path(figures / target.relative_to(args.output))
                    wanted = args.range, args.amount, figure, args.coarse, args.linear
                    restore_file(chosen, file, target, progress, *wanted)
            except (WriteError, ModelError):
                raise
            except InputError as error:
                report(error)
                failed += 1
                continue
            if not args.compare and not console.is_interactive:
                by = names(trained for _, trained in chosen.values())
                print(f"restored {target} with {by}", flush=True)
    by = f" with {names(models)}" if models else ""
    print(f"restored {len(targets) - failed} of {len(targets)} pictures{by}, into {args.output}")
    return 2 if failed else 0


def parse_arguments() -> argparse.Namespace:
    summary, examples, note = __doc__.strip().split("\n\n")
    parser = Parser(
        description=summary,
        epilog=f"{examples}\n\n{note}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    kinds = (*FILTERS, *REAL_NOISE)
    add("filter", nargs="?", help=f"models of this filter only: {', '.join(kinds)}")
    add("dataset", nargs="?", help="the model trained on this set (kodak, bsds300-clean, ...)")
    add("--image", type=given_path, metavar="FILE", help="the clean picture to corrupt and restore")
    add("--strength", type=float, help="of the noise (default: the filter's test strength)")
    add(
        "--score",
        nargs="*",
        type=not_empty,
        metavar="DATASET",
        help="PSNR and SSIM over kodak, bsds300 or folders (default: kodak and bsds300)",
    )
    add(
        "--restore",
        nargs="+",
        type=given_path,
        metavar="PATH",
        help="noisy pictures, or folders of them",
    )
    add(
        "--models",
        nargs="+",
        type=given_path,
        default=[PRETRAINED, runs.RUNS],
        metavar="DIR",
        help="folders of models, or of train_model.py's runs, or one's (default: pretrained runs)",
    )
    add(
        "--amount",
        type=share,
        default=1.0,
        metavar="A",
        help="with --restore: from 0, the picture as it is, to 1, restored (%(default)s)",
    )
    add(
        "--ensemble",
        action="store_true",
        help="restore each picture in eight views, turned and flipped, and take the mean: some "
        "0.1 dB better, eight times as long (not for text, which stands upright)",
    )
    add(
        "--coarse",
        action="store_true",
        help="with --restore: take away noise that is coarser than pixels, too, as of scanned film "
        "and enlarged photos, by restoring at half size as well",
    )
    add(
        "--linear",
        action="store_true",
        help="with --restore: the values are in proportion to light, as in raw files developed "
        "without a tone curve: restore their root",
    )
    add("--overwrite", action="store_true", help="with --restore: redo what is in --output already")
    add(
        "--compare",
        action="store_true",
        help="with --restore: save before and after side by side, of a stack the first page",
    )
    add_range(
        parser,
        "with --restore: the values that the network takes for 0 and 1 (default: the training's, "
        "or measured, where a picture has more than 8 bits)",
    )
    add("--output", type=given_path, metavar="DIR", help="for what is made (default: runs)")
    args = parser.parse_args()
    if args.filter and args.filter not in kinds:
        kind, _, rest = args.filter.partition("-")  # a network's whole name
        if kind not in kinds or not rest or args.dataset:
            suffix = Path(args.filter).suffix.lower()
            if suffix in SUFFIXES or os.path.isdir(args.filter):  # noqa: PTH112, of any length
                given = shlex.quote(args.filter)
                parser.error(f"to restore it: python infer.py --restore {given} --output DIR")
            parser.error(f"no filter is called {args.filter}: there are {', '.join(kinds)}")
        args.filter, args.dataset = kind, rest
    for option in ("models", "score", "restore"):  # which take all that follows
        for word in {*map(str, getattr(args, option) or ())} & {*kinds}:
            if not Path(word).exists():
                parser.error(f"put {word} and what follows it before --{option}")
    check_range(parser, args.range)
    options = args.compare, args.overwrite, args.range, args.amount < 1, args.coarse, args.linear
    if not args.restore and any(options):
        parser.error(
            "--compare, --overwrite, --range, --amount, --coarse and --linear are for --restore "
            "PICTURES"
        )
    if args.restore and (args.score is not None or args.image or args.strength is not None):
        parser.error("--restore takes noisy pictures: leave out --score, --image and --strength")
    if args.ensemble and args.filter in FILTERS and FILTERS[args.filter].oriented:
        parser.error(f"--ensemble turns pictures, and {args.filter} stands upright")
    if args.score is not None and args.image:
        parser.error("--score takes sets and folders of clean pictures: leave out --image")
    if args.strength is not None:
        if args.filter not in FILTERS:
            parser.error("--strength is one filter's: name it, as in infer.py gaussian")
        below = 1 if FILTERS[args.filter].share else 1e6
        if not 0 < args.strength < below:
            parser.error(f"--strength must be above 0 and below {below:g}")
    if args.restore and not args.output:
        parser.error("--restore needs --output DIR, where the restored files go")
    args.output = args.output or runs.RUNS
    return args


if __name__ == "__main__":
    run_main(main)
