"""Wrong calls of the Python interface: one clear error each, which says what is wanted."""

import zipfile

import pytest
import torch
from cli_tools import pixels, png
from processes import python

import flic
from flic import CallError, Codec, OptionError
from flic.model import checkpoint


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


class TestCodec:
    @pytest.mark.parametrize("dtype", ["bf16", torch.float16, None])
    def test_dtypes(self, small_model, dtype):
        with pytest.raises(ValueError, match="torch.float32 or torch.bfloat16, not ") as error:
            Codec(small_model, dtype)
        assert one_line(error).endswith(repr(dtype)) and isinstance(error.value, flic.FlicError)

    @pytest.mark.parametrize("model", ["tiny", None, torch.nn.Linear(1, 1)])
    def test_models(self, model):
        with pytest.raises(CallError, match=r"flic.open_codec\(") as error:
            Codec(model)
        assert type(model).__name__ in one_line(error)

    @pytest.mark.parametrize("crop", [(0, 0, 64), (0, 0, 1, 1, 1), 5, "0,0,8,8", (0, 0, 1.5, 8)])
    def test_regions(self, small_model, crop):
        data = flic.encode(pixels(), small_model)
        with pytest.raises(OptionError, match="x, y, width, height") as error:
            flic.decode(data, small_model, crop=crop)
        one_line(error)


class TestCompress:
    @pytest.mark.parametrize(
        ("x", "match"),
        [
            (torch.full((1, 3, 64, 64), 255.0), "divide by 255"),
            (torch.full((1, 3, 64, 64), -1.0), r"in \[0, 1\]"),
            (torch.full((1, 3, 64, 64), float("nan")), r"in \[0, 1\]"),
            (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "floating point"),
            (torch.zeros(3, 64, 64), r"\[B, 3, H, W\].*\[3, 64, 64\]"),
            (torch.zeros(1, 1, 64, 64), r"\[B, 3, H, W\]"),
            (torch.zeros(1, 3, 0, 64), r"\[B, 3, H, W\]"),
            (pixels(), r"\[B, 3, H, W\].*ndarray"),
        ],
    )
    def test_what_is_no_picture(self, small_model, x, match):
        with pytest.raises(CallError, match=match) as error:
            small_model.compress(x)
        one_line(error)

    @pytest.mark.parametrize("shape", [(64,), (64, 64, 3), 64, ("a", "b"), (0, 64), (64, -1)])
    def test_shapes(self, small_model, shape):
        strings = small_model.compress(torch.rand(1, 3, 64, 64))["strings"]
        with pytest.raises(CallError, match=r"shape .*\(height, width\)") as error:
            small_model.decompress(strings, shape)
        one_line(error)

    def test_a_shape_that_the_stream_does_not_have(self, small_model):
        coded = small_model.compress(torch.rand(1, 3, 200, 100))
        with pytest.raises(flic.StreamMismatch, match=r"is shape .*\(height, width\)"):
            small_model.decompress(coded["strings"], coded["shape"][::-1])


def test_what_is_no_checkpoint(tmp_path):
    """torch's own words advise to load it without checks."""
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a", "b")
    (tmp_path / "picture.png").write_bytes(png())
    (tmp_path / "text.pth").write_bytes(b"hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"a": torch.ones(3)}, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-100])
    for path in tmp_path.iterdir():
        with pytest.raises(flic.CheckpointError, match="not a checkpoint of torch") as error:
            checkpoint.read(path)
        assert "weights_only" not in one_line(error)


def test_a_pretrained_model_that_there_is_not(tmp_path):
    from PIL import Image

    Image.fromarray(pixels()).save(tmp_path / "a.png")
    tool = ("eval_model", "pretrained", tmp_path, "-a", "flic", "-q", "3")
    done = python("-W", "ignore", "-m", "flic.compressai", *tool)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("flic.compressai: flic has ") and done.stderr.count("\n") == 1
