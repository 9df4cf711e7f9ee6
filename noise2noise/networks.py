"""Trained networks: where they are, what each was trained for, which of them suits a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noise2noise import runs
from noise2noise.datasets import NAMES, REAL_NOISE, dataset_name
from noise2noise.errors import InputError, reading
from noise2noise.filters import FILTERS, Filter
from noise2noise.picture import LOSSY_FORMATS
from noise2noise.ranges import Range

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
# For people's pictures, by whether they are grey, and whether each pixel's noise is its own.
DEFAULTS = {
    (False, False): "camera-bsds300",
    (True, False): "camera-bsds300-grey",
    (False, True): "sensor-bsds300",
    (True, True): "sensor-bsds300-grey",
}


@dataclass(frozen=True)
class Trained:
    """A trained model's file, and what it was trained for."""

    name: str
    filter: Filter | None  # none for real noise
    path: Path
    trained_on: tuple[str, ...] = ()  # the sets whose pictures it has seen
    grey: bool = False  # grey ones were among them
    span: Range | None = None  # the values of real exposures that it took for 0 and 1 (`ranges`)
    deep: bool = True  # those had more than 8 bits
    words: str = ""  # what names it to infer.py

    @property
    def zero_mean(self) -> bool:
        """Whether the noise that it was trained for leaves local means as they are."""
        return self.filter is None or self.filter.zero_mean

    @property
    def oriented(self) -> bool:
        """Whether the noise that it was trained for looks otherwise when it is turned."""
        return self.filter is not None and self.filter.oriented


def find_models(
    filter: str | None = None,
    dataset: str | None = None,
    real_noise: bool = False,
    folders: Sequence[Path] = (PRETRAINED, runs.RUNS),
) -> list[Trained]:
    """Find the trained models, all of them or those asked for, ordered by dataset and filter.

    `folders` hold models or runs, or are a run's, or a model's file. Of two with one name the last
    counts. Raises `InputError` where there is none; it says which command trains one.
    """
    files = {}
    for folder in folders:
        with reading(folder):  # a name that is too long, a folder that may not be entered
            if folder.absolute() not in (PRETRAINED, runs.RUNS) and not folder.exists():
                raise InputError(f"{folder} does not exist: name a folder of models with --models")
            alone = folder.is_file()
        paths = [*folder.glob("[!.]*.keras"), *folder.glob(f"[!.]*/{runs.MODEL}")]
        for path in [folder] if alone else paths:
            name = path.resolve().parent.name if path.name == runs.MODEL else path.stem
            files[name] = path
    found, kinds = [], set()
    for name, path in files.items():
        training = runs.read_training(path)
        if not training and path.name == runs.MODEL:  # of a run that an older version finished
            training = (runs.read_settings(path.parent) or {}).get("settings", {})
        kind = training.get("filter", name.split("-")[0])
        kinds.add(kind)
        # Without clean pictures there is nothing to show or score: these must be asked for.
        wanted = kind == filter or (filter is None and (real_noise or kind in FILTERS))
        names = {name, name.partition("-")[2]}  # train_model.py --name gives any
        if wanted and (dataset is None or {dataset, dataset_name(dataset)} & names):
            trained = Trained(
                name,
                FILTERS.get(kind),
                path,
                trained_on=tuple(training.get("trained_on", ())),
                grey=bool(training.get("grey")),
                span=training.get("range") and tuple(training["range"]),
                deep=bool(training.get("deep", True)),
                words=f"{kind} {name.removeprefix(f'{kind}-')}",
            )
            found.append(trained)
    exact = dataset and f"{filter}-{dataset_name(dataset)}"
    found = [trained for trained in found if trained.name == exact] or found
    if not found and filter is None and kinds & set(REAL_NOISE):
        raise InputError("no model here was trained on clean pictures, to show: use --restore")
    if not found:
        wanted = "-".join(filter for filter in (filter, dataset) if filter)
        places = " or ".join(map(str, folders))
        trained_on = "FOLDER" if filter in REAL_NOISE else dataset or "kodak"
        if filter in FILTERS and trained_on not in NAMES and not Path(trained_on).exists():
            trained_on = "DATASET (whose run is FILTER-DATASET[-LOSS][-grey][-clean])"
        raise InputError(
            f"no trained model {wanted + ' ' if wanted else ''}in {places}: "
            f"train it with python train_model.py {filter or 'gaussian'} {trained_on}"
        )
    return sorted(found, key=lambda trained: (trained.name.partition("-")[2], trained.name))


def networks_to_restore_with(
    filter: str | None, dataset: str | None, folders: Sequence[Path]
) -> dict[tuple[bool, bool], Trained]:
    """Return the network for each kind of pictures in `DEFAULTS`: the one that is named, or those.

    Where one of those is missing, another takes its place, one that knows such noise if it can.
    Raises `InputError` where none does.
    """
    found = find_models(filter, dataset, True, folders)
    if len(found) == 1:
        return dict.fromkeys(DEFAULTS, found[0])
    # Several of one data set: none of them is meant.
    known = {} if dataset else {trained.name: trained for trained in found}
    chosen = {}
    for grey, independent in DEFAULTS:
        # The camera's know a sensor's noise, too, and that for colours knows grey pictures.
        places = (grey, independent), (grey, False), (False, False), (grey, True), (False, True)
        names = [DEFAULTS[place] for place in places if DEFAULTS[place] in known]
        if not names:
            words = ", ".join(trained.words for trained in found)
            raise InputError(f"name one model to restore with, of: {words}")
        chosen[grey, independent] = known[names[0]]
    return chosen


def say_why(
    trained: Trained, grey: bool, independent: bool, shared: bool, format: str, by_default: bool
) -> str:
    """Return what a user should know of a network for a picture: "" where that is nothing.

    `independent`: each pixel's noise is its own, for all that is known; `shared`: its colours
    share it. `by_default`: no network was named.
    """
    kind = "is grey" if grey else "is in colour"
    if grey and not trained.grey:
        way_out = "" if by_default else ": leave out the network's name"
        return f"{kind}, and {trained.name}, trained on colour only, does little to it{way_out}"
    if by_default and trained.name in DEFAULTS.values():
        if independent:
            kind = f"{kind}, with noise of each pixel's own"
        if shared and not grey:
            kind = f"{kind} that its colours share"
        return f"{kind}, and no network is named: {trained.name} restores it and others like it"
    if format in LOSSY_FORMATS and trained.filter and trained.filter.independent:
        return (
            f"is {format}, whose noise is not independent from pixel to pixel, as it was where "
            f"{trained.name} was trained: leave out the network's name for such pictures"
        )
    return ""
