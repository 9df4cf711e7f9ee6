"""Which network restores a picture: by its colours, and by what can be told of its noise."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noise2noise import images, ranges
from noise2noise.errors import InputError
from noise2noise.networks import Trained, find_models
from noise2noise.noise import (
    FLATTEST,
    MIDDLE,
    PATCH,
    are_counts,
    color_correlation,
    is_white,
    noise_correlation,
)
from noise2noise.picture import PictureFile

# For people's pictures, by whether they are grey, and whether each pixel's noise is its own.
BY_NOISE = {
    (False, False): "camera-bsds300",
    (True, False): "camera-bsds300-grey",
    (False, True): "sensor-bsds300",
    (True, True): "sensor-bsds300-grey",
}
# `noise_correlation` up to which the sensor's networks restore better than the camera's, by whether
# a picture is grey: in noise that was smoothed a little, as by resizing, they leave much.
SENSORS_CORRELATION = {False: 0.12, True: 0.05}
# `color_correlation`, the least, of two colours from which each is restored better by itself, where
# each pixel's noise is its own.
SHARED = 0.25
# The largest, by whether it is compressed with losses, from which two colours differ by no noise
# that tells, and that all have to have where noise is not each pixel's own: of independent noise
# JPEG leaves most in brightness.
WHOLLY_SHARED = {False: 0.97, True: 0.985}


def networks_to_restore_with(
    filter: str | None, dataset: str | None, folders: Sequence[Path]
) -> dict[tuple[bool, bool], Trained]:
    """Return the network for each kind of pictures in `BY_NOISE`: the one that is named, or those.

    Where one of those is missing, another takes its place, one that knows such noise if it can.
    Raises `InputError` where none does.
    """
    found = find_models(filter, dataset, True, folders)
    if len(found) == 1:
        return dict.fromkeys(BY_NOISE, found[0])
    # Several of one data set: none of them is meant.
    known = {} if dataset else {trained.name: trained for trained in found}
    chosen = {}
    for grey, independent in BY_NOISE:
        # The camera's know a sensor's noise, too, and that for colours knows grey pictures.
        places = (grey, independent), (grey, False), (False, False), (grey, True), (False, True)
        names = [BY_NOISE[place] for place in places if BY_NOISE[place] in known]
        if not names:
            words = ", ".join(trained.words for trained in found)
            raise InputError(f"name one model to restore with, of: {words}")
        chosen[grey, independent] = known[names[0]]
    return chosen


def say_why(
    trained: Trained,
    file: PictureFile,
    grey: bool,
    independent: bool,
    shared: bool,
    by_default: bool,
) -> str:
    """Return what a user should know of a network for a file: "" where that is nothing.

    `independent`: each pixel's noise is its own, for all that is known; `shared`: its colours
    share it. `by_default`: no network was named.
    """
    kind = "is grey" if grey else "is in colour"
    if grey and not trained.grey:
        way_out = "" if by_default else ": leave out the network's name"
        return f"{kind}, and {trained.name}, trained on colour only, does little to it{way_out}"
    if by_default and trained.name in BY_NOISE.values():
        own = " of each pixel's own" * independent
        alike = " that its colours share" * (shared and not grey)
        if own or alike:
            kind += f", with noise{own}{alike}"
        return f"{kind}, and no network is named: {trained.name} restores it and others like it"
    if file.lossy and trained.filter and trained.filter.independent:
        return (
            f"is compressed with losses ({file.format}), which leave no noise independent from "
            f"pixel to pixel, as it was where {trained.name} was trained: leave out the network's "
            "name for such pictures"
        )
    return ""


def choose_networks(
    file: PictureFile, networks: dict[tuple[bool, bool], Trained], by_default: bool
) -> dict[int, tuple[Trained, str]]:
    """Return the network for a file's pages of so many channels, and what to say of it.

    Pages of three channels are grey if all are: where a shutter is closed there are no colours.
    """
    pages = {}
    for n in range(file.pages):
        pages.setdefault(file.colors(n), []).append(n)
    grey = {
        channels: channels != 3 or all(file.read(n).grey for n in numbers)
        for channels, numbers in pages.items()
    }
    matters = len({*networks.values()}) > 1
    independent, shared = look_at_noise(file) if matters else (False, False)
    chosen = {}
    for channels, is_grey in grey.items():
        trained = networks[is_grey or shared, independent]
        why = say_why(trained, file, is_grey, independent, shared, by_default)
        chosen[channels] = trained, why
    return chosen


def look_at_noise(file: PictureFile) -> tuple[bool, bool]:
    """Return whether each pixel's noise is its own, and whether its colours share it.

    As far as three pages of a file tell. JPEG and a mosaic smooth differences of colours most, so
    these count too: under strong noise that is then all that shows it. Counts of photons are each
    pixel's own. So is, for all that is known, what shows no noise: the sensor's networks change it
    least. What is too small to measure is taken for a camera's, and what is compressed with losses.
    """
    independent = not file.lossy
    most = np.nan  # of the correlations of neighbours, in parts of the limit
    shared, everywhere = np.nan, np.nan  # of the pages' correlations of colours: of two, of all
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
            alike, at_most = color_correlation(values, unit, missing)
            shared = np.fmin(shared, np.fmax.reduce(alike))
            everywhere = np.fmin(everywhere, at_most.min())
            wholly = at_most > WHOLLY_SHARED[file.lossy]
            if wholly.all():
                limit = SENSORS_CORRELATION[True]
            with np.errstate(invalid="ignore"):  # infinite ones, which are missing
                differences = np.subtract(values[..., 1:], values[..., :1], dtype=np.float64)
            noisy = differences[..., ~wholly[:2]]  # they are of the same pairs
            values = np.concatenate((values, noisy), axis=2)
        if math.prod(n // PATCH for n in values.shape[:2]) < FLATTEST[1]:
            independent = False
        if independent and not counted:
            correlation = abs(noise_correlation(values, missing)) / limit
            if not (correlation > 1 and is_white(values, missing)):
                most = np.fmax(most, correlation)
    if independent and not most > 1:
        return True, bool(shared > SHARED)
    return False, bool(everywhere > WHOLLY_SHARED[file.lossy])
