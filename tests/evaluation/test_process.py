"""The process that codes: its time, memory and errors are its own."""

import os
from dataclasses import dataclass

import numpy as np
import pytest

from flic.errors import FlicError
from flic.evaluation import meter
from flic.evaluation.coders import Coded
from flic.evaluation.process import CodingProcess
from flic.pictures.images import Picture


@dataclass
class Hog:
    """Takes 200 MB to encode and none to decode; quality 9 kills it, 8 is an error."""

    def open(self) -> None:
        pass

    def code(self, picture, quality, measured):
        if quality == 9:
            os._exit(7)
        if quality == 8:
            raise FlicError("cannot")
        with measured.step("encode"):
            np.ones(200_000_000, np.uint8).sum()
        with measured.step("decode"):
            pass
        return Coded(os.getpid(), picture.pixels)


class TestProcess:
    picture = Picture.from_array(np.zeros((8, 8, 3), np.uint8))

    def test_memory_and_time_are_the_coding_process_own(self):
        with CodingProcess(Hog()) as process:
            coded, steps = process.code(self.picture)
            assert process.memory_method in (meter.RESETTABLE, meter.WHOLE_RUN)
            resettable = process.memory_method == meter.RESETTABLE
        assert coded.bytes != os.getpid()
        assert steps["encode"].seconds > steps["decode"].seconds > 0
        difference = steps["encode"].peak_bytes - steps["decode"].peak_bytes
        assert difference > 190e6 if resettable else difference <= 0

    def test_errors_come_through(self):
        with CodingProcess(Hog()) as process, pytest.raises(FlicError, match="^cannot$"):
            process.code(self.picture, 8)

    def test_a_process_that_dies(self):
        with CodingProcess(Hog()) as process, pytest.raises(FlicError, match="exit code 7"):
            process.code(self.picture, 9)

    def test_the_method_named_is_the_one_used(self, monkeypatch, tmp_path):
        """VmHWM wherever there is /proc: ru_maxrss is the starting process's peak, too."""
        monkeypatch.setattr(meter, "_CLEAR", tmp_path / "none" / "clear_refs")
        (tmp_path / "status").write_text("Name:\tflic\nVmHWM:\t 7 kB\nVmRSS:\t 5 kB\n")
        monkeypatch.setattr(meter, "_STATUS", tmp_path / "status")
        assert "VmHWM" in meter.method() and meter.peak_bytes() == 7 * 1024
        monkeypatch.setattr(meter, "_STATUS", tmp_path / "none")
        assert "ru_maxrss" in meter.method() and meter.peak_bytes() > 5e7

    def test_where_peaks_cannot_be_reset(self, monkeypatch, tmp_path):
        """What /proc tells can be less the second time: seen in 1 of some 50 whole runs."""
        monkeypatch.setattr(meter, "_CLEAR", tmp_path / "none" / "clear_refs")
        assert meter.method() == meter.WHOLE_RUN
        measured = meter.Meter()
        for name, told in (("first", 7), ("second", 5), ("third", 9)):
            monkeypatch.setattr(meter, "peak_bytes", lambda told=told: told)
            with measured.step(name):
                pass
        assert [step.peak_bytes for step in measured.steps.values()] == [7, 7, 9]
