"""Peak memory and time of whole files, from small pictures to large ones in tiles.

    python -m benches large [--config base] [--sizes 768x512 4000x3000 6000x4000] [--tile auto]
                            [--effort 0] [--write FILE[:PART]] [--json FILE]

`flic encode` and `flic decode` as whole processes, from and to BMP, and their peak memory.
The pictures are a shipped photograph, continued by mirroring. The model has random weights whose
latents spread over several integers (as in `python -m benches codec`), so files are larger, and
take longer to code, than with trained ones. Prints a table in Markdown.
"""

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benches.harness import rows, study
from benches.harness.environment import environment
from benches.harness.models import save_spread_model
from benches.harness.photos import mirrored
from benches.harness.whole_processes import run
from flic.cli.show import ASSETS
from flic.format import container
from flic.pictures import images


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__)
    parser.add_argument("--config", default="base")
    parser.add_argument("--sizes", nargs="+", default=["768x512", "4000x3000", "6000x4000"])
    parser.add_argument("--tile", default="auto", help="as for flic encode")
    parser.add_argument("--effort", type=int, default=0, help="as for flic encode")
    given = parser.parse_args(arguments)
    lines, found = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_spread_model(given.config, folder)
        for size in given.sizes:
            write_picture(size, folder / "picture.bmp")
            for mode, command in commands(given.tile, given.effort).items():
                seconds, peak = run(command, folder)
                data = (folder / "coded.flic").read_bytes()
                tiles = len(container.unpack(data).streams)
                cells = (size, mode, f"{tiles}", f"{len(data)}", f"{seconds:.1f} s")
                lines.append((*cells, f"{peak / 1e9:.2f} GB"))
                row = rows.Row("large", size, "default", mode, "float32", rows.OK, **environment())
                row.timed([seconds], None)
                row.values = {
                    "config": given.config,
                    "effort": given.effort,
                    "tiles": tiles,
                    "bytes": len(data),
                    "process_peak_bytes": peak,
                }
                found.append(row)
    head = (given.config, "", "tiles", "bytes", "whole process", "peak memory")
    study.publish(given, head, lines, found)


def write_picture(size: str, path: Path) -> None:
    width, height = map(int, re.fullmatch(r"(\d+)x(\d+)", size).groups())
    photo = images.read(ASSETS / "dandelion.png")
    picture = images.Picture.from_array(mirrored(photo.pixels, width, height))
    path.write_bytes(images.to_bytes(picture.to_pil(), path.suffix))


def commands(tile: str, effort: int) -> dict[str, list[str]]:
    flic, model = [sys.executable, "-m", "flic"], ["--overwrite", "-m", "model.safetensors"]
    how = [*model, "--tile", tile, "--effort", f"{effort}"]
    return {
        "encode": [*flic, "encode", *how, "picture.bmp", "coded.flic"],
        "decode": [*flic, "decode", *model, "coded.flic", "decoded.bmp"],
    }
