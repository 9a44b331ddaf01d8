"""The `flic` program as a user meets it: whole processes, from the shell to the file.

    python -m benches cli [--rounds 9] [-m MODEL | --config base] [--size 768x512] [--python PATH]
        [--cold] [--write FILE[:PART]] [--json FILE]

A new process each time, the commands in turns, medians. The file cache is warm; with --cold it is
emptied before each command, which takes root. Beside it what the codec itself takes inside one
process that has loaded the model, and cwebp, avifenc and cjxl where they are installed. --python
names an interpreter whose installed flic is measured, that of a small installation, say. With
--config the model has random weights, as in `python -m benches large`. Prints a table in Markdown;
--json writes rows as benches/harness/rows.py has them.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benches.harness import photos, study
from benches.harness.environment import environment
from benches.harness.models import save_spread_model
from benches.harness.rows import OK, Row
from benches.harness.whole_processes import run
from flic.codec.opening import open_codec
from flic.model import library
from flic.pictures import images

ASSET = Path(__file__).parent.parent.parent / "flic" / "assets" / "parrot.png"
OTHERS = {
    "cwebp": ["-quiet", "-q", "75", "picture.png", "-o", "other.webp"],
    "avifenc": ["--jobs", "all", "picture.png", "other.avif"],
    "cjxl": ["--quiet", "picture.png", "other.jxl"],
}


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__)
    model = parser.add_mutually_exclusive_group()
    model.add_argument("-m", "--model", help="name or checkpoint (default: the built-in one)")
    model.add_argument("--config", help="random weights of this configuration instead")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", default="768x512", help="WIDTHxHEIGHT of the picture")
    parser.add_argument("--python", default=sys.executable, help="whose flic is measured")
    parser.add_argument("--cold", action="store_true", help="empty the file cache each time")
    given = parser.parse_args(arguments)
    width, height = map(int, given.size.split("x"))
    picture = images.Picture.from_array(
        photos.mirrored(images.read(ASSET, strip=True).pixels, width, height)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = save_spread_model(given.config, folder) if given.config else None
        if given.model:
            path = library.locate(given.model).resolve()
        model = ["-m", str(path)] if path else []
        (folder / "picture.png").write_bytes(images.to_bytes(picture.to_pil(), ".png"))
        (folder / "coded.flic").write_bytes(open_codec(path).encode_picture(picture))
        programs = commands(str(Path(given.python).absolute()), model)
        calls = {} if given.cold else within(path, picture)
        rows = measured(programs, calls, folder, given.rounds, cold=given.cold)
    heads = (f"{given.size}, {given.rounds} rounds", "median", "fastest", "peak memory")
    lines = []
    for row in rows:
        memory = row.values["process_peak_bytes"]
        peak = f"{memory / 1e6:.0f} MB" if memory else ""
        lines.append((row.impl, f"{row.p50:.3f} s", f"{row.values['least']:.3f} s", peak))
    study.publish(given, heads, lines, rows)


def commands(python: str, model: list[str]) -> dict[str, list[str]]:
    """Whole processes, by name."""
    flic = [python, "-m", "flic"]
    found = {
        "flic --help": [*flic, "--help"],
        "flic info": [*flic, "info", "coded.flic"],
        "flic encode": [*flic, "encode", "picture.png", "out.flic", "--overwrite", *model],
        "flic decode": [*flic, "decode", "coded.flic", "out.png", "--overwrite", *model],
    }
    for program, arguments in OTHERS.items():
        if path := shutil.which(program):
            found[program] = [path, *arguments]
    return found


def within(model: Path | None, picture: images.Picture) -> dict[str, Callable[[], object]]:
    """What the codec itself does, by name."""
    codec = open_codec(model)
    data = codec.encode_picture(picture)
    return {
        "encode, in process": lambda: codec.encode_picture(picture),
        "decode, in process": lambda: codec.decode_picture(data),
    }


def measured(
    processes: dict[str, list[str]],
    calls: dict[str, Callable[[], object]],
    folder: Path,
    rounds: int,
    cold: bool = False,
) -> list[Row]:
    """A row for each, from rounds in which all take turns; a first one does not count."""
    times: dict[str, list[float]] = {name: [] for name in (*processes, *calls)}
    peaks = dict.fromkeys(times, 0)
    for _ in range(rounds + 1):
        for name, command in processes.items():
            if cold:
                empty_file_cache()
            seconds, peak = run(command, folder)
            times[name].append(seconds)
            peaks[name] = max(peaks[name], peak)
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    rows = []
    for name, all_times in times.items():
        row = Row("cli", "program", name, "forward", "float32", OK, **environment())
        row.timed(all_times[1:], None)
        row.values = {"least": min(all_times[1:]), "process_peak_bytes": peaks[name]}
        rows.append(row)
    return rows


def empty_file_cache() -> None:
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError as error:
        sys.exit(f"--cold: the file cache cannot be emptied: {error.strerror}")
