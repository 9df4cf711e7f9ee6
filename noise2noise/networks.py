"""Trained networks: where they are, what each was trained for, which of them suits a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noise2noise import runs
from noise2noise.datasets import NAMES, REAL_NOISE, dataset_name
from noise2noise.errors import InputError, reading
from noise2noise.filters import FILTERS, Filter
from noise2noise.ranges import Range

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"


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
    found, kinds = [], {}
    for name, path in files.items():
        training = runs.read_training(path)
        kind = training.get("filter", name.split("-")[0])
        kinds[name] = kind
        # Without clean pictures there is nothing to show or score: these must be asked for.
        fits = kind == filter or (filter is None and (real_noise or kind in FILTERS))
        names = {name, name.partition("-")[2]}  # train_model.py --name gives any
        if fits and (dataset is None or {dataset, dataset_name(dataset)} & names):
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
    if not found and filter is None and {*kinds.values()} & {*REAL_NOISE}:
        raise InputError("no model here was trained on clean pictures, to show: use --restore")
    if not found:
        wanted = "-".join(filter for filter in (filter, dataset) if filter)
        places = " or ".join(map(str, folders))
        trained_on = "FOLDER" if filter in REAL_NOISE else dataset or "kodak"
        if filter in FILTERS and trained_on not in NAMES and not Path(trained_on).exists():
            trained_on = "DATASET (whose run is FILTER-DATASET[-LOSS][-grey][-clean])"
        others = sorted(name for name, kind in kinds.items() if kind == filter)
        raise InputError(
            f"no trained model {wanted + ' ' if wanted else ''}in {places}"
            f"{', but ' if others else ''}{', '.join(others)}: "
            f"train it with python train_model.py {filter or 'gaussian'} {trained_on}"
        )
    return sorted(found, key=lambda trained: (trained.name.partition("-")[2], trained.name))
