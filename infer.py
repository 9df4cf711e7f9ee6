"""Use trained networks: the report's Table 2, one picture, scores, or your own noisy pictures.

    python infer.py                                  every model there is, one picture
    python infer.py gaussian kodak                   one model
    python infer.py gaussian kodak --image FILE
    python infer.py --score                          all models, Kodak and BSDS300
    python infer.py gaussian kodak --score my/pictures
    python infer.py gaussian bsds300 --restore PICTURES --output DIR

Models are taken from pretrained/ and runs/ (of two with one name, that in runs/), or from where
--models says. The clean picture is corrupted by the filter at its test strength, the same way
every time, and restored; with --restore, pictures that are noisy already are restored to files
of the same names and kinds.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from noise2noise import images, ranges, runs
from noise2noise.datasets import BSDS300, REAL_NOISE, scored_paths
from noise2noise.errors import InputError, WriteError, run_main, write_failure
from noise2noise.files import whole
from noise2noise.filters import FILTERS, Filter
from noise2noise.images import SUFFIXES, read_rgb
from noise2noise.metrics import METRICS

PRETRAINED = Path(__file__).resolve().parent / "pretrained"
SHOWN = BSDS300 / "images/test/126007.jpg"  # the picture of Table 2
SCORES = [f"{kind}{name}" for name in METRICS for kind in ("noisy ", "")]
COLUMNS = ("model", "pictures", "strength", *SCORES, "note")
EACH_COLUMNS = ("model", "pictures", "file", "strength", *SCORES)


@dataclass(frozen=True)
class Trained:
    """A trained model's file, and what it was trained for: no filter for real noise.

    `trained_on` names the sets whose pictures it has seen, `grey` says if grey ones were among
    them, `span` which values of captured ones it took for 0 and 1 (`ranges`).
    """

    name: str
    filter: Filter | None
    path: Path
    trained_on: tuple[str, ...] = ()
    grey: bool = False
    span: ranges.Range | None = None


def parse_arguments() -> argparse.Namespace:
    summary, examples, note = __doc__.strip().split("\n\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=f"{examples}\n\n{note}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("filter", nargs="?", choices=(*FILTERS, *REAL_NOISE), help="models of this filter only")
    add("dataset", nargs="?", help="the model trained on this set (kodak, bsds300-clean, ...)")
    add("--image", type=Path, metavar="FILE", help="the clean picture to corrupt and restore")
    add("--strength", type=float, help="of the noise (default: the filter's test strength)")
    add(
        "--score",
        nargs="*",
        metavar="DATASET",
        help="PSNR and SSIM over kodak, bsds300 or folders (default: kodak and bsds300)",
    )
    add(
        "--restore", nargs="+", type=Path, metavar="PATH", help="noisy pictures, or folders of them"
    )
    add(
        "--models",
        nargs="+",
        type=Path,
        default=[PRETRAINED, runs.RUNS],
        metavar="DIR",
        help="folders of models, or of train_model.py's runs (default: pretrained runs)",
    )
    add("--overwrite", action="store_true", help="with --restore: redo what is in --output already")
    add(
        "--compare",
        action="store_true",
        help="with --restore: save before and after side by side, of a stack the first page",
    )
    add(
        "--range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="with --restore: the values that the network takes for 0 and 1 (default: the "
        "training's, or measured, where a picture has more than 8 bits)",
    )
    add("--output", type=Path, metavar="DIR", help="for what is made (default: runs)")
    args = parser.parse_args()
    if args.range and args.range[0] >= args.range[1]:
        parser.error("--range LOW HIGH: LOW must be below HIGH")
    if args.restore and not args.output:
        parser.error("--restore needs --output DIR, where the restored files go")
    args.output = args.output or runs.RUNS
    return args


def find_models(
    filter: str | None = None,
    dataset: str | None = None,
    real_noise: bool = False,
    folders: Sequence[Path] = (PRETRAINED, runs.RUNS),
) -> list[Trained]:
    """Find the trained models, all of them or those asked for, ordered by dataset and filter.

    Of two with one name the last folder's counts. Raises `InputError` where there is none; it
    says which command trains one.
    """
    files = {}
    for folder in folders:
        files |= {path.stem: path for path in folder.glob("*.keras")}
        files |= {path.parent.name: path for path in folder.glob(f"*/{runs.MODEL}")}
    found = []
    for name, path in files.items():
        training = runs.read_training(path)
        if not training and path.name == runs.MODEL:  # of a run that an older version finished
            training = (runs.read_settings(path.parent) or {}).get("settings", {})
        kind = training.get("filter", name.split("-")[0])
        # Without clean pictures there is nothing to show or score: these must be asked for.
        wanted = kind == filter or (filter is None and (real_noise or kind in FILTERS))
        names = {name, name.partition("-")[2]}  # train_model.py --name gives any
        if wanted and (
            dataset is None or dataset in names or Path(dataset).resolve().name in names
        ):
            trained_on = tuple(training.get("trained_on", ()))
            grey = bool(training.get("grey"))
            span = training.get("range") and tuple(training["range"])
            found.append(Trained(name, FILTERS.get(kind), path, trained_on, grey, span))
    if not found and filter is None and any(name.startswith(REAL_NOISE) for name in files):
        raise InputError("no model here was trained on clean pictures, to show: use --restore")
    if not found:
        wanted = "-".join(filter for filter in (filter, dataset) if filter)
        places = " or ".join(f"{folder.name}/" for folder in folders)
        raise InputError(
            f"no trained model {wanted + ' ' if wanted else ''}in {places}: "
            f"train it with python train_model.py {filter or 'gaussian'} "
            f"{dataset or ('FOLDER' if filter in REAL_NOISE else 'kodak')}"
        )
    return sorted(found, key=lambda trained: (trained.name.partition("-")[2], trained.name))


def load_model(path: Path, precision: str = "float32"):
    """Load a trained U-Net, ready to restore.

    In float32 its scores are the same everywhere; "auto" is faster where bfloat16 is. Raises
    `InputError` for a file that `model.load_unet` refuses.
    """
    from model import load_unet
    from noise2noise import backend
    from noise2noise.fused import fuse

    backend.set_precision(precision)
    model = fuse(load_unet(path))
    model.compile(jit_compile=backend.jit_compile())
    return model


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
    clean, name = picture_to_show(args.image)
    from noise2noise import metrics, plots
    from noise2noise.restore import restore

    rows = []
    for trained in models:
        model = load_model(trained.path)
        true = images.luminance(clean) if model.output_shape[-1] == 1 else clean
        noisy = metrics.corrupt_for_score(trained.filter, true, 0, args.strength)
        pair = [metrics.to_8bit(noisy), metrics.to_8bit(restore(model, noisy))]
        captions = [f"{metrics.psnr(image, true):.2f} dB" for image in pair]
        shown = (np.broadcast_to(image, clean.shape) for image in (*pair, true))
        rows.append((trained.name, list(zip(shown, [*captions, name], strict=True))))
        print(f"{trained.name}: {name}, noisy {captions[0]}, restored {captions[1]}", flush=True)
    plots.save_and_show(plots.table2(rows), args.output / "table2.png")


def score(models: list[Trained], args: argparse.Namespace) -> None:
    """Score every model on every dataset: a table on screen, scores.csv and scores.md."""
    sets = {dataset: scored_paths(dataset) for dataset in args.score or ("kodak", "bsds300")}
    from rich.console import Console
    from rich.progress import Progress

    from noise2noise import metrics
    from noise2noise.restore import restore

    rows, each = [], []
    with Progress(console=Console(stderr=True)) as progress:
        for trained in models:
            model = load_model(trained.path)
            for dataset, paths in sets.items():
                values = []
                number = trained.filter.test if args.strength is None else args.strength
                strength = f"{trained.filter.symbol} = {number:g}"
                task = progress.add_task(f"{trained.name} on {dataset}", total=len(paths))
                for index, path in enumerate(paths):
                    clean = read_rgb(path)
                    clean = images.luminance(clean) if model.output_shape[-1] == 1 else clean
                    noisy = metrics.corrupt_for_score(trained.filter, clean, index, args.strength)
                    pair = metrics.to_8bit(noisy), metrics.to_8bit(restore(model, noisy))
                    scored = [
                        metric(image, clean) for metric, _ in METRICS.values() for image in pair
                    ]
                    values.append(scored)
                    each.append((trained.name, dataset, path.name, strength, *digits(scored)))
                    progress.advance(task)
                # Its own training pictures: the score says little of other pictures. (Of
                # BSDS300 the test pictures are scored, which nothing is trained on.)
                seen = dataset != "bsds300" and Path(dataset).resolve().name in trained.trained_on
                note = "trained on these" if seen else ""
                means = digits(np.mean(values, axis=0))
                rows.append((trained.name, dataset, strength, *means, note))
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
    files = {"scores-each.csv": (EACH_COLUMNS, *each), "scores.csv": (COLUMNS, *rows)}
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in files.items():
            path = folder / name
            with path.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(table)
        path = folder / "scores.md"
        path.write_text("\n".join(lines) + "\n")
    except OSError as error:
        raise write_failure(path, error) from None
    print(f"saved {folder / 'scores.csv'}, scores-each.csv and {path}")


def files_to_restore(args: argparse.Namespace) -> dict[Path, Path]:
    """Map each file to make to the picture it is made of; folders are searched to the bottom.

    Raises `InputError` where two would have one name, or a picture would be overwritten.
    """
    made: dict[Path, Path] = {}
    output = args.output.resolve()
    for given in args.restore:
        sources = [(given, Path(given.name))]
        if given.is_dir():
            inside = [path for path in sorted(given.rglob("*")) if path.is_file()]
            inside = [path for path in inside if output not in path.resolve().parents]
            pictures = [path for path in inside if path.suffix.lower() in SUFFIXES]
            if not pictures:
                raise InputError(f"{given} holds no image ({', '.join(SUFFIXES)})")
            if others := sorted(set(inside) - set(pictures)):
                print(f"left out {len(others)} files of other kinds: {others[0]}, ...")
            sources = [(path, path.relative_to(given)) for path in pictures]
        for path, name in sources:
            target = args.output / name
            if target in made:
                raise InputError(f"{path} and {made[target]} have one name: restore them apart")
            if target.exists() and path.exists() and target.samefile(path):
                raise InputError(f"{path} would be overwritten: give another --output")
            made[target] = path
    return made


def restore_files(trained: Trained, args: argparse.Namespace) -> int:
    """Restore noisy pictures to files of the same names in --output; 2 if any failed.

    What is there already is kept, so that a restoring that was stopped goes on.
    """
    targets = files_to_restore(args)
    there = [target for target in targets if target.exists()]
    if there and not args.overwrite:
        print(
            f"{len(there)} files are there already and kept, {there[0]} first: --overwrite redoes"
        )
        targets = {target: path for target, path in targets.items() if target not in there}
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"{args.output} is a file: name a folder with --output")
    model = load_model(trained.path, "auto")
    from rich.console import Console
    from rich.progress import Progress

    failed, said = 0, False
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_interactive) as progress:
        done = progress.add_task(f"{len(targets)} pictures", total=len(targets))
        for target, path in targets.items():
            progress.advance(done)
            try:
                with images.open_file(path) as file:
                    if file.colors() == 1 and not trained.grey and not said:
                        said = True
                        print(
                            f"{path} is grey, and {trained.name} was trained on colour pictures "
                            "only",
                            flush=True,
                        )
                    restore_file(model, trained, file, target, args, progress)
            except WriteError:
                raise
            except InputError as error:
                print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
                failed += 1
                continue
            if not args.compare and not console.is_interactive:
                print(f"restored {target}", flush=True)
    print(
        f"restored {len(targets) - failed} of {len(targets)} pictures with {trained.name}, "
        f"into {args.output}"
    )
    return 2 if failed else 0


def restore_file(model, trained: Trained, file, target: Path, args, progress) -> None:
    """Restore an open file (`images.open_file`) to `target`, page by page."""
    from noise2noise.restore import restore_picture

    span, origin = choose_range(trained, file, args.range)
    stack = f" ({file.pages} pages)" if file.pages > 1 else ""
    if span:
        print(f"{file.path}{stack}: range {span[0]:g} to {span[1]:g}, {origin}", flush=True)
    sizes = [file.size(n) for n in range(file.pages)]
    tiles = progress.add_task(f"{file.path.name}{stack}", total=sum(w * h for w, h in sizes))
    missing = 0

    def restored_pages():
        nonlocal missing
        for n in range(file.pages):
            picture = file.read(n)
            if picture.pixels.dtype.kind == "f":
                missing += int(np.sum(~np.isfinite(picture.pixels)))
            pixels = restore_picture(model, picture, span, lambda n: progress.advance(tiles, n))
            if args.compare and n == 0:
                compare(picture, pixels, span, args.output, target)
            # A large picture is let go of before another one like it is encoded.
            picture = None
            yield pixels
            if progress.disable and n % 100 == 99:
                print(f"{file.path}: {n + 1} of {file.pages} pages", flush=True)

    try:
        make_folder(target.parent)
        with whole(target) as part:
            file.write(part, restored_pages())
    finally:
        progress.remove_task(tiles)
    if missing:
        print(f"{file.path}: {missing} values that are no numbers stay as they are", flush=True)
    if file.lost:
        print(f"{file.path}: {', '.join(file.lost)}", flush=True)


def choose_range(trained: Trained, file, given) -> tuple[ranges.Range | None, str]:
    """Return which values of a file the network takes for 0 and 1 (`ranges`), and why.

    That is the range given; or, for captured networks, that of their training; or, of more than
    8 bits, what is measured on some of the file's pages.
    """
    if given:
        return tuple(given), "given"
    if not file.deep:
        return None, ""
    shown = (file.read(n) for n in sorted({k * file.pages // 8 for k in range(8)}))
    values = [ranges.sample(picture.pixels[..., : picture.colors]) for picture in shown]
    if trained.filter is None and trained.span:
        if not ranges.fits(values, trained.span):
            print(
                f"warning: the values of {file.path} are not like those of {trained.span[0]:g} to "
                f"{trained.span[1]:g} that {trained.name} was trained on: give its own with --range"
            )
        return trained.span, "that of the training"
    if trained.filter is None and values[0].dtype.kind == "u":
        return None, ""
    return ranges.measure(values), "measured"


def compare(picture, pixels: np.ndarray, span, folder: Path, target: Path) -> None:
    """Save a picture before and after, side by side, as FOLDER/compare/TARGET.png."""
    from noise2noise import plots

    after = replace(picture, pixels=pixels).color
    shown = [images.upright(picture, image, span) for image in (picture.color, after)]
    path = folder / "compare" / f"{target.relative_to(folder)}.png"
    plots.save_and_show(plots.compare(*shown), path, show=False)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(folder, error) from None


def main() -> int:
    args = parse_arguments()
    models = find_models(args.filter, args.dataset, bool(args.restore), args.models)
    if args.restore:
        if len(models) > 1:
            names = ", ".join(trained.name for trained in models)
            raise InputError(f"name one model to restore with, FILTER DATASET, of: {names}")
        return restore_files(models[0], args)
    if args.filter in REAL_NOISE:
        raise InputError(f"{args.filter} models have no clean pictures to show: use --restore")
    if args.score is None:
        show(models, args)
    else:
        score(models, args)
    return 0


if __name__ == "__main__":
    run_main(main)
