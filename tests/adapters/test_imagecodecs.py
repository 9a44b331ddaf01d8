"""flic_encode and flic_decode: shapes, `out` as imagecodecs has it, errors."""

import numpy as np
import pytest
from cli_tools import pixels

import flic
from flic.imagecodecs import FLIC, FlicError, flic_check, flic_decode, flic_encode, flic_version

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_shapes(channels):
    data = array(20, 30) if channels is None else array(20, 30, channels)
    coded = flic_encode(data)
    assert isinstance(coded, bytes) and flic_check(coded)
    decoded = flic_decode(coded)
    assert decoded.dtype == np.uint8 and decoded.flags.writeable
    assert decoded.shape == (data.shape if channels != 1 else (20, 30))
    assert np.array_equal(decoded, np.asarray(flic.decode(coded)))
    if channels in (2, 4):
        assert np.array_equal(decoded[..., -1], data[..., -1])


def test_the_same_file_as_from_everywhere_else():
    assert flic_encode(pixels()) == flic.encode(pixels())
    assert flic_encode(memoryview(pixels())) == flic.encode(pixels())
    assert flic_encode(pixels()[:, ::-1]) == flic.encode(pixels()[:, ::-1].copy())
    opaque = np.dstack((pixels(), np.full((30, 40), 255, np.uint8)))
    assert flic_encode(opaque) == flic_encode(pixels())


def test_output_given_to_encode():
    data = flic_encode(pixels())
    size = len(data)
    for out, kind in ((bytes, bytes), (bytearray, bytearray), (size, bytes)):
        result = flic_encode(pixels(), out=out)
        assert type(result) is kind and result == data
    for out in (bytearray(size + 9), memoryview(bytearray(size)), np.zeros(size + 9, np.uint8)):
        result = flic_encode(pixels(), out=out)
        assert bytes(result) == data == bytes(out[:size])
    for out in (size - 1, bytearray(size - 1), np.zeros(0, np.uint8)):
        with pytest.raises(FlicError, match=f"too small: .* for {size}"):
            flic_encode(pixels(), out=out)
    with pytest.raises(ValueError, match="one dimension"):
        flic_encode(pixels(), out=np.zeros((2, size), np.uint8))


def test_output_given_to_decode():
    data = flic_encode(pixels())
    out = np.zeros((30, 40, 3), np.uint8)
    assert flic_decode(data, out=out) is out
    assert np.array_equal(out, flic_decode(data))
    assert flic_decode(data, np.zeros_like(out)).any()
    wrong = (
        np.zeros((30, 41, 3), np.uint8),
        np.zeros((30, 40, 3), np.float32),
        np.zeros((30, 40, 6), np.uint8)[..., ::2],
    )
    for out in wrong:
        with pytest.raises(ValueError, match=r"out must be contiguous uint8 \[30, 40, 3\]"):
            flic_decode(data, out=out)
        assert not out.any()


def opaque(channels: int) -> np.ndarray:
    pixels = array(20, 30, channels)
    if channels in (2, 4):
        pixels[..., -1] = 255
    return pixels


@pytest.mark.parametrize("data", [array(20, 30), *map(opaque, (1, 2, 3, 4)), array(20, 30, 4)])
def test_decoding_into_an_array_like_the_one_encoded(data):
    """The quickstart's line: opaque alpha is not stored, and [H, W, 1] is stored as [H, W]."""
    coded = flic_encode(data)
    out = np.empty_like(data)
    assert flic_decode(coded, out=out) is out
    plain = flic_decode(coded)
    colours = data.shape[2] - (data.shape[2] in (2, 4)) if data.ndim == 3 else 1
    decoded, pixels = out.reshape(20, 30, -1), plain.reshape(20, 30, -1)
    assert np.array_equal(decoded[..., :colours], pixels[..., :colours])
    if data.ndim == 3 and data.shape[2] in (2, 4):
        assert np.array_equal(out[..., -1], data[..., -1])


def test_arrays_that_a_file_does_not_fill():
    gray, alpha = flic_encode(array(20, 30)), flic_encode(array(20, 30, 4))
    frozen = np.zeros((20, 30), np.uint8)
    frozen.setflags(write=False)
    for data, shape in ((gray, (20, 30, 3)), (gray, (20, 30, 4)), (alpha, (20, 30, 3))):
        with pytest.raises(ValueError, match=r"out must be contiguous uint8 \[20, 30"):
            flic_decode(data, out=np.zeros(shape, np.uint8))
    for out in (frozen, bytearray(600)):
        with pytest.raises(ValueError, match="out must be"):
            flic_decode(gray, out=out)


@pytest.mark.parametrize(
    "data",
    [
        array(2, 2).astype(np.float32),
        array(2, 2).astype(np.uint16),
        array(4),
        array(2, 2, 5),
        array(2, 2, 0),
        array(0, 2, 3),
        array(1, 2, 2, 3),
        np.zeros((1, 70_000), np.uint8),
    ],
    ids=lambda data: f"{data.dtype}-{data.shape}",
)
def test_arrays_that_are_no_pictures(data):
    with pytest.raises(ValueError):
        flic_encode(data)


def test_models(small_model, model_folder):
    data = flic_encode(pixels(), model=model_folder / "small.safetensors")
    assert data == flic_encode(pixels(), model=small_model) == flic_encode(pixels())
    assert np.array_equal(flic_decode(data, model=small_model), flic_decode(data))
    with pytest.raises(flic.ModelMismatchError):
        flic_decode(data, model=flic.FLIC(small_model.config))
    with pytest.raises(flic.ModelNotFoundError):
        flic_encode(pixels(), model="nothing")


def test_a_level_or_step_chooses_the_rate(small_model, tmp_path):
    path = tmp_path / "varied.safetensors"
    flic.model.checkpoint.save(small_model, path, quality_steps="4 0.25")
    for level, step in ((0, 4), (50, 1), (100, 0.25)):
        file = flic_encode(pixels(), level, model=path)
        assert file == flic.encode(pixels(), path, step=step) == flic_encode(pixels(), step=step)
        assert flic_decode(file).shape == pixels().shape
    for level, step, match in (
        (50, None, "does not say what steps its qualities are"),
        (-1, None, "must lie between 0 and 100"),
        (None, 65, "a step must lie between"),
        (50, 1, "quality and step each choose the rate"),
    ):
        with pytest.raises(ValueError, match=match):
            flic_encode(pixels(), level, step=step)


def test_check_and_damage():
    data = flic_encode(pixels())
    for good in (data, bytearray(data), memoryview(data), data[:4]):
        assert flic_check(good) is True
    for bad in (b"", b"FLI", b"flic", data[1:]):
        assert flic_check(bad) is False
    for bad in (b"", data[:-1], data + b"\0", b"FLIC" + bytes(20)):
        with pytest.raises(FlicError):
            flic_decode(bad)


def test_about():
    assert FLIC.available
    assert flic_version() == f"flic {flic.__version__}"
