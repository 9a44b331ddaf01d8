"""CompressAI's own tools, run on FLIC by `python -m flic.compressai`."""

import functools
import json
import math
import sys
from pathlib import Path

import compressai.zoo
import numpy as np
import pytest
import torch
from golden_model import golden_keys
from PIL import Image
from processes import python
from rate_distortion import psnr
from rescaled_models import rescaled

from flic import FLIC
from flic import compressai as tools
from flic.cli.show import ASSETS
from flic.codec.codec import Codec
from flic.codec.rate import Rate
from flic.compressai.__main__ import main
from flic.errors import CheckpointError, FlicError
from flic.evaluation import coders, meter
from flic.evaluation.coders import Coded
from flic.model import checkpoint, library, loading
from flic.pictures.images import Picture

SIDE = 192  # for tools that take MS-SSIM at least 161


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder with data/parrot.png in it; what the tools change is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    _crop().save(tmp_path / "data" / "parrot.png")
    yield tmp_path
    torch.set_num_threads(threads)


def run(capsys, *arguments) -> str:
    """The tool's stdout."""
    capsys.readouterr()
    assert not main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def results(text: str) -> dict[str, float]:
    """The single point that eval_model and bench print."""
    return {name: value for name, (value,) in json.loads(text)["results"].items()}


@functools.cache
def coded(real: bool, pad: int | None) -> Coded:
    """The picture by flic's own evaluation."""
    coder = coders.ModelCoder(library.locate("tiny"), real=real, pad=pad)
    coder.open()
    return coder.code(Picture.from_array(np.array(_crop())), None, meter.Meter())


def _crop() -> Image.Image:
    box = (100, 100, 100 + SIDE, 100 + SIDE)
    return Image.open(ASSETS / "parrot.png").convert("RGB").crop(box)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


class TestEvalModel:
    def test_pretrained(self, here, capsys):
        """The tool pads with zeros to 64 and counts the stream without the file's header."""
        picture = here / "data" / "parrot.png"
        options = ("eval_model", "pretrained", "data", "-a", "flic-tiny", "-q", 1)
        found = results(run(capsys, *options, "-d", "out", "--per-image"))
        right = coded(real=True, pad=64)
        assert found["psnr-rgb"] == pytest.approx(psnr(pixels(picture), right.pixels), abs=1e-4)
        header = right.bytes - found["bpp"] * SIDE * SIDE / 8
        assert 20 <= header <= 30
        written = json.loads((here / "out" / "flic-tiny-ans.json").read_text())
        assert written["results"]["bpp"] == [found["bpp"]]

    def test_entropy_estimation(self, here, capsys):
        picture = here / "data" / "parrot.png"
        options = ("eval_model", "pretrained", "data", "-a", "flic-tiny", "-q", 1)
        found = results(run(capsys, *options, "--entropy-estimation"))
        right = coded(real=False, pad=None)
        assert found["bpp"] == pytest.approx(8 * right.bytes / SIDE**2, rel=1e-5)
        assert found["psnr-rgb"] == pytest.approx(psnr(pixels(picture), right.pixels), abs=1e-4)

    def test_half_is_refused(self, here):
        """What feeds the coding tables stays float32."""
        options = ["eval_model", "pretrained", "data", "-a", "flic-tiny", "-q", "1", "--half"]
        with pytest.raises(CheckpointError, match="float32"):
            main(options)


class TestUpdateModel:
    def test_then_eval_model(self, here, capsys):
        """A checkpoint as CompressAI 1.2.4's trainings with DataParallel wrote them."""
        model = loading.load_model("tiny")
        names = model.state_dict(legacy_names=True)
        state = {f"module.{name}": value for name, value in names.items()}
        torch.save({"state_dict": state, "epoch": 3, "loss": 1.0}, "tiny.pth.tar")
        run(capsys, "update_model", "tiny.pth.tar", "-a", "flic", "-d", "updated")
        (updated,) = (here / "updated").iterdir()
        assert updated.name.startswith("tiny-") and updated.name.endswith(".pth.tar")
        state, _ = checkpoint.read(updated)
        assert state["entropy_bottleneck._quantized_cdf"].numel() > 0
        loaded = FLIC.from_state_dict(state)
        assert checkpoint.fingerprint(loaded) == checkpoint.fingerprint(model)
        options = ("data", "-a", "flic")
        found = results(run(capsys, "eval_model", "checkpoint", *options, "-p", updated))
        right = psnr(np.array(_crop()), coded(real=True, pad=64).pixels)
        assert found["psnr-rgb"] == pytest.approx(right, abs=1e-4)

    def test_published_checkpoint(self, here, capsys):
        """The published 835 keys, on fewer channels."""
        narrow = {"widths": (8, 8, 8), "heads": (4, 4, 4), "latent": 20, "hyper": 8, "ratio": 4}
        right = FLIC(narrow).state_dict()
        assert list(right) == list(golden_keys()) and len(right) == 835
        torch.save({"state_dict": right}, "published.pth.tar")
        run(capsys, "update_model", "published.pth.tar", "-a", "flic")
        (updated,) = here.glob("published-*.pth.tar")
        state = torch.load(updated, weights_only=True)
        assert list(state) == list(right)
        assert state["entropy_bottleneck._cdf_length"].shape == (8,)
        made = ("_offset", "_quantized_cdf", "_cdf_length")
        for name in right:
            if name not in (f"entropy_bottleneck.{leaf}" for leaf in made):
                assert torch.equal(state[name], right[name])


def test_plot(here, capsys):
    """Results of eval_model, and those that `flic eval` writes for this tool."""
    from flic.evaluation import report
    from flic.evaluation.results import Curve, Point, Row

    rows = [Row("a", 9, 9, 9, rate, 30 + rate, 0.9 + rate / 100, 10 + rate) for rate in (1, 2)]
    curve = Curve("FLIC", "model", "", tuple(Point(str(r.bpp), {}, (r,)) for r in rows))
    (here / "ours.json").write_text(report.to_compressai(curve))
    theirs = {"bpp": [0.1, 0.3], "psnr-rgb": [30.0, 32.0], "ms-ssim-rgb": [0.9, 0.95]}
    (here / "theirs.json").write_text(json.dumps({"name": "flic-tiny-mse", "results": theirs}))
    for metric in ("psnr", "ms-ssim"):
        run(capsys, "plot", "-f", "ours.json", "theirs.json", "-m", metric, "-o", f"{metric}.png")
        assert Image.open(here / f"{metric}.png").size == (2700, 1800)


def test_codec(here, capsys):
    picture = here / "data" / "parrot.png"
    options = ("--model", "flic-tiny", "-q", 1, "-o", "parrot.bin")
    text = run(capsys, "codec", "encode", picture, *options)
    size = (here / "parrot.bin").stat().st_size
    assert text.startswith(f"{8 * size / SIDE**2:.3f} bpp")
    run(capsys, "codec", "decode", "parrot.bin", "-o", "back.png")
    right = coded(real=True, pad=64).pixels.astype(int)
    # this tool cuts where others round
    assert np.abs(pixels(here / "back.png").astype(int) - right).max() <= 1


FIND, BENCH = ("find_close", "flic"), ("bench", "flic", "data", "-q")
NAMES = {"flic": "base", "flic-tiny": "tiny", "flic-small": "small"}


class TestFindCloseAndBench:
    @pytest.fixture
    def family(self, tmp_path, monkeypatch) -> list[int]:
        """Two models of the configuration `small`; their files' sizes for the picture."""
        folder = tmp_path / "weights"
        folder.mkdir()
        (folder / "retired.json").write_text("{}")
        for i, scale in enumerate((1.6, 0.5)):  # the better one first by name
            lmbda = {"lambda": str(scale)}
            checkpoint.save(rescaled(scale, "small"), folder / f"{i}.safetensors", **lmbda)
        monkeypatch.setattr(library, "WEIGHTS", folder)
        assert [entry.name for entry in tools.qualities("flic-small")] == ["1", "0"]

    def test_find_close_flic(self, here, family, capsys):
        picture = here / "small.png"
        _crop().crop((0, 0, 96, 96)).save(picture)
        codec = Codec(loading.load_model("0"))
        right = 8 * len(codec.encode(picture, strip=True)) / 96**2
        text = run(capsys, *FIND, picture, right, "-m", "bpp", "--save")
        (saved,) = here.glob("output_flic_q*.png")
        assert 50 < int(saved.stem.rpartition("q")[2]) <= 100
        found = {name: float(value) for name, value in (x.split(": ") for x in text.splitlines())}
        assert found["bpp"] == pytest.approx(right, abs=1e-4)
        assert found["psnr-rgb"] == pytest.approx(psnr(pixels(picture), pixels(saved)), abs=1e-3)

    def test_find_close_jpeg_at_flics_rate(self, here, capsys):
        rate = 8 * coded(real=True, pad=None).bytes / SIDE**2
        text = run(capsys, "find_close", "jpeg", "data/parrot.png", rate, "--metric", "bpp")
        assert float(text.split()[1]) == pytest.approx(rate, rel=0.1)

    def test_bench(self, here, family, capsys):
        found = json.loads(run(capsys, *BENCH, "50,51"))["results"]
        assert found["bpp"][0] < found["bpp"][1]
        assert found["psnr-rgb"][0] < found["psnr-rgb"][1]

    def test_an_architecture_without_models(self, here, monkeypatch, tmp_path):
        monkeypatch.setattr(library, "default_folder", lambda: tmp_path / "none")
        with pytest.raises(FlicError, match="no pretrained models of flic"):
            main(["bench", "flic", "data", "--architecture", "flic"])


class TestAnyRate:
    """A model that says what steps its qualities are."""

    @pytest.fixture
    def varied(self, tmp_path, monkeypatch) -> Codec:
        """Such a model, beside one of one rate, as the built-in ones."""
        folder = tmp_path / "weights"
        folder.mkdir()
        (folder / "retired.json").write_text("{}")
        checkpoint.save(rescaled(1.6, "small"), folder / "single.safetensors", **{"lambda": "0.01"})
        path = folder / "varied.safetensors"
        checkpoint.save(loading.load_model("small"), path, quality_steps="4 0.25")
        monkeypatch.setattr(library, "WEIGHTS", folder)
        return Codec(loading.load_model(path))

    def test_find_close(self, here, varied, capsys):
        """It bisects over the model's own qualities."""
        picture = here / "small.png"
        _crop().crop((0, 0, 96, 96)).save(picture)
        right = 8 * len(varied.encode(picture, rate=Rate(quality=37), strip=True)) / 96**2
        text = run(capsys, *FIND, picture, right, "-m", "bpp", "--save")
        (saved,) = here.glob("output_flic_q*.png")
        assert saved.stem.endswith("q37")
        assert float(text.split()[1]) == pytest.approx(right, abs=1e-4)

    def test_bench(self, here, varied, capsys):
        found = json.loads(run(capsys, *BENCH, "0,50,100,900"))["results"]
        original = np.array(_crop())
        files = [varied.encode(original, rate=Rate(quality=q)) for q in (0, 50, 100)]
        sizes = [8 * len(file) / SIDE**2 for file in files]
        assert found["bpp"] == [*sizes, sizes[-1]]
        quality = [psnr(original, varied.decode_picture(file).pixels) for file in files]
        assert found["psnr-rgb"][:3] == pytest.approx(quality, abs=1e-3)

    @pytest.mark.parametrize("options", [(), ("--entropy-estimation",)])
    def test_eval_model(self, here, varied, capsys, options):
        """1 is its quality 0, 8 its 100."""
        command = ("eval_model", "pretrained", "data", "-a", "flic-small", "-q", "1,8")
        found = json.loads(run(capsys, *command, *options))["results"]
        coder = coders.ModelCoder(library.locate("varied"), real=not options)
        coder.pad = None if options else 64
        coder.open()
        for i, step in enumerate((4, 0.25)):
            right = coder.code(Picture.from_array(np.array(_crop())), step, meter.Meter())
            assert found["psnr-rgb"][i] == pytest.approx(
                psnr(np.array(_crop()), right.pixels), abs=1e-3
            )
            header = right.bytes - found["bpp"][i] * SIDE * SIDE / 8
            assert abs(header) < 1 if options else 20 <= header <= 34

    def test_codec(self, here, varied, capsys):
        """Its files say the quality, so they open at its step."""
        sizes = []
        for quality in (2, 7):
            options = ("--model", "flic-small", "-q", quality, "-o", f"{quality}.bin")
            run(capsys, "codec", "encode", "data/parrot.png", *options)
            run(capsys, "codec", "decode", f"{quality}.bin", "-o", "back.png")
            sizes.append((here / f"{quality}.bin").stat().st_size)
            assert psnr(pixels(here / "back.png"), np.array(_crop())) > 15
        assert sizes[0] < sizes[1] / 2

    def test_qualities(self, varied):
        assert tools.variable("flic-small").name == "varied"
        assert tools.variable("flic") is tools.variable("flic-small", "ms-ssim") is None
        loaded = tools.entrypoint("flic-small", quality=8, pretrained=True)
        assert checkpoint.fingerprint(loaded) == varied.fingerprint.hex()
        assert loaded.step == 0.25 and not loaded.training
        for quality in (0, 9):
            with pytest.raises(RuntimeError, match="varied has qualities 1 to 8 here"):
                tools.entrypoint("flic-small", quality=quality, pretrained=True)


def test_train(here, capsys):
    """One epoch; its checkpoint resumes, and update_model takes it."""
    for split in ("train", "test"):
        (here / "data" / split).mkdir()
        Image.open("data/parrot.png").save(here / "data" / split / "parrot.png")
    options = ("train", "-m", "flic-tiny", "-d", "data", "--batch-size", 1, "-n", 0)
    options += ("--patch-size", 64, 64, "--seed", 1, "--lambda", 0.013)
    text = run(capsys, *options, "-e", 1)
    assert "Test epoch 0" in text and "nan" not in text
    run(capsys, *options, "-e", 2, "--checkpoint", "checkpoint.pth.tar")
    saved = torch.load("checkpoint.pth.tar", weights_only=True)
    assert saved["epoch"] == 1 and math.isfinite(saved["loss"])
    run(capsys, "update_model", "checkpoint.pth.tar", "-a", "flic-tiny")
    (updated,) = here.glob("checkpoint-*.pth.tar")
    assert loading.load(updated).config.name == "tiny"


class TestRegistry:
    def test_where_tools_look(self):
        from compressai.registry import MODELS
        from compressai.zoo.image import model_architectures

        before = list(compressai.zoo.models)
        tools.register()
        tools.register()
        assert [n for n in compressai.zoo.models if n not in before] in (list(NAMES), [])
        for name, config in NAMES.items():
            assert MODELS[name] is model_architectures[name] is FLIC
            assert compressai.zoo.models[name] is compressai.zoo.image_models[name]
            assert compressai.zoo.models[name].args == (name,)
            assert tools.ARCHITECTURES[name] == config
        assert compressai.zoo.image_models["flic-tiny"](quality=3).config.name == "tiny"

    def test_qualities(self):
        known = tools.qualities("flic-tiny")
        lambdas = [float(entry.metadata["lambda"]) for entry in known]
        assert lambdas == sorted(lambdas) and all(entry.builtin for entry in known)
        loaded = tools.entrypoint("flic-tiny", quality=len(known), pretrained=True)
        assert checkpoint.fingerprint(loaded) == known[-1].fingerprint
        with pytest.raises(RuntimeError, match=f"has {len(known)} pretrained models for mse"):
            tools.entrypoint("flic-tiny", quality=len(known) + 1, pretrained=True)
        with pytest.raises(ValueError, match="Invalid metric"):
            tools.entrypoint("flic-tiny", quality=1, metric="psnr")


class TestProgram:
    def test_a_tool_that_is_not_there(self):
        done = python("-m", "flic.compressai", "nonsense")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1 and "eval_model" in done.stderr

    def test_usage(self, capsys):
        assert main([]) == 2 and main(["--help"]) == 0
        assert "find_close" in capsys.readouterr().out

    def test_examples_that_are_not_installed(self, monkeypatch, tmp_path):
        import importlib.metadata

        class Without:
            version = "9.9"

            def locate_file(self, path):
                return tmp_path / path

        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Without())
        with pytest.raises(FlicError, match=r"examples/train.py from https.*PATH/train.py"):
            main(["train", "-d", "data"])

    def test_a_script_of_ones_own(self, here, capsys):
        (here / "beside.py").write_text("word = 'beside'")
        script = "import sys, beside, compressai.zoo as zoo\n"
        script += "print(beside.word, 'flic' in zoo.models, sys.argv[1:])\n"
        (here / "script.py").write_text(script)
        assert run(capsys, here / "script.py", "-a", "b") == "beside True ['-a', 'b']\n"
        with pytest.raises(FlicError, match="no such file"):
            main(["none.py"])
