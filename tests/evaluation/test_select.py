"""The parts of an evaluation: BD-rates, choice of models, and the process that codes."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rate_distortion

from flic.errors import FlicError, ModelNotFoundError
from flic.evaluation import bd, meter, select
from flic.evaluation.coders import Coded, zero_frame
from flic.evaluation.process import CodingProcess
from flic.evaluation.results import Curve, Point, Row
from flic.model import checkpoint, library
from flic.pictures.images import Picture


def curve(name: str, rates, qualities, kind: str = "model") -> Curve:
    points = [
        Point(str(i), {}, (Row("a", 9, 9, 9, rate, quality, None, None),))
        for i, (rate, quality) in enumerate(zip(rates, qualities, strict=True))
    ]
    return Curve(name, kind, "", tuple(points))


ANCHOR = ((0.15, 0.31, 0.62, 1.1), (28.1, 31.0, 33.7, 36.2))
TEST = ((0.11, 0.2, 0.45, 0.9), (28.6, 30.2, 33.1, 36.9))
MORE = ((0.1, 0.13, 0.2, 0.33, 0.5, 0.8, 1.3), (26.0, 27.9, 29.1, 31.8, 32.4, 34.9, 37.0))


class TestBDRate:
    @pytest.mark.parametrize(
        "method, anchor",
        [("cubic", ANCHOR), ("pchip", ANCHOR), ("pchip", MORE)],
    )
    def test_against_an_integration_of_its_own(self, method, anchor):
        interpolate = getattr(rate_distortion, method)
        right = rate_distortion.bd_rate(anchor, TEST, interpolate)
        found = bd.compare(curve("t", *TEST), curve("a", *anchor), "psnr", method)
        assert found.bd_rate == pytest.approx(right, abs=1e-6)
        assert (found.low, found.high) == (max(anchor[1][0], 28.6), min(anchor[1][-1], 36.9))
        assert found.reason is None

    @pytest.mark.parametrize("method", bd.METHODS)
    def test_half_the_rate(self, method):
        halved = curve("t", [rate / 2 for rate in ANCHOR[0]], ANCHOR[1])
        found = bd.compare(halved, curve("a", *ANCHOR), "psnr", method)
        assert found.bd_rate == pytest.approx(-50, abs=1e-9)
        assert found.overlap == 1

    def test_order_of_points_does_not_matter(self):
        turned = curve("t", TEST[0][::-1], TEST[1][::-1])
        straight = bd.compare(curve("t", *TEST), curve("a", *ANCHOR), "psnr")
        assert bd.compare(turned, curve("a", *ANCHOR), "psnr") == straight

    @pytest.mark.parametrize(
        "rates, qualities, method, reason",
        [
            ((0.2,), (30.0,), "pchip", "needs 2 points, t has 1"),
            ((0.2, 0.3, 0.4), (30.0, 31.0, 32.0), "cubic", "needs 4 points, t has 3"),
            ((0.2, 0.4), (20.0, 28.1), "pchip", "no quality in common"),
            ((0.2, 0.4), (31.0, 30.0), "pchip", "does not grow"),
            ((0.2, 0.2), (30.0, 31.0), "pchip", "does not grow"),
            ((0.2, 0.4), (30.0, float("inf")), "pchip", "without loss"),
        ],
    )
    def test_says_why_there_is_none(self, rates, qualities, method, reason):
        found = bd.compare(curve("t", rates, qualities), curve("a", *ANCHOR), "psnr", method)
        assert found.bd_rate is None and reason in found.reason

    def test_a_metric_that_is_missing(self):
        found = bd.compare(curve("t", *TEST), curve("a", *ANCHOR), "ms_ssim_db")
        assert "lacks this metric" in found.reason

    def test_who_is_compared_with_whom(self):
        curves = [curve("1", *TEST), curve("2", *ANCHOR), curve("3", *MORE, kind="anchor")]
        pairs = [(c.curve, c.reference) for c in bd.compare_all(curves) if c.metric == "psnr"]
        assert pairs == [("1", "3"), ("2", "3"), ("2", "1")]


@pytest.mark.usefixtures("known_models")
class TestModels:
    def test_every_built_in_one_by_default(self):
        (model,) = select.models([])
        assert (model.curve, model.name, model.lmbda) == ("FLIC custom", "small", "0.01")

    def test_names_fingerprints_files_and_folders(self, model_folder, small_model, tmp_path):
        fingerprint = checkpoint.fingerprint(small_model)
        file = str(model_folder / "small.safetensors")
        for spec in ("small", fingerprint, file):
            (model,) = select.models([spec])
            assert model.fingerprint == fingerprint and model.path == Path(file)
        checkpoint.save(small_model, tmp_path / "b=1.safetensors", metric="ms-ssim")
        inside = select.models([str(tmp_path)])
        assert [m.curve for m in inside] == ["FLIC custom, MS-SSIM"]
        named = select.models([f"x={tmp_path}", "y=small", str(tmp_path / "b=1.safetensors")])
        assert [m.curve for m in named] == ["x", "y", "FLIC custom, MS-SSIM"]
        with pytest.raises(FlicError, match="twice"):
            select.models(["small", fingerprint])
        with pytest.raises(FlicError, match=r"\[CURVE=\]MODEL"):
            select.models(["=small"])
        with pytest.raises(ModelNotFoundError, match="fingerprint"):
            library.locate("0123456789abcdef")

    def test_what_a_model_was_trained_for(self, tmp_path):
        published = {"lambda": "0.013"}
        for name, metadata, metric in (
            ("a.safetensors", {"metric": "ms-ssim"}, "ms-ssim"),
            ("mse/a.safetensors", {"metric": "ms-ssim"}, "ms-ssim"),
            ("flic_MSSSIM_4.pth.tar", {}, "ms-ssim"),
            ("ms_ssim_8.73.pth.tar", {}, "ms-ssim"),
            ("mse-3.pth.tar", {}, "mse"),
            ("ms-ssim/3.pth.tar", {}, "ms-ssim"),
            ("mse/ms-ssim.pth.tar", {}, "ms-ssim"),
            ("mse_or_ms-ssim.pth.tar", {}, None),
            ("ftic_0.0483.pth.tar", {}, "mse"),
            ("ftic_60.50.pth.tar", {}, "ms-ssim"),
            ("a.pth.tar", published, "mse"),
            ("ftic_60.50.safetensors", published, "mse"),
            ("0.5.pth.tar", {}, None),
            ("gamseter.pth.tar", {}, None),
        ):
            assert select.trained_for(tmp_path / name, metadata) == metric, name

    def test_mse_and_ms_ssim_are_not_one_curve(self, small_model, tmp_path):
        """Of checkpoints as the published ones are: no metadata."""
        import torch

        folder = tmp_path / "twelve"
        folder.mkdir()
        for name in ("mse_1", "mse_2", "msssim_1", "msssim_2"):
            state = small_model.state_dict()
            state["g_a.9.bias"] = state["g_a.9.bias"] + len(list(folder.iterdir()))
            torch.save(state, folder / f"{name}.pth.tar")
        found = {Path(m.name).name: m.curve for m in select.models([str(folder)])}
        assert found == {
            "mse_1.pth.tar": "FLIC custom",
            "mse_2.pth.tar": "FLIC custom",
            "msssim_1.pth.tar": "FLIC custom, MS-SSIM",
            "msssim_2.pth.tar": "FLIC custom, MS-SSIM",
        }
        silent = [folder / f"{i}.pth.tar" for i in range(2)]
        for i, name in enumerate(("mse_1", "msssim_1")):
            (folder / f"{name}.pth.tar").rename(silent[i])
        for specs in ([folder], silent):
            with pytest.raises(FlicError, match=r"MSE or for MS-SSIM.*CURVE=MODEL.*--metric"):
                select.models([str(spec) for spec in specs])
        (alone,) = select.models([str(silent[0])])
        assert alone.curve == "FLIC custom"
        named = select.models([f"a={silent[0]}", f"b={silent[1]}"])
        assert [m.curve for m in named] == ["a", "b"]


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
    picture = Picture(np.zeros((8, 8, 3), np.uint8))

    def test_memory_and_time_are_the_coding_process_own(self):
        with CodingProcess(Hog()) as process:
            coded, steps = process.code(self.picture)
            assert process.memory_method in (meter.RESETTABLE, meter.WHOLE_RUN)
            resettable = process.memory_method == meter.RESETTABLE
        assert coded.bytes != os.getpid()
        assert steps["encode"].seconds > steps["decode"].seconds > 0
        difference = steps["encode"].peak_bytes - steps["decode"].peak_bytes
        assert difference > 190e6 if resettable else difference == 0

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
        monkeypatch.setattr(meter, "_CLEAR", tmp_path / "none" / "clear_refs")
        assert meter.method() == meter.WHOLE_RUN
        measured = meter.Meter()
        with measured.step("first"):
            np.ones(50_000_000, np.uint8).sum()
        with measured.step("second"):
            pass
        assert measured.steps["second"].peak_bytes >= measured.steps["first"].peak_bytes


@pytest.mark.parametrize("height, width", [(5, 256), (255, 3), (256, 512), (1, 1)])
def test_zero_frame(height, width):
    """CompressAI's compute_padding puts the picture at the same place."""
    from compressai.ops import compute_padding

    pixels = np.full((height, width, 3), 7, np.uint8)
    framed, top, left = zero_frame(pixels, 256)
    (west, east, north, south), _ = compute_padding(height, width, min_div=256)
    assert (top, left) == (north, west)
    assert framed.shape[:2] == (north + height + south, west + width + east)
    assert framed.sum() == pixels.sum()
    assert (framed[top : top + height, left : left + width] == 7).all()
    assert zero_frame(pixels, None) == (pixels, 0, 0)
