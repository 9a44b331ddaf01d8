"""Which files become which: the pictures below a folder, and names for results that stay."""

import os
from collections import Counter, defaultdict
from pathlib import Path

from ..errors import FlicError, OutputError
from .workers import Job


def folder(source: Path, out: Path, suffixes: frozenset[str], suffix: str) -> list[Job]:
    """One job for each file in `source` (and below) with one of `suffixes`; hidden ones left out.

    The results have their sources' places below `out`, and names as `named` gives them.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is not a folder, and {source} is")
    found = []
    for root, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root, name)
            for name in sorted(names)
            if Path(name).suffix.lower() in suffixes and not name.startswith(".")
        ]
    if not found:
        raise FlicError(f"{source}: no {' '.join(sorted(suffixes))} files in this folder")
    return named([(path, out / path.relative_to(source)) for path in found], suffix)


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
