"""Processes of their own, in which Python finds this checkout's packages and the helpers."""

import os
import subprocess
import sys

from places import HELPERS, ROOT


def environment(**change: str | None) -> dict[str, str]:
    """This process's with PYTHONPATH and what is to be otherwise; None: not set."""
    paths = os.pathsep.join(map(str, (ROOT, HELPERS)))
    changed = {**os.environ, "PYTHONPATH": paths, **change}
    return {name: value for name, value in changed.items() if value is not None}


def python(
    *args, prefix=(), cwd=None, stdout=subprocess.PIPE, timeout=300, **change
) -> subprocess.CompletedProcess:
    """Python with these arguments, to its end; what it prints is text."""
    return subprocess.run(
        [*prefix, sys.executable, *map(str, args)],
        env=environment(**change),
        cwd=cwd,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout,
    )


def in_python(code: str, *args, **options) -> str:
    """What a program prints that must end well; options as python() takes them."""
    done = python("-c", code, *args, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


_REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""
_OF_TORCH = ("torch", "compressai", "scipy", "matplotlib")
NO_TORCH = _REFUSE.format(names=_OF_TORCH)
"""The beginning of a program in which torch, and what brings it, cannot be imported."""
SMALL_INSTALL = _REFUSE.format(names=(*_OF_TORCH, "numpy", "safetensors"))
"""The same where all is missing that flic installs without its extras."""
