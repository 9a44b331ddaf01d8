"""encode, decode, load_model, and the numbers that describe a result."""

import copy
import dataclasses
import io
import json
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from processes import in_python

import flic
from flic.cli.show import ASSETS
from flic.codec import codec
from flic.coding import entropy
from flic.evaluation.coders import ModelCoder
from flic.format import container
from flic.model import checkpoint, library
from flic.pictures import images, metrics
from flic_kernels.exact import ExactEngine

RNG = np.random.default_rng(3)
pytestmark = pytest.mark.usefixtures("one_thread")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photograph(width: int = 150, height: int = 100) -> np.ndarray:
    image = Image.open(ASSETS / "parrot.png").crop((200, 100, 200 + width, 100 + height))
    return np.array(image)


@pytest.fixture(scope="module")
def file(small_model) -> bytes:
    return flic.encode(photograph(), small_model)


def expected(model, pixels: np.ndarray) -> np.ndarray:
    """What a decoder must show: from the model's own parts, without a file."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    latents = model.analyze(x)
    y_hat = entropy.decode(model, entropy.encode(model, latents), pixels.shape[:2])[1]
    x_hat = model.synthesize(y_hat, pixels.shape[:2])[0]
    return (x_hat * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("width", "height"), [(150, 100), (128, 128), (1, 1), (7, 129)])
def test_round_trip(small_model, width, height):
    pixels = photograph(width, height)
    data = flic.encode(pixels, small_model)
    image = flic.decode(data, small_model)
    assert (image.mode, image.size) == ("RGB", (width, height))
    assert np.array_equal(np.asarray(image), expected(small_model, pixels))


def test_the_picture_depends_on_the_latents(small_model):
    """The test model is no constant: else the tests here would prove little."""
    latents = small_model.analyze(torch.rand(1, 3, 128, 128))
    assert latents.y.unique().numel() > 3 and latents.z.unique().numel() > 1
    assert not np.array_equal(
        expected(small_model, photograph()), expected(small_model, 255 - photograph())
    )


def test_every_kind_of_source_gives_the_same_file(small_model, file, tmp_path):
    pixels = photograph()
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    for source in (path, str(path), path.read_bytes(), Image.fromarray(pixels), tensor):
        assert flic.encode(source, small_model) == file


def test_decode_takes_a_path_too(small_model, file, tmp_path):
    (tmp_path / "a.flic").write_bytes(file)
    expected = flic.decode(file, small_model).tobytes()
    for path in (tmp_path / "a.flic", str(tmp_path / "a.flic")):
        assert flic.decode(path, small_model).tobytes() == expected
    with pytest.raises(flic.FormatError, match="b.flic: No such file"):
        flic.decode(tmp_path / "b.flic", small_model)


def test_what_belongs_to_a_picture_comes_back(small_model):
    rgba = np.dstack((photograph(), RNG.integers(0, 256, (100, 150), dtype=np.uint8)))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "PNG", icc_profile=SRGB, exif=exif)
    image = flic.decode(flic.encode(out.getvalue(), small_model), small_model)
    assert (image.mode, image.size) == ("RGBA", (100, 150))
    assert np.array_equal(np.asarray(image)[..., 3], np.rot90(rgba[..., 3], -1))
    assert image.info["icc_profile"] == SRGB
    assert dict(image.getexif()) == {0x010F: "Maker", 0x0112: 1}
    stripped = flic.encode(out.getvalue(), small_model, strip=True)
    image = flic.decode(stripped, small_model)
    assert "icc_profile" not in image.info and not image.getexif()
    assert container.unpack(stripped).alpha is not None


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_gray_stays_gray(small_model, mode):
    source = Image.fromarray(photograph()).convert("L").convert(mode)
    if mode == "LA":
        source.putpixel((0, 0), (9, 9))
    image = flic.decode(flic.encode(source, small_model), small_model)
    assert image.mode == mode
    pixels = np.repeat(np.asarray(source.convert("L"))[..., None], 3, 2)
    mean = expected(small_model, pixels).mean(2)
    assert np.abs(np.asarray(image.convert("L")) - mean).max() <= 1


def test_truncated_at_every_length(small_model, file):
    for length in range(len(file)):
        with pytest.raises(flic.TruncatedError):
            flic.decode(file[:length], small_model)


def test_every_flipped_bit_is_an_error(small_model, file):
    for bit in range(8 * len(file)):
        damaged = bytearray(file)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(flic.FormatError):
            flic.decode(bytes(damaged), small_model)


def test_a_damaged_stream_under_right_checksums_of_the_file(small_model, file):
    """Someone rewrote the file's own CRC: the stream's own checks still stand."""
    fields = container.unpack(file)
    (whole,) = fields.streams
    for i in range(0, len(whole), max(1, len(whole) // 40)):
        stream = bytearray(whole)
        stream[i] ^= 0x10
        for damaged in (bytes(stream), whole[:i] or b"\0", whole + bytes(i + 1)):
            data = container.pack(dataclasses.replace(fields, streams=(damaged,)))
            with pytest.raises((flic.StreamMismatch, flic.FormatError)):
                flic.decode(data, small_model)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (dict(width=1000), flic.StreamMismatch),
        (dict(height=129), flic.StreamMismatch),
        (dict(fingerprint=bytes(8)), flic.ModelMismatchError),
        (dict(alpha=b"not a PNG"), flic.FormatError),
        (dict(alpha=images.alpha_to_png(Image.new("L", (3, 3)))), flic.FormatError),
    ],
)
def test_changed_fields_under_right_checksums_of_the_file(small_model, file, change, error):
    data = container.pack(dataclasses.replace(container.unpack(file), **change))
    with pytest.raises(error):
        flic.decode(data, small_model)
    with pytest.raises(error):
        codec.Codec(small_model).verify(data)


def test_another_machines_means(small_model, file, monkeypatch):
    """Means that differ a little, as on another machine: an error, never another picture."""

    def another(self, z_hat, step):
        means, scales = self.hyper(z_hat[None])
        return self.begin(means[0] + 0.7, scales[0], step)

    monkeypatch.setattr(ExactEngine, "open", another)
    with pytest.raises(flic.StreamMismatch, match="slice 0"):
        flic.decode(file, small_model)


def test_verify(small_model, file):
    codec.Codec(small_model).verify(file)
    with pytest.raises(flic.TruncatedError):
        codec.Codec(small_model).verify(file[:-1])


def test_a_model_that_has_coded_can_be_copied_and_pickled(small_model, file):
    flic.encode(photograph(), small_model)
    for again in (copy.deepcopy(small_model), pickle.loads(pickle.dumps(small_model))):
        assert flic.encode(photograph(), again) == file


@pytest.mark.parametrize("part", ["g_a.9.weight", "h_mean_s.3.0.bias", "tca.TCA.lift.weight"])
def test_weights_with_nan(small_model, file, part):
    broken = copy.deepcopy(small_model)
    torch.nn.init.constant_(broken.get_parameter(part), math.nan)
    with pytest.raises(flic.CheckpointError, match="NaN|finite"):
        flic.encode(photograph(), broken)
    decoder = codec.Codec(broken)
    decoder.fingerprint = container.unpack(file).fingerprint
    if not part.startswith("g_a"):
        with pytest.raises(flic.CheckpointError):
            decoder.decode(file)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["g_s.0.conv.weight", "g_s.3.igdn.beta", "g_s.9.0.bias"])
def test_weights_of_the_synthesis_that_are_not_finite(small_model, file, part, value):
    """clamp() and uint8 made black of it."""
    broken = copy.deepcopy(small_model)
    with torch.no_grad():
        broken.get_parameter(part).view(-1)[0] = value
    with pytest.raises(flic.CheckpointError, match=f"{part} .*NaN"):
        flic.encode(photograph(), broken)
    decoder = codec.Codec(broken)
    decoder.fingerprint = container.unpack(file).fingerprint
    with pytest.raises(flic.CheckpointError, match=f"{part} .*NaN"):
        decoder.decode(file)
    coded = small_model.compress(torch.rand(1, 3, 64, 64))
    with pytest.raises(flic.CheckpointError, match="NaN"):
        broken.decompress(**coded)


def test_weights_of_the_synthesis_that_overflow(small_model, file):
    broken = copy.deepcopy(small_model)
    with torch.no_grad():
        broken.g_s[9][0].weight.fill_(3e38)
        broken.g_s[9][0].bias.fill_(3e38)
    decoder = codec.Codec(broken)
    decoder.fingerprint = container.unpack(file).fingerprint
    with pytest.raises(flic.CheckpointError, match="NaN"):
        decoder.decode(file)


def test_an_estimate_of_weights_that_are_not_finite(small_model, tmp_path):
    broken = copy.deepcopy(small_model)
    torch.nn.init.constant_(broken.g_s[9][0].bias, math.nan)
    checkpoint.save(broken, tmp_path / "broken.safetensors")
    with pytest.raises(flic.CheckpointError, match="NaN"):
        ModelCoder(tmp_path / "broken.safetensors", real=False).open()


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "str", "Path", "file"])
def test_every_kind_of_file_is_decoded(small_model, file, tmp_path, kind):
    path = tmp_path / "a.flic"
    path.write_bytes(file)
    source = {
        "bytes": lambda: file,
        "bytearray": lambda: bytearray(file),
        "memoryview": lambda: memoryview(file),
        "str": lambda: str(path),
        "Path": lambda: path,
        "file": lambda: io.BytesIO(file),
    }[kind]
    whole = codec.Codec(small_model)
    expected = whole.decode(file).tobytes()
    assert whole.decode(source()).tobytes() == expected
    assert whole.decode_picture(source()).to_pil().tobytes() == expected
    assert flic.decode(source(), small_model).tobytes() == expected
    assert whole.verify(source()) is None


def test_what_is_no_file_is_one_clear_error(small_model, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    for act in (codec.Codec(small_model).decode, codec.Codec(small_model).verify, flic.decode):
        for source, message in (
            (tmp_path / "none.flic", "none.flic: No such file"),
            (str(tmp_path), "Is a directory"),
            (7, "from int"),
            (None, "from NoneType"),
            (io.StringIO("text"), "binary"),
        ):
            with pytest.raises(flic.FormatError, match=message):
                act(source)


def test_no_more_is_read_than_a_file_can_have(small_model, file, tmp_path, monkeypatch):
    path = tmp_path / "endless.flic"
    path.write_bytes(file + bytes(10**6))
    monkeypatch.setattr(container, "MAX_FILE", 1000 + len(file))
    for act in (codec.Codec(small_model).decode, codec.Codec(small_model).verify, flic.decode):
        with path.open("rb", buffering=0) as opened:
            for source in (path, str(path), opened, path.read_bytes()):
                with pytest.raises(flic.FormatError, match="larger than any"):
                    act(source)
            assert opened.tell() == container.MAX_FILE + 1


class TestLibrary:
    def test_found_by_fingerprint_name_and_path(self, small_model, model_folder, file, monkeypatch):
        monkeypatch.setattr(library, "WEIGHTS", model_folder)
        monkeypatch.setattr(library, "DEFAULT", "small")
        (model_folder / "retired.json").write_text("{}")
        assert flic.encode(photograph()) == file
        assert flic.encode(photograph(), "small") == file
        assert flic.encode(photograph(), model_folder / "small.safetensors") == file
        assert flic.decode(file).tobytes() == flic.decode(file, small_model).tobytes()
        with pytest.raises(flic.ModelNotFoundError, match="'big'.*small"):
            flic.load_model("big")

    def test_folders(self, model_folder, small_model, file, tmp_path):
        fingerprint = container.unpack(file).fingerprint.hex()
        entry = library.find(fingerprint, model_folder)
        assert (entry.name, entry.builtin, entry.metadata["lambda"]) == ("small", False, "0.01")
        assert flic.Config(**entry.config) == small_model.config
        with pytest.raises(flic.ModelNotFoundError, match=f"{fingerprint}.*flic convert.*-m"):
            library.find(fingerprint, tmp_path)
        assert library.entries(tmp_path / "none") == library.entries(tmp_path)

    def test_other_files_in_a_model_folder_are_left_out(self, model_folder, tmp_path):
        good = (model_folder / "small.safetensors").read_bytes()
        header = json.dumps({"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
        for name, data in {
            "empty": b"",
            "short": good[:100],
            "long": b"\xff" * 8 + good[8:],
            "list": (2).to_bytes(8, "little") + b"[]",
            "foreign": len(header).to_bytes(8, "little") + header,
        }.items():
            (tmp_path / f"{name}.safetensors").write_bytes(data)
            with pytest.raises(flic.CheckpointError, match=f"{name}.safetensors"):
                library._entry(tmp_path / f"{name}.safetensors", False)
        (tmp_path / "good.safetensors").write_bytes(good)
        found = [e.name for e in library.entries(tmp_path) if not e.builtin]
        assert found == ["good"]

    def test_a_retired_model_says_where_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr(library, "WEIGHTS", tmp_path)
        (tmp_path / "retired.json").write_text('{"00112233aabbccdd": "in flic 0.1"}')
        with pytest.raises(flic.ModelNotFoundError, match="retired.*in flic 0.1"):
            library.find("00112233aabbccdd", tmp_path)

    def test_devices_that_are_not_there(self, model_folder):
        for device in ("abacus", "cuda:99"):
            with pytest.raises(flic.DeviceError, match=device):
                flic.load_model(model_folder / "small.safetensors", device)

    def test_a_renamed_fingerprint_does_not_pass(self, model_folder, file, tmp_path):
        """The header of a weight file is not trusted: the weights themselves are."""
        other = flic.FLIC(flic.load_model(model_folder / "small.safetensors").config)
        path = tmp_path / "liar.safetensors"
        checkpoint.save(other, path)
        own = checkpoint.fingerprint(other).encode()
        wanted = container.unpack(file).fingerprint.hex().encode()
        path.write_bytes(path.read_bytes().replace(own, wanted))
        assert library.find(wanted.decode(), tmp_path).name == "liar"
        with pytest.raises(flic.ModelMismatchError):
            flic.decode(file, path)

    def test_retired_json_is_right(self):
        retired = json.loads((library.WEIGHTS / "retired.json").read_text())
        assert all(len(bytes.fromhex(key)) == 8 and text for key, text in retired.items())


class TestMetrics:
    def test_psnr(self):
        a = np.full((4, 5, 3), 100, np.uint8)
        assert metrics.psnr(a, a) == math.inf
        assert metrics.psnr(a, a + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
        assert metrics.psnr(a, a + np.uint8(10)) == pytest.approx(28.1308, abs=1e-4)
        with pytest.raises(ValueError, match="uint8"):
            metrics.psnr(a, a.astype(np.float32))
        with pytest.raises(ValueError, match="one shape"):
            metrics.psnr(a, a[1:])

    def test_ms_ssim(self):
        a = np.array(Image.open(ASSETS / "parrot.png"))[:161, :170]
        assert metrics.ms_ssim(a, a) == pytest.approx(1)
        noisy = np.clip(a + RNG.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
        noisier = np.clip(a + RNG.normal(0, 60, a.shape), 0, 255).astype(np.uint8)
        assert 0.2 < metrics.ms_ssim(a, noisier) < metrics.ms_ssim(a, noisy) < 0.99
        assert metrics.ms_ssim(a[:160], a[:160]) is None

    def test_decibels_and_bits(self):
        assert metrics.in_db(0.99) == pytest.approx(20)
        assert metrics.in_db(1.0) == math.inf
        assert metrics.bits_per_pixel(100, 20, 10) == 4.0


def test_public_names():
    for name in flic.__all__:
        assert getattr(flic, name) is not None
    assert set(flic.__all__) <= set(dir(flic))
    assert flic.FrequencyAwareTransFormer is flic.FLIC
    with pytest.raises(AttributeError, match="nothing"):
        _ = flic.nothing


def test_import_is_cheap():
    code = "import sys, flic.format.container; print('torch' in sys.modules, 'PIL' in sys.modules)"
    assert in_python(code).split() == ["False", "False"]


def test_photographs_code_losslessly_with_little_overhead(photos):
    """Whole files, metadata aside: at most 1.01 x the ideal code length + 64 bytes."""
    model = flic.load_model()
    paths = sorted((photos / "eval").glob("*.png"))
    assert len(paths) == 12
    for path in paths:
        picture = images.read(path, strip=True)
        data = codec.Codec(model).encode_picture(picture)
        codec.Codec(model).verify(data)  # decoded latents equal the encoder's
        x = torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            likelihoods = model(x)["likelihoods"]
        ideal = sum(-float(p.double().log2().sum()) for p in likelihoods.values()) / 8
        assert len(data) <= 1.01 * ideal + 64, f"{path.name}: {len(data)} of {ideal:.0f}"
