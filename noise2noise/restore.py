"""Noisy pictures and files of them, restored: in their own values, page by page."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.markup import escape

from noise2noise import images, ranges
from noise2noise.errors import InputError
from noise2noise.files import make_folder, whole
from noise2noise.means import BLOCK, SIGMA
from noise2noise.networks import Trained
from noise2noise.noise import MIDDLE, WEAK, measure_light, periodicity
from noise2noise.picture import Picture, PictureFile, is_grey
from noise2noise.ranges import Range
from noise2noise.tiles import STRIP, restore_image

EACH = "each page's or channel's own"  # in the place of a range: one measured for each
PATTERN = 0.45  # `periodicity` of what was taken away from which it is one
FEW_STEPS = 32  # of an integer picture's values, below which rounding them costs much of the gain
DARK = 0.2  # of a range, half of the values below which may be in proportion to light
TELL = 60  # seconds after which a file that takes long tells how far it is
ALIKE = 4  # times: the widest range of a file's pages is up to so wide as the narrowest, or `EACH`


def restore_file(
    networks: dict[int, tuple],
    file: PictureFile,
    target: Path,
    progress,
    given: Range | None = None,
    amount: float = 1.0,
    figure: Path | None = None,
    coarse: bool = False,
    linear: bool = False,
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
    coarse, linear : bool
        As for `restore_picture`.

    Raises
    ------
    InputError
        For values that are not like the training's, damaged contents, or a file that cannot be
        written (`WriteError`); it names the file.
    """
    (_, first), *_ = networks.values()
    if linear and first.filter is None:
        raise InputError(f"{first.name} learned from values as they are: leave out --linear")
    span, origin = choose_range(first, file, given, linear)
    stack = f" ({file.pages} pages)" if file.pages > 1 else ""
    if origin:
        said = {EACH: f"{EACH} range", None: "range"}.get(span) or f"range {ranges.words(span)}"
        print(f"{file.path}{stack}: {said}, {origin}", flush=True)
    sizes = [file.size(n) for n in range(file.pages)]
    whole_area = sum(width * height for width, height in sizes)
    tiles = progress.add_task(escape(file.path.name) + stack, total=whole_area)
    seen, done, told = Seen(), 0, time.monotonic()

    def advance(pixels: float) -> None:
        nonlocal done, told
        progress.advance(tiles, pixels)
        done += pixels
        if progress.disable and time.monotonic() > told + TELL:  # a log has no bar
            told = time.monotonic()
            print(f"{file.path}: {done / whole_area:.0%} restored", flush=True)

    def restored_pages():
        for n in range(file.pages):
            picture = file.read(n)
            model, trained = networks[picture.colors]
            seen.beyond |= picture.pixels.shape[2] > picture.colors and not picture.alpha
            found = parts(picture, span, linear)
            gone, far = count_unseen(found)
            seen.missing, seen.outside = seen.missing + gone, seen.outside + far
            pixels = restore_picture(
                model, picture, span, advance, trained.zero_mean, coarse, linear
            )
            if n == 0 and picture.pixels.dtype.kind in "iu":
                seen.steps = ranges.width([picture.shown], picture.nodata)
            if n == 0 and trained.zero_mean and (trained.grey or not picture.grey):
                seen.pattern = lost_a_pattern(found, pixels)
            if amount < 1:
                pixels = blend(picture.pixels, pixels, amount)
            if figure and n == 0:
                compare(picture, pixels, found[0][1], figure)
            # A large picture is let go of before another one like it is encoded.
            picture = found = None
            yield pixels

    try:
        make_folder(target.parent)
        with whole(target) as part:
            file.write(part, restored_pages())
    finally:
        progress.remove_task(tiles)
    for note in _notes(file, seen):
        print(f"{file.path}: {note}", flush=True)


@dataclass
class Seen:
    """What was seen of a file while it was restored."""

    missing: int = 0  # values that are no numbers, or stand for none
    outside: int = 0  # others, far outside of the range
    beyond: bool = False  # channels behind the colours that are no alpha
    pattern: bool = False  # what was taken away of the first page was one
    steps: float = 0.0  # by how much the first page's integers differ


def _notes(file: PictureFile, seen: Seen) -> list[str]:
    """Return what a user should know of a file that was restored."""
    notes = []
    if seen.missing:
        notes.append(f"what is no number, or stands for none, stays ({seen.missing} values)")
    if seen.outside:
        notes.append(
            f"{seen.outside} values far outside of the range stay as they are: hot pixels, "
            "stars, what stands for none, or what a wider --range LOW HIGH would restore"
        )
    if seen.pattern:
        notes.append(
            "what was taken away is a fine pattern in part, not noise: demosaic raw files first, "
            "look closely at text, and leave screened or dithered pictures as they are"
        )
    if 0 < seen.steps < FEW_STEPS:
        values = "its first page's values" if file.pages > 1 else "its values"
        notes.append(
            f"{values} differ by {math.ceil(seen.steps)} at most, and restored ones are rounded to "
            "whole ones, too: saved as floats before, the file keeps what is between them"
        )
    if file.planes:
        notes.append(
            "its planes are taken for colours (and alpha); if they are exposures, "
            "write them with tifffile's photometric='minisblack'"
        )
    beyond = ["channels beyond red, green and blue stay as they are"] * seen.beyond
    if lost := [*file.lost, *beyond]:
        notes.append(", ".join(lost))
    return notes


def choose_range(
    trained: Trained, file: PictureFile, given: Range | None = None, linear: bool = False
) -> tuple[Range | str | None, str]:
    """Return which values of a file the network takes for 0 and 1 (`ranges`), and why.

    That is the range given; or, for networks of real noise, that of their training (of 8 bits
    only where the training's were too); or, of more than 8 bits, what is measured on some of the
    file's pages; or `EACH`, where theirs differ, or channels stand for themselves. Raises
    `InputError` for values that are not like the training's.
    """
    # Neighbours too, which may be channels, each with values of its own.
    pages = {*range(min(6, file.pages)), *(k * file.pages // 5 for k in range(5))}
    if given:
        rows = file.read().pixels if file.pages == 1 else ()
        outside = (np.all(ranges.unseen(row, given) & ~ranges.unseen(row)) for row in rows)
        if file.pages == 1 and all(outside):
            raise InputError(
                f"{file.path} has no value near {ranges.words(given)}: give a --range of its own"
            )
        return tuple(given), "given"
    learned = trained.span if trained.filter is None else None
    if not file.deep and (trained.deep or not learned):
        return None, ""
    values, nodata = [], file.nodata
    for n in sorted(pages):
        picture = file.read(n)
        values.append(ranges.sample(picture.shown))
        nodata = picture.nodata if nodata is None else nodata
    if learned:
        if not ranges.fits(values, learned, nodata):
            raise InputError(
                f"the values of {file.path} are not like those of {ranges.words(learned)} "
                f"that {trained.name} was trained on: give theirs with --range"
            )
        return learned, "that of the training"
    if trained.filter is None and trained.deep and values[0].dtype.kind == "u":
        top = float(np.iinfo(values[0].dtype).max)
        if not ranges.fits(values, (0.0, top), nodata):
            raise InputError(
                f"the values of {file.path} are not like those of 0 to {top:g} that {trained.name} "
                "was trained on: give theirs with --range"
            )
        return None, ""
    if file.colors() not in (1, 3):
        return EACH, "measured"
    spans = [ranges.measure([page], nodata) for page in values]
    widths = [span[1] - span[0] for span in spans if span]
    if widths and (len(widths) < len(spans) or max(widths) > ALIKE * min(widths)):
        return EACH, "measured"
    if not widths and values[0].dtype.kind == "f" and file.pages > 1:  # others may hold numbers
        return EACH, "measured"
    span, hint = ranges.measure(values, nodata), ranges.wide_hint(values, nodata)
    whole = values[0].dtype.kind in "iu"
    if whole and file.colors() == 3 and not linear and not is_grey(values[0][None]):
        hint = light_hint(values, nodata) or hint
    return span, f"measured{hint}" if span else hint and f"that of its type{hint}"


Parts = list[tuple[Picture, Range | None]]


def parts(picture: Picture, span: Range | str | None, linear: bool = False) -> Parts:
    """Return what of a picture is restored together, and its range: all, or each channel alone.

    `linear`: the range is one of light (`in_light`).
    """
    found = [picture]
    if picture.colors not in (1, 3):
        alpha = [-1] * picture.alpha
        found = [
            replace(picture, pixels=picture.pixels[..., [k, *alpha]], colors=1)
            for k in range(picture.colors)
        ]
    each = [ranges.measure([part.shown], part.nodata) if span == EACH else span for part in found]
    each = [in_light(part, own) if linear else own for part, own in zip(found, each, strict=True)]
    return list(zip(found, each, strict=True))


def in_light(picture: Picture, span: Range | None) -> Range | None:
    """Return a picture's range as one of light (`ranges.Light`); None of floats stays that."""
    kind = picture.pixels.dtype
    if isinstance(span, ranges.Light) or (span is None and kind.kind == "f"):
        return span
    values = images.middle(picture.pixels[..., : picture.colors], MIDDLE)
    missing = ranges.missing(values, picture.nodata)
    if picture.hidden is not None:
        missing |= images.middle(picture.hidden, MIDDLE)[..., None]
    return measure_light(values, span or (0.0, float(np.iinfo(kind).max)), missing)


def light_hint(values: list[np.ndarray], nodata: float | None) -> str:
    """Return what to say of values that may be in proportion to light, else ""."""
    found = ranges.measured(values, nodata)
    if not found.size:
        return ""
    low, middle, high = np.percentile(found, (ranges.PERCENTILES[0], 50, ranges.PERCENTILES[1]))
    if not middle - low < DARK * (high - low):
        return ""
    return (
        f"; half of its values are {middle:.3g} at most: if they are in proportion to light, "
        "--linear restores it better"
    )


def count_unseen(found: Parts) -> tuple[int, int]:
    """Return how many values are none, and how many others lie far outside of their range."""
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
    linear: bool = False,
) -> np.ndarray:
    """Restore a picture of any kind: return its pixels, of its shape and type.

    Grey ones go through a network for colours three times over; channels that are neither
    grey nor RGB one by one. What is no number, far outside of the range or transparent stays.
    Local means are kept (`tiles.restore_image`), unless the noise changes them. With `EACH` for a
    range, that is measured, of each channel that stands for itself. Where `coarse` is set, noise
    coarser than pixels is taken away too. Where `linear` is, values are in proportion to light, and
    the network sees their root (`ranges.Light`).
    """
    found = parts(picture, span, linear)
    if len(found) > 1:
        share = advance and (lambda n: advance(n / len(found)))
        restored = [
            restore_picture(model, part, own, share, keep_means, coarse)[..., :1]
            for part, own in found
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
            values = ranges.from_network(ranges.linear(values, span), restored[place], span)
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
