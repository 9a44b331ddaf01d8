"""Which models an evaluation takes, by what name."""

from pathlib import Path

import pytest

from flic.errors import FlicError, ModelNotFoundError
from flic.evaluation import select
from flic.model import checkpoint, library


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
