"""Which files a restoring makes, and of which pictures: folders searched, nothing overwritten."""

import os
from collections.abc import Sequence
from pathlib import Path

from noise2noise.errors import InputError
from noise2noise.picture import SUFFIXES


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
