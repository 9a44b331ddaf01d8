"""Peak memory and time of whole files, from small pictures to large ones in tiles.

    python -m benches.large [--config base] [--sizes 768x512 4000x3000 6000x4000] [--tile auto]
                            [--json FILE]

Encoder and decoder run in a process of their own each, whose peak resident memory is shown: Python,
torch and the model included. The pictures are a shipped photograph, continued by mirroring. The
model has random weights whose latents spread over several integers (benches.bench_codec), so files
are larger, and take longer to code, than with trained ones.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from flic.cli.show import ASSETS
from flic.evaluation import meter
from flic.format import container
from flic.pictures import images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="base")
    parser.add_argument("--sizes", nargs="+", default=["768x512", "4000x3000", "6000x4000"])
    parser.add_argument("--tile", default="auto", help="as for flic encode")
    parser.add_argument("--json", type=Path, help="write the rows to this file, one a line")
    parser.add_argument("--run", nargs=3, metavar=("encode|decode", "SIZE", "DIR"))
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(*options.run, options.tile)))
        return
    table = Table("size", "", "tiles", "bytes", "seconds", "peak memory", title=options.config)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        save_model(options.config, Path(folder))
        for size in options.sizes:
            for mode in ("encode", "decode"):
                rows.append(in_a_process(mode, size, folder, options.tile))
                row = rows[-1]
                cells = (size, mode, str(row["tiles"]), f"{row['bytes']}", f"{row['seconds']:.1f}")
                table.add_row(*cells, f"{row['peak_bytes'] / 1e9:.2f} GB")
    Console().print(table)
    if options.json:
        from benches.environment import environment

        shared = {"op": "large", "config": options.config, "device": "cpu"} | environment()
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text("".join(json.dumps(shared | row) + "\n" for row in rows))


def save_model(config: str, folder: Path) -> Path:
    """Write random weights of a configuration into a folder; the file."""
    from benches.bench_codec import spread_model
    from flic.model import checkpoint

    path = folder / "model.safetensors"
    checkpoint.save(spread_model(config), path)
    return path


def in_a_process(mode: str, size: str, folder: str, tile: str) -> dict:
    """What `run` gives, from a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benches.large", "--tile", tile]
    done = subprocess.run([*command, "--run", mode, size, folder], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{mode} of {size} failed")
    return json.loads(done.stdout)


def run(mode: str, size: str, folder: str, tile: str) -> dict:
    """Encode a picture into DIR/SIZE.flic or decode it; the numbers of a row."""
    from flic.codec.codec import Codec
    from flic.model import loading

    path = Path(folder, f"{size}.flic")
    codec = Codec(loading.load_model(Path(folder, "model.safetensors")))
    if mode == "encode":
        picture = images.Picture(mirrored(*map(int, re.fullmatch(r"(\d+)x(\d+)", size).groups())))
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
        "size": size,
        "mode": mode,
        "tiles": len(container.unpack(data).streams),
        "bytes": len(data),
        "seconds": seconds,
        "peak_bytes": meter.peak_bytes(),
    }


def mirrored(width: int, height: int) -> np.ndarray:
    """A photograph, continued by mirroring: uint8 [height, width, 3]."""
    pixels = images.read(ASSETS / "dandelion.png").pixels[:height, :width]
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")


if __name__ == "__main__":
    main()
