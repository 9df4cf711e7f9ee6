"""Noisy pictures and files of them, restored: in their own values, page by page."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.markup import escape

from noise2noise import images, ranges
from noise2noise.errors import InputError
from noise2noise.files import make_folder, whole
from noise2noise.means import BLOCK, SIGMA
from noise2noise.networks import Trained
from noise2noise.noise import (
    FLATTEST,
    PATCH,
    WEAK,
    are_counts,
    color_correlation,
    noise_correlation,
    periodicity,
)
from noise2noise.picture import LOSSY_FORMATS, SUFFIXES, Picture, PictureFile
from noise2noise.ranges import Range
from noise2noise.tiles import STRIP, restore_image

EACH = "each page's or channel's own"  # in the place of a range: one measured for each
PATTERN = 0.45  # `periodicity` of what was taken away from which it is one
MIDDLE = 1024  # pixels on a side of the part in the middle that noise is looked at in
# `noise_correlation` up to which the sensor's networks restore better than the camera's, by whether
# a picture is grey: in noise that was smoothed a little, as by resizing, they leave much.
SENSORS_CORRELATION = {False: 0.12, True: 0.05}
# `color_correlation` from which, where each pixel's noise is its own, each colour is restored
# better by itself; and from which colours differ by no noise.
SHARED, WHOLLY_SHARED = 0.25, 0.93
FEW_STEPS = 32  # of an integer picture's values, below which rounding them costs much of the gain
ALIKE = 4  # times: the widest range of a file's pages is up to so wide as the narrowest, or `EACH`


def files_to_restore(paths: Sequence[Path], output: Path, overwrite: bool) -> dict[Path, Path]:
    """Map each file to make in `output` to its picture; folders are searched to the bottom.

    What is there already is left out, unless it shall be overwritten. Raises `InputError` where
    two would have one name, a picture would be overwritten, or `output` is a file.
    """
    made: dict[Path, Path] = {}
    resolved = _real(output)
    for given in paths:
        sources = [(given, Path(given.name))]
        if given.is_dir():
            inside = _below(given)
            if _real(given) in resolved.parents:
                outside = [path for path in inside if resolved not in _real(path).parents]
                if len(outside) < len(inside):
                    print(f"{output} is in {given}: what is there is taken for restored before")
                inside = outside
            pictures = [path for path in inside if path.suffix.lower() in SUFFIXES]
            above = {path: given.joinpath(*path.relative_to(given).parts[1:]) for path in pictures}
            if again := [path for path in pictures if above[path] in above]:
                print(
                    f"{again[0]} is called as one above it, and restored as well ({len(again)} "
                    "such): if it was made of that, have --output elsewhere"
                )
            if not pictures:
                raise InputError(f"{given} holds no picture ({', '.join(SUFFIXES)})")
            if others := sorted(set(inside) - set(pictures)):
                kinds = ", ".join(sorted({path.suffix.lower() or "no suffix" for path in others}))
                print(f"left out what is not read as a picture ({len(others)} in all): {kinds}")
            sources = [(path, path.relative_to(given)) for path in pictures]
        for path, name in sources:
            target = output / name
            if made.get(target) == path:  # named twice
                continue
            if target in made:
                raise InputError(f"{path} and {made[target]} have one name: restore them apart")
            if target.exists() and path.exists() and target.samefile(path):
                raise InputError(f"{path} would be overwritten: give another --output")
            made[target] = path
    if lost := {_real(target) for target in made} & {_real(path) for path in made.values()}:
        raise InputError(f"{min(lost)} would be overwritten: give another --output")
    there = {target for target in made if target.exists()}
    if there and not overwrite:
        print(
            f"{min(there)} is there already and kept ({len(there)} in all), whichever network made "
            "it: --overwrite redoes it, another --output keeps both"
        )
        made = {target: path for target, path in made.items() if target not in there}
    above = next(path for path in (output, *output.parents) if path.exists())
    if not above.is_dir():
        raise InputError(f"{above} is a file: name a folder with --output")
    return made


def _real(path: Path) -> Path:
    """Resolve links, as `Path.resolve`: that raises of one to itself, before Python 3.13."""
    return Path(os.path.realpath(path))


def _below(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted; linked ones too, each folder once, none hidden."""
    files, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_fail):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _fail(error: OSError):
    raise error


def restore_file(
    networks: dict[int, tuple],
    file: PictureFile,
    target: Path,
    progress,
    given: Range | None = None,
    amount: float = 1.0,
    figure: Path | None = None,
    coarse: bool = False,
) -> None:
    """Restore an open file to `target`, page by page, and say what a user should know.

    Parameters
    ----------
    networks : {int: (keras.Model, Trained)}
        Which network restores its pages of so many `colors`. Those for real noise are one.
    progress : rich.progress.Progress
        Shows the pixels done.
    given : (float, float), optional
        The values that the network shall take for 0 and 1; default: `choose_range`'s.
    amount : float
        From 0, the picture as it is, to 1, restored.
    figure : Path, optional
        Where the first page is saved before and after, side by side.
    coarse : bool
        As for `restore_picture`.

    Raises
    ------
    InputError
        For values that are not like the training's, damaged contents, or a file that cannot be
        written (`WriteError`); it names the file.
    """
    (_, first), *_ = networks.values()
    span, origin = choose_range(first, file, given)
    stack = f" ({file.pages} pages)" if file.pages > 1 else ""
    if origin:
        said = {EACH: f"{EACH} range", None: "range"}.get(span) or f"range {ranges.words(span)}"
        print(f"{file.path}{stack}: {said}, {origin}", flush=True)
    sizes = [file.size(n) for n in range(file.pages)]
    tiles = progress.add_task(escape(file.path.name) + stack, total=sum(w * h for w, h in sizes))
    missing, outside, beyond, pattern, steps = 0, 0, False, False, 0

    def restored_pages():
        nonlocal missing, outside, beyond, pattern, steps
        for n in range(file.pages):
            picture = file.read(n)
            model, trained = networks[picture.colors]
            if picture.pixels.shape[2] > picture.colors and not picture.alpha:
                beyond = True
            found = parts(picture, span)
            gone, far = count_unseen(found)
            missing, outside = missing + gone, outside + far
            advance = partial(progress.advance, tiles)
            pixels = restore_parts(model, picture, found, advance, trained.zero_mean, coarse)
            if n == 0 and picture.pixels.dtype.kind in "iu":
                steps = ranges.width([picture.shown], picture.nodata)
            if n == 0 and trained.zero_mean and (trained.grey or not picture.grey):
                pattern = lost_a_pattern(found, pixels)
            if amount < 1:
                pixels = blend(picture.pixels, pixels, amount)
            if figure and n == 0:
                compare(picture, pixels, found[0][1], figure)
            # A large picture is let go of before another one like it is encoded.
            picture = found = None
            yield pixels
            if progress.disable and n % 100 == 99:
                print(f"{file.path}: {n + 1} of {file.pages} pages", flush=True)

    try:
        make_folder(target.parent)
        with whole(target) as part:
            file.write(part, restored_pages())
    finally:
        progress.remove_task(tiles)
    if beyond:
        file.lost.append("channels beyond red, green and blue stay as they are")
    for note in _notes(file, missing, outside, pattern, steps):
        print(f"{file.path}: {note}", flush=True)


def _notes(file: PictureFile, missing: int, outside: int, pattern: bool, steps: float) -> list[str]:
    """Return what a user should know of a file that was restored."""
    notes = []
    if missing:
        notes.append(f"what is no number stays ({missing} values)")
    if outside:
        notes.append(
            f"{outside} values far outside of the range stay as they are: hot pixels, "
            "stars, what stands for none, or what a wider --range LOW HIGH would restore"
        )
    if pattern:
        notes.append(
            "what was taken away is a fine pattern in part, not noise: demosaic raw files first, "
            "look closely at text, and leave screened or dithered pictures as they are"
        )
    if 0 < steps < FEW_STEPS:
        values = "its first page's values" if file.pages > 1 else "its values"
        notes.append(
            f"{values} differ by {steps:g} at most, and restored ones are rounded to whole ones, "
            "too: saved as floats before, the file keeps what is between them"
        )
    if file.planes:
        notes.append(
            "its planes are taken for colours (and alpha); if they are exposures, "
            "write them with tifffile's photometric='minisblack'"
        )
    if file.lost:
        notes.append(", ".join(file.lost))
    return notes


def look_at_noise(file: PictureFile) -> tuple[bool, bool]:
    """Return whether each pixel's noise is its own, and whether its colours share it.

    As far as three pages of a file tell. JPEG and a mosaic smooth differences of colours most, so
    these count too: under strong noise that is then all that shows it. Counts of photons are each
    pixel's own. So is, for all that is known, what shows no noise: the sensor's networks change it
    least. What is too small to measure is taken for a camera's.
    """
    if file.format in LOSSY_FORMATS:
        return False, False
    most, shared, independent = np.nan, np.nan, True  # of the limit; of the pages' least
    for n in sorted({0, file.pages // 2, file.pages - 1}):
        picture = file.read(n)
        values = images.middle(picture.pixels[..., : picture.colors], MIDDLE)
        missing = ranges.missing(values, picture.nodata)
        if picture.hidden is not None:
            missing |= images.middle(picture.hidden, MIDDLE)[..., None]
        limit = SENSORS_CORRELATION[picture.grey]
        counted = not missing.any() and are_counts(values)
        if not picture.grey:
            missing = missing.any(axis=2, keepdims=True)
            unit = ranges.width([values], picture.nodata)
            alike = color_correlation(values, unit, missing)
            shared = np.fmin(shared, np.fmax.reduce(alike))
            if (alike > SHARED).any():
                limit = SENSORS_CORRELATION[True]
            with np.errstate(invalid="ignore"):  # infinite ones, which are missing
                differences = np.subtract(values[..., 1:], values[..., :1], dtype=np.float64)
            noisy = ~(alike[:2] > WHOLLY_SHARED)  # of the same pairs
            values = np.concatenate((values, differences[..., noisy]), axis=2)
        correlation = 0.0 if counted else abs(noise_correlation(values, missing))
        if math.prod(n // PATCH for n in values.shape[:2]) < FLATTEST[1]:
            independent = False
        most = np.fmax(most, correlation / limit)
    independent = independent and not most > 1
    return independent, independent and bool(shared > SHARED)


def choose_range(
    trained: Trained, file: PictureFile, given: Range | None = None
) -> tuple[Range | str | None, str]:
    """Return which values of a file the network takes for 0 and 1 (`ranges`), and why.

    That is the range given; or, for networks of real noise, that of their training (of 8 bits
    only where the training's were too); or, of more than 8 bits, what is measured on some of the
    file's pages; or `EACH`, where theirs differ, or channels stand for themselves. Raises
    `InputError` for values that are not like the training's.
    """
    if given:
        return tuple(given), "given"
    learned = trained.span if trained.filter is None else None
    if not file.deep and (trained.deep or not learned):
        return None, ""
    # Neighbours too, which may be channels, each with values of its own.
    pages = {*range(min(6, file.pages)), *(k * file.pages // 5 for k in range(5))}
    values = [ranges.sample(file.read(n).shown) for n in sorted(pages)]
    if learned:
        if not ranges.fits(values, learned, file.nodata):
            raise InputError(
                f"the values of {file.path} are not like those of {ranges.words(learned)} "
                f"that {trained.name} was trained on: give theirs with --range"
            )
        return learned, "that of the training"
    if trained.filter is None and trained.deep and values[0].dtype.kind == "u":
        top = float(np.iinfo(values[0].dtype).max)
        if not ranges.fits(values, (0.0, top), file.nodata):
            raise InputError(
                f"the values of {file.path} are not like those of 0 to {top:g} that {trained.name} "
                "was trained on: give theirs with --range"
            )
        return None, ""
    if file.colors() not in (1, 3):
        return EACH, "measured"
    spans = [ranges.measure([page], file.nodata) for page in values]
    widths = [span[1] - span[0] for span in spans if span]
    if widths and (len(widths) < len(spans) or max(widths) > ALIKE * min(widths)):
        return EACH, "measured"
    if not widths and values[0].dtype.kind == "f" and file.pages > 1:  # others may hold numbers
        return EACH, "measured"
    span, hint = ranges.measure(values, file.nodata), ranges.wide_hint(values, file.nodata)
    return span, f"measured{hint}" if span else hint and f"that of its type{hint}"


Parts = list[tuple[Picture, Range | None]]


def parts(picture: Picture, span: Range | str | None) -> Parts:
    """Return what of a picture is restored together, and its range: all, or each channel alone."""
    found = [picture]
    if picture.colors not in (1, 3):
        alpha = [-1] * picture.alpha
        found = [
            replace(picture, pixels=picture.pixels[..., [k, *alpha]], colors=1)
            for k in range(picture.colors)
        ]
    if span != EACH:
        return [(part, span) for part in found]
    return [(part, ranges.measure([part.shown], part.nodata)) for part in found]


def count_unseen(found: Parts) -> tuple[int, int]:
    """Return how many values are no numbers, and how many others lie far outside of their range."""
    missing, outside = 0, 0
    for part, span in found:
        hidden = part.hidden
        for n, row in enumerate(part.pixels[..., : part.colors]):  # in the memory of a row
            row = row if hidden is None else row[~hidden[n]]
            gone = int(ranges.unseen(row, None, part.nodata).sum())
            missing += gone
            if span:
                outside += int(ranges.unseen(row, span, part.nodata).sum()) - gone
    return missing, outside


def restore_picture(
    model,
    picture: Picture,
    span: Range | str | None = None,
    advance: Callable[[float], None] | None = None,
    keep_means: bool = True,
    coarse: bool = False,
) -> np.ndarray:
    """Restore a picture of any kind: return its pixels, of its shape and type.

    Grey ones go through a network for colours three times over; channels that are neither
    grey nor RGB one by one. What is no number, far outside of the range or transparent stays.
    Local means are kept (`tiles.restore_image`), unless the noise changes them. With `EACH` for a
    range, that is measured, of each channel that stands for itself. Where `coarse` is set, noise
    coarser than pixels is taken away too.
    """
    return restore_parts(model, picture, parts(picture, span), advance, keep_means, coarse)


def restore_parts(
    model, picture: Picture, found: Parts, advance, keep_means: bool, coarse: bool
) -> np.ndarray:
    """Restore a picture by its `parts`, as `restore_picture` does."""
    if len(found) > 1:
        share = advance and (lambda n: advance(n / len(found)))
        restored = [
            restore_parts(model, part, [(part, span)], share, keep_means, coarse)[..., :1]
            for part, span in found
        ]
        return np.concatenate((*restored, picture.pixels[..., len(found) :]), axis=2)
    ((_, span),) = found
    grey = picture.colors == 1 and model.output_shape[-1] == 1
    color = picture.pixels[..., :1] if grey else picture.color
    restored = restore_image(
        model,
        color,
        advance=advance,
        span=span,
        keep_means=keep_means,
        nodata=picture.nodata,
        hidden=picture.hidden,
    )
    if coarse:
        unseen = ranges.unseen(color, span, picture.nodata)
        if picture.hidden is not None:
            unseen |= picture.hidden[..., None]
        restored = restore_at_half_size(model, color, restored, span, unseen, keep_means)
    return picture.with_color(restored.astype(color.dtype, copy=False))


def restore_at_half_size(
    model,
    image: np.ndarray,
    restored: np.ndarray,
    span: Range | None,
    unseen: np.ndarray,
    keep_means: bool,
) -> np.ndarray:
    """Take coarse noise away too, such as film's grain, of which a network knows little.

    Means of 2x2 pixels go through the network, in which such noise is as fine as it knows it. By
    what they come out otherwise than those of `restored`, that is changed, but for local means.

    Parameters
    ----------
    image, restored : (height, width, channels)
        Noisy and restored, of one type.
    span, keep_means
        As for `tiles.restore_image`.
    unseen : bool (height, width, channels)
        What stays as it is.
    """
    from scipy.ndimage import gaussian_filter, zoom

    seen = [ranges.fill(a, unseen) if unseen.any() else a for a in (image, restored)]
    noisy, fine = (_halved(a, span) for a in seen)
    change = restore_image(model, noisy, span=(0.0, 1.0), keep_means=keep_means) - fine
    window = SIGMA * BLOCK / 2
    change -= gaussian_filter(change, (window, window, 0), mode="nearest")
    result = np.empty_like(restored)
    for k in range(image.shape[2]):  # in the memory of a channel
        added = zoom(change[..., k], 2, order=1, mode="nearest", grid_mode=True)
        for start in range(0, len(image), STRIP):
            place = np.s_[start : start + STRIP, :, k]
            values = ranges.to_network(restored[place], span)
            values += added[start : start + len(values), : values.shape[1]]
            values = ranges.from_network(values, restored[place], span)
            result[place] = np.where(unseen[place], image[place], values)
    return result


def _halved(image: np.ndarray, span: Range | None) -> np.ndarray:
    """Return means of 2x2 pixels of an image of any type, as a network sees them: float32."""
    width, channels = image.shape[1:]
    half = []
    for start in range(0, len(image), STRIP):
        strip = ranges.to_network(image[start : start + STRIP], span)
        strip = np.pad(strip, ((0, len(strip) % 2), (0, width % 2), (0, 0)), mode="edge")
        half.append(strip.reshape(len(strip) // 2, 2, -1, 2, channels).mean(axis=(1, 3)))
    return np.concatenate(half)


def lost_a_pattern(found: Parts, pixels: np.ndarray) -> bool:
    """Whether what was taken away of a picture, in its middle, is more a pattern than noise."""
    for k, (part, span) in enumerate(found):
        before = images.middle(part.pixels[..., : part.colors], MIDDLE)
        after = images.middle(pixels[..., k : k + part.colors], MIDDLE)
        with np.errstate(invalid="ignore"):  # of what is no number, and stayed
            taken = ranges.to_network(before, span) - ranges.to_network(after, span)
        taken = np.nan_to_num(taken).mean(axis=2)
        if taken.std() > WEAK and periodicity(taken) > PATTERN:
            return True
    return False


def blend(pixels: np.ndarray, restored: np.ndarray, amount: float) -> np.ndarray:
    """Return pixels moved towards the restored ones: 0 leaves them, 1 makes them those."""
    exact = np.result_type(pixels.dtype, np.float32)
    blended = np.empty_like(pixels)
    for row, before, after in zip(blended, pixels, restored, strict=True):  # in a row's memory
        with np.errstate(invalid="ignore"):
            mixed = before + exact.type(amount) * np.subtract(after, before, dtype=exact)
        if pixels.dtype.kind in "iu":
            mixed = ranges.to_type(mixed, pixels.dtype)
        row[:] = np.where(np.isfinite(before) & (before != after), mixed, before)
    return blended


def compare(picture: Picture, pixels: np.ndarray, span: Range | None, path: Path) -> None:
    """Save a picture before and after, side by side."""
    from noise2noise import plots

    after = replace(picture, pixels=pixels).color
    shown = [images.upright(picture, image, span) for image in (picture.color, after)]
    plots.save_and_show(plots.compare(*shown), path, show=False)
