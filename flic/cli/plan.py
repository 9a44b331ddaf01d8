"""Which files become which: the pictures below a folder, and names for results that stay."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import FlicError, OutputError
from .workers import Job

Wanted = Callable[[Path], bool]
"""Which files of a folder are taken."""


class Plan(NamedTuple):
    """jobs: what is to be done. left_out: what lies in the input folders besides: files that are
    not wanted, hidden ones, folders that cannot be gone into."""

    jobs: list[Job]
    left_out: list[Path]


def make(sources: list[Path], out: Path, wanted: Wanted, suffix: str, what: str) -> Plan:
    """One job for each file of `sources`, and for each wanted one in the folders among them.

    The results have the files' places below `out`, those of one folder among several below its
    name, and names as `named` gives them. what: is wanted, where there is none.
    Raises OutputError, FlicError.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is not a folder")
    pairs, rest = [], []
    for source in sources:
        if not source.is_dir():
            pairs.append((source, out / source.name))
            continue
        base = out if len(sources) == 1 else out / Path(os.path.abspath(source)).name
        found, unwanted = walk(source, wanted)
        if not found:
            raise FlicError(f"{source}: no {what} in this folder")
        pairs += [(path, base / path.relative_to(source)) for path in found]
        rest += unwanted
    jobs = named(pairs, suffix)
    results = {job.target for job in jobs}
    return Plan(jobs, [path for path in rest if path not in results])


def walk(folder: Path, wanted: Wanted) -> tuple[list[Path], list[Path]]:
    """The wanted files in a folder and below, and what is left out, each in order of names.

    Links to folders are followed, but not into a folder that they lie in.
    """
    return _walk(folder, wanted, frozenset())


def _walk(folder: Path, wanted: Wanted, above: frozenset) -> tuple[list[Path], list[Path]]:
    try:
        status = folder.stat()
        paths = sorted(folder.iterdir())
    except OSError:
        return [], [folder]
    here = (status.st_dev, status.st_ino)
    if here in above:
        return [], [folder]
    found, rest, folders = [], [], []
    for path in paths:
        if path.name.startswith("."):
            rest.append(path)
        elif path.is_dir():
            folders.append(path)
        else:  # a link to nothing counts: that it cannot be read is said later
            regular = path.is_file() or not path.exists()
            (found if regular and wanted(path) else rest).append(path)
    for path in folders:
        deeper, unwanted = _walk(path, wanted, above | {here})
        found += deeper
        rest += unwanted
    return found, rest


def is_flic(path: Path) -> bool:
    """Whether a file is taken for a .flic file: by its name."""
    return path.suffix.lower() == ".flic"


def named(pairs: list[tuple[Path, Path]], suffix: str) -> list[Job]:
    """Sources and the places of their results, the latter named by this rule.

    A result has its source's name with `suffix` for its own (`a.flic`); of sources whose names
    differ only there each keeps its own too (`a.png.flic`, `a.jpg.flic`). A name in use stays: a
    source whose result exists under either name keeps it, whatever comes beside the source or goes.
    Where several could have made the file that exists, it is of the only one that has no other
    result and, of several without, of the only one that has not changed since.

    Raises OutputError where two sources would have one result.
    """
    choices = [
        (place.with_suffix(suffix), place.with_name(place.name + suffix)) for _, place in pairs
    ]
    # case does not tell names apart on every file system
    wanted = Counter(key for names in choices for key in {_key(name) for name in names})
    kept = _kept([source for source, _ in pairs], choices)
    jobs, taken = [], {}
    for i, ((source, _), (short, full)) in enumerate(zip(pairs, choices, strict=True)):
        target = kept.get(i) or (short if wanted[_key(short)] == 1 else full)
        if target in taken:
            raise OutputError(
                f"{taken[target]} and {source} would both become {target}: rename one"
            )
        taken[target] = source
        jobs.append(Job(source, target))
    return jobs


def _kept(sources: list[Path], choices: list[tuple[Path, Path]]) -> dict[int, Path]:
    """Which of its names each source has already, by its number."""
    claims = defaultdict(list)
    for i, names in enumerate(choices):
        for name in dict.fromkeys(reversed(names)):  # its own full name is surely its own
            if name.is_file():
                claims[name].append(i)
    kept = {}
    # a name that only one source can have says more than one that several could
    for name, claimants in sorted(claims.items(), key=lambda item: len(item[1])):
        free = [i for i in claimants if i not in kept]
        if len(free) > 1:
            free = [i for i in free if _unchanged_since(sources[i], name)]
        if len(free) == 1:
            kept[free[0]] = name
    return kept


def _unchanged_since(source: Path, result: Path) -> bool:
    """Whether a file has been there, as it is, since before the other was written.

    The time of the last change of its inode is later than that of its content where a file was
    copied or moved here with its own time kept.
    """
    try:
        times = source.stat()
        return max(times.st_mtime_ns, times.st_ctime_ns) <= result.stat().st_mtime_ns
    except OSError:
        return False


def _key(path: Path) -> str:
    return str(path).casefold()
