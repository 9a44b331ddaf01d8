"""What the tests of the command line share."""

import io
import subprocess
import sys

import numpy as np
from PIL import Image
from processes import SMALL_INSTALL, environment, python
from typer.testing import CliRunner

from flic.cli import app


def pixels(seed: int = 0, width: int = 40, height: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed: int = 0, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(seed, **options)).save(out, "PNG")
    return out.getvalue()


def run(*args, stdin: bytes | None = None, code: int = 0):
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result


def fails(*args, match: str, **options) -> None:
    """Exit code 1 and exactly one line on stderr, which says `match`."""
    result = run(*args, code=1, **options)
    assert result.stdout == ""
    assert result.stderr.startswith("flic: ") and result.stderr.count("\n") == 1
    assert match in result.stderr


def program(*args, **options) -> subprocess.Popen:
    """The real program in a process of its own, on `small` by option -m."""
    return subprocess.Popen(
        [sys.executable, "-m", "flic", *map(str, args)],
        env=environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


WITHOUT_TORCH = (
    SMALL_INSTALL
    + """
from flic.cli import main
main()
"""
)


def without_torch(*args, **options) -> subprocess.CompletedProcess:
    """The program in a process of its own, as without any extra: torch and numpy are not there."""
    return python("-c", WITHOUT_TORCH, *args, **options)
