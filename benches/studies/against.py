"""This checkout against another commit: training steps, or encoding and decoding, in turns.

    python -m benches against COMMIT [--what step | picture] [--config tiny] [--batch 4]
        [--crop 128] [--rounds 5] [--calls 25] [--write FILE[:PART]] [--json FILE]

COMMIT is put under runs/against/ and its libraries are built there once, by this interpreter. In
each round a process of either runs `--calls` calls, on 2 threads, of which the first three do not
count: a step is forward, backward and what the optimisers and the average do, on random crops; a
picture of 768x512 is encoded and decoded in float32 in a process that has loaded the model, one of
random weights whose latents spread over several integers. Prints a table in Markdown: medians over
rounds of each process's median, the ratio of the two by rounds (least, median, most), peaks of
memory where Linux tells them; --json writes rows as benches/harness/rows.py has them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benches.harness import study
from benches.harness.environment import environment
from benches.harness.models import save_spread_model
from benches.harness.photos import mirrored
from benches.harness.rows import OK, Row
from flic.pictures import images

ROOT = Path(__file__).parent.parent.parent
ASSET = ROOT / "flic" / "assets" / "parrot.png"
WARM = 3  # calls that do not count
_TEXT = {"capture_output": True, "text": True}
# Runs in either checkout, so only on what both have; prints each call's seconds by parts.
_COMMON = """
import json, pathlib, sys, time
import torch
torch.set_num_threads(2)
given = json.loads(sys.argv[1])
calls = []
def finish():
    status = pathlib.Path("/proc/self/status")  # Linux's; its peak begins with the program
    kib = int(status.read_text().split("VmHWM:")[1].split()[0]) if status.exists() else 0
    print(json.dumps({"calls": calls, "peak": 1024 * kib}))
"""
_STEP = """
from flic.training import Recipe
from flic.training.trainer import Trainer
trainer = Trainer(Recipe(given["config"], batch=given["batch"], crop=given["crop"], steps=10**6))
x = torch.rand(given["batch"], 3, given["crop"], given["crop"])
for _ in range(given["calls"]):
    times = [time.perf_counter()]
    loss = trainer.forward(x)["loss"]
    times.append(time.perf_counter())
    loss.backward()
    times.append(time.perf_counter())
    trainer.apply()
    times.append(time.perf_counter())
    parts = zip(("forward", "backward", "optimisers"), times, times[1:])
    calls.append({"step": times[-1] - times[0], **{name: b - a for name, a, b in parts}})
finish()
"""
_PICTURE = """
import flic
from PIL import Image
picture = Image.open(given["picture"]).convert("RGB")
model = given["model"] if hasattr(flic, "open_codec") else flic.load_model(given["model"])
for _ in range(given["calls"]):
    times = [time.perf_counter()]
    data = flic.encode(picture, model)
    times.append(time.perf_counter())
    flic.decode(data, model)
    times.append(time.perf_counter())
    calls.append({"encode": times[1] - times[0], "decode": times[2] - times[1]})
finish()
"""


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__)
    parser.add_argument("commit", metavar="COMMIT")
    parser.add_argument("--what", choices=("step", "picture"), default="step")
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=25)
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.calls <= WARM:
        parser.error(f"at least 1 round of more than {WARM} calls")
    checkouts = {given.commit: checked_out(given.commit), "now": ROOT}
    settings = {name: getattr(given, name) for name in ("config", "batch", "crop", "calls")}
    case = f"{given.config} {given.batch}x{given.crop}x{given.crop}"
    with tempfile.TemporaryDirectory() as name:
        script = _COMMON + _STEP
        if given.what == "picture":
            script, case = _COMMON + _PICTURE, f"{given.config} 768x512"
            settings |= picture_and_model(given.config, Path(name))
        found = {impl: [] for impl in checkouts}
        for i in range(given.rounds):
            for impl in list(checkouts)[:: -1 if i % 2 else 1]:
                found[impl].append(run(script, settings, checkouts[impl]))
    rows = [row(case, impl, processes) for impl, processes in found.items()]
    rows[0].commit = given.commit
    study.publish(given, *table(case, rows), rows)


def checked_out(commit: str) -> Path:
    """The commit's files with its libraries built, in a folder of its own."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "rev-parse", "--verify", f"{commit}^{{commit}}"], **_TEXT)
    if found.returncode:
        sys.exit(f"{commit} is no commit here: {found.stderr.strip()}")
    folder = ROOT / "runs" / "against" / found.stdout.strip()
    if not list(folder.glob("flic_kernels/libflic_kernels.*")):
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run([*git, "archive", commit], stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        build = [sys.executable, "setup.py", "build_ext", "--inplace"]
        built = subprocess.run(build, cwd=folder, **_TEXT)
        if built.returncode:
            sys.exit(f"{commit} cannot be built: {built.stderr[-2000:]}")
    return folder


def picture_and_model(config: str, folder: Path) -> dict[str, str]:
    """Paths of a picture of 768x512 and a model, for either checkout to read."""
    pixels = mirrored(images.read(ASSET, strip=True).pixels, 768, 512)
    picture = folder / "picture.png"
    picture.write_bytes(images.to_bytes(images.Picture.from_array(pixels).to_pil(), ".png"))
    return {"picture": str(picture), "model": str(save_spread_model(config, folder))}


def run(script: str, settings: dict, checkout: Path) -> dict:
    """What a process found that imports the checkout's packages: medians by parts, its peak."""
    # With -c the folder that a process begins in comes first among those that it imports from.
    command = [sys.executable, "-W", "ignore", "-c", script, json.dumps(settings)]
    done = subprocess.run(command, cwd=checkout, **_TEXT)
    if done.returncode:
        sys.exit(f"in {checkout}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    calls = result["calls"][WARM:]
    return {
        "parts": {part: statistics.median(call[part] for call in calls) for part in calls[0]},
        "peak": result["peak"],
    }


def row(case: str, impl: str, processes: list[dict]) -> Row:
    """Of one checkout; its times are the processes' medians of the first part."""
    parts = [p["parts"] for p in processes]
    made = Row("against", case, impl, "forward", "float32", OK, **environment())
    made.timed([next(iter(p.values())) for p in parts], None)
    made.stages = {name: statistics.median(p[name] for p in parts) for name in parts[0]}
    made.values = {
        "processes": parts,
        "process_peak_bytes": max(p["peak"] for p in processes),
    }
    return made


def table(case: str, rows: list[Row]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Its head and its lines."""
    before, after = rows
    names = list(before.stages)
    lines = []
    for each in rows:
        times = (f"{1e3 * each.stages[name]:.1f} ms" for name in names)
        peak = each.values["process_peak_bytes"]
        memory = f"{peak / 1e6:.0f} MB" if peak else ""
        lines.append((each.impl, *times, memory))
    cells = []
    for name in names:
        pairs = zip(before.values["processes"], after.values["processes"], strict=True)
        ratios = sorted(old[name] / new[name] for old, new in pairs)
        cells.append(f"{ratios[0]:.2f}, {statistics.median(ratios):.2f}, {ratios[-1]:.2f}")
    return (case, *names, "peak memory"), [*lines, ("ratio", *cells, "")]
