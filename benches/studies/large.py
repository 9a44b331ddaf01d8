"""Peak memory and time of whole files, from small pictures to large ones in tiles.

    python -m benches large [--config base] [--sizes 768x512 4000x3000 6000x4000] [--tile auto]
                            [--json FILE]

Encoder and decoder run in a process of their own each, whose peak resident memory is shown: Python,
torch and the model included. The pictures are a shipped photograph, continued by mirroring. The
model has random weights whose latents spread over several integers (as in `python -m benches
codec`), so files are larger, and take longer to code, than with trained ones.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches.harness import options, rows
from benches.harness.environment import environment
from benches.harness.models import save_spread_model
from benches.harness.photos import mirrored
from flic.cli.show import ASSETS
from flic.codec.codec import Codec
from flic.evaluation import meter
from flic.format import container
from flic.model import loading
from flic.pictures import images


def main(arguments: Sequence[str]) -> None:
    parser = options.parser(__name__, __doc__)
    parser.add_argument("--config", default="base")
    parser.add_argument("--sizes", nargs="+", default=["768x512", "4000x3000", "6000x4000"])
    parser.add_argument("--tile", default="auto", help="as for flic encode")
    parser.add_argument("--json", type=Path, help="write the rows to this file, one a line")
    parser.add_argument("--run", nargs=3, metavar=("encode|decode", "SIZE", "DIR"))
    given = parser.parse_args(arguments)
    if given.run:
        print(json.dumps(run(*given.run, given.tile)))
        return
    table = Table("size", "", "tiles", "bytes", "seconds", "peak memory", title=given.config)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        save_spread_model(given.config, Path(folder))
        for size in given.sizes:
            for mode in ("encode", "decode"):
                values = in_a_process(mode, size, folder, given.tile)
                cells = (size, mode, f"{values['tiles']}", f"{values['bytes']}")
                memory = f"{values['process_peak_bytes'] / 1e9:.2f} GB"
                table.add_row(*cells, f"{values['seconds']:.1f}", memory)
                row = rows.Row("large", size, "default", mode, "float32", rows.OK, **environment())
                row.timed([values.pop("seconds")], None)
                row.values = {"config": given.config} | values
                found.append(row)
    Console().print(table)
    if given.json:
        rows.write(found, given.json)


def in_a_process(mode: str, size: str, folder: str, tile: str) -> dict:
    """What `run` gives, from a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benches", "large", "--tile", tile]
    done = subprocess.run([*command, "--run", mode, size, folder], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{mode} of {size} failed")
    return json.loads(done.stdout)


def run(mode: str, size: str, folder: str, tile: str) -> dict:
    """Encode a picture into DIR/SIZE.flic or decode it; the numbers of a row."""
    path = Path(folder, f"{size}.flic")
    codec = Codec(loading.load_model(Path(folder, "model.safetensors")))
    if mode == "encode":
        width, height = map(int, re.fullmatch(r"(\d+)x(\d+)", size).groups())
        photo = images.read(ASSETS / "dandelion.png")
        picture = images.Picture.from_array(mirrored(photo.pixels, width, height))
        start = time.perf_counter()
        data = codec.encode_picture(picture, tile=int(tile) if tile.isdecimal() else tile)
        seconds = time.perf_counter() - start
        path.write_bytes(data)
    else:
        data = path.read_bytes()
        start = time.perf_counter()
        codec.decode_picture(data)
        seconds = time.perf_counter() - start
    return {
        "tiles": len(container.unpack(data).streams),
        "bytes": len(data),
        "seconds": seconds,
        "process_peak_bytes": meter.peak_bytes(),
    }
