"""Memory that a piece of a test takes."""

import ctypes
import gc
from pathlib import Path

import pytest


class PeakMemory:
    """Bytes by which a `with` block's peak of resident memory lies above what was there."""

    def __enter__(self):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before would be used again
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pytest.skip("needs Linux's peak of resident memory")
        self._before = self._read("VmRSS")
        return self

    def __exit__(self, *_):
        self.bytes = self._read("VmHWM") - self._before

    @staticmethod
    def _read(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))
