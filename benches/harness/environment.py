"""What every result carries: versions, commit and machine."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

from flic_kernels import native

_ROOT = Path(__file__).parent.parent.parent
_PACKAGES = ("torch", "triton", "numpy", "compressai", "constriction", "torchac", "range-coder")


def environment(device: str = "cpu") -> dict:
    """The fields of rows.Row that say where and with what."""
    machine = _processor()
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else machine,
        "versions": {"python": platform.python_version()} | {n: _version(n) for n in _PACKAGES},
        "commit": _commit(),
        "machine": machine,
        "threads": torch.get_num_threads(),
        "isa": native.isa(),
    }


def _commit() -> str | None:
    """This checkout's, with "-dirty" where its code is another: documents and results may change
    while things are measured."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    changed = git("status", "--porcelain", "--", "setup.py", "flic", "flic_kernels", "benches/*.py")
    return f"{commit}{'-dirty' if changed else ''}" if commit else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
