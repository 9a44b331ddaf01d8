"""What a file claims is weighed before anything of that size is allocated."""

import time
import zlib

import numpy as np
import pytest
import torch
from cli_tools import fails
from golden_model import SMALL, small_model
from peak_memory import PeakMemory

import flic
from flic import Codec, Config
from flic.coding import entropy, limits, model_engine
from flic.coding.entropy import Latents
from flic.format import container, stream, tile_grid
from flic.format.container import Container
from flic_kernels import rans
from flic_kernels.rans.tables import TOTAL

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = [(8192, 8192), (65535, 1024), (1, 65535), (1024, 65535)]
MIB = 2**20


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(small_model())


def crafted(codec, width, height, payload: bytes) -> bytes:
    """A file whose checksums are right and whose stream is not."""
    coded = stream.pack(stream.Stream(0, (0,) * codec.model.config.slices, payload))
    return container.pack(Container(width, height, codec.fingerprint, (coded,)))


def test_the_measure_measures():
    with PeakMemory() as peak:
        np.ones(64 * MIB, np.uint8)
    assert 60 * MIB < peak.bytes < 80 * MIB


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("length", [0, 40, 150])
def test_a_stream_too_short_for_its_size(codec, width, height, length):
    data = crafted(codec, width, height, bytes([0, 1 + SMALL["slices"]]) + b"\x12" * length)
    model_engine.engine_of(codec.model)
    for act in (codec.decode, codec.verify):
        with PeakMemory() as peak, pytest.raises(flic.FlicError, match="stream|too large"):
            act(data)
        assert peak.bytes < 8 * MIB, f"{peak.bytes / MIB:.0f} MiB"


def test_a_tiny_file_that_claims_the_largest_picture(codec):
    """With a payload that begins as it should, the length alone speaks against it."""
    x = torch.rand(1, 3, 128, 128)
    [coded] = entropy.encode(codec.model, codec.model.analyze(x))
    file = container.pack(Container(8192, 8192, codec.fingerprint, (coded,)))
    with PeakMemory() as peak, pytest.raises(flic.FormatError, match="cannot hold.*8192x8192"):
        codec.decode(file)
    assert peak.bytes < 8 * MIB


def test_a_long_enough_stream_of_nonsense(codec):
    """Refused by the coder or the first slice's check, at the cost of a picture of that size."""
    payload = np.random.default_rng(0).bytes(4000)
    with pytest.raises(flic.StreamMismatch):
        codec.decode(crafted(codec, 1024, 1024, payload))


@pytest.mark.parametrize("length", [0, 1])
def test_thousands_of_tiles_without_content_are_refused_at_once(codec, length):
    """4,096 streams in 4 or 8 KB: a minute's work before it was refused."""
    head = b"FLIC\2\0" + codec.fingerprint + 2 * b"\x80\x40" + b"\1"
    body = head + bytes([length]) * 4096 + bytes(4096 * length)
    model_engine.engine_of(codec.model)
    for act in (codec.decode, codec.verify):
        start = time.process_time()
        with pytest.raises(flic.FormatError, match="tile 0"):
            act(body + zlib.crc32(body).to_bytes(4, "little"))
        assert time.process_time() - start < 1


def test_the_fingerprint_is_compared_before_anything_else(codec, monkeypatch):
    data = container.pack(Container(300, 9, bytes(8), (b"a",) * 3, alpha=b"no PNG", tile=128))
    monkeypatch.setattr(tile_grid.Grid, "meeting", None)
    for act in (codec.decode, codec.verify):
        with pytest.raises(flic.ModelMismatchError):
            act(data)


def test_a_picture_beyond_the_machines_memory(codec, monkeypatch):
    [coded] = entropy.encode(codec.model, codec.model.analyze(torch.rand(1, 3, 130, 400)))
    size = (16, 32)
    needed = limits.coding_bytes(codec.model.config, size)
    monkeypatch.setattr(limits, "total_memory", lambda: needed)
    entropy.decode(codec.model, [coded], (130, 400))
    monkeypatch.setattr(limits, "total_memory", lambda: needed - 1)
    with pytest.raises(flic.DeviceError, match="512x256 pixels at once take at least .* GiB"):
        entropy.decode(codec.model, [coded], (130, 400))
    with pytest.raises(flic.DeviceError, match="512x256"):
        codec.encode(np.zeros((130, 400, 3), np.uint8))
    monkeypatch.setattr(limits, "total_memory", lambda: None)
    entropy.decode(codec.model, [coded], (130, 400))


def test_the_command_says_so_in_one_line(codec, here, monkeypatch, known_models, small_model):
    needed = limits.coding_bytes(small_model.config, (512, 512))
    monkeypatch.setattr(limits, "total_memory", lambda: needed - 1)
    file = container.pack(Container(8192, 8192, Codec(small_model).fingerprint, (bytes(99),)))
    (here / "a.flic").write_bytes(file)
    said = f"a.flic: 8192x8192 pixels at once take at least {needed / 2**30:.1f} GiB"
    fails("decode", "a.flic", "a.png", match=said)
    assert not (here / "a.png").exists()


def test_the_largest_picture_of_the_published_model():
    """32 GiB: what T-CA keeps of 67 megapixels."""
    assert limits.coding_bytes(Config(), (512, 512)) == 2 * 12 * 4 * 256 * 512 * 512 * 4


def test_the_bytes_of_coding_are_a_lower_bound():
    model = small_model()
    config, side = model.config, 96
    shape = (1, config.latent, side, side)
    latents = Latents(
        torch.zeros(shape, dtype=torch.int32),
        torch.zeros((1, config.hyper, side // 4, side // 4), dtype=torch.int32),
    )
    [coded] = entropy.encode(model, latents)
    with PeakMemory() as peak:
        entropy.decode(model, [coded], (16 * side, 16 * side))
    bound = limits.coding_bytes(config, (side, side))
    assert bound > 4 * MIB
    assert bound <= peak.bytes <= 6 * bound + 16 * MIB


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes files of a made-up /proc and /sys/fs/cgroup: system("proc/meminfo", text)."""
    monkeypatch.setattr(limits, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(limits, "_CGROUP", tmp_path / "cgroup")

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return write


def test_memory_of_the_machine(system):
    machine = limits.total_memory()
    assert machine is None or 2**27 < machine < 2**50
    assert limits.available_memory() is None
    system("proc/self/cgroup", "0::/\n")
    system("cgroup/memory.max", "max\n")
    assert limits.total_memory() == machine
    system("cgroup/memory.max", f"{2**20}\n")
    assert limits.total_memory() == 2**20


@pytest.mark.parametrize("smallest", ["memory.max", "a/memory.max", "a/b/memory.max"])
def test_the_smallest_of_nested_groups_counts(system, smallest):
    system("proc/self/cgroup", "0::/a/b\n")
    for name in ("memory.max", "a/memory.max", "a/b/memory.max"):
        system(f"cgroup/{name}", "max\n")
        system(f"cgroup/{name}", f"{2**20 if name == smallest else 2**21}\n")
    assert limits.total_memory() == 2**20
    system("cgroup/other/memory.max", "1\n")  # not ours
    assert limits.total_memory() == 2**20


@pytest.mark.parametrize("folder", ["memory/a/b", "memory/a", "memory"])
def test_groups_of_version_1(system, folder):
    """In a container the path is the host's, of which only the root is mounted."""
    system("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/a/b\n0::/\n")
    system("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    machine = limits.total_memory()
    assert machine is None or machine < 2**60
    system(f"cgroup/{folder}/memory.limit_in_bytes", f"{2**20}\n")
    assert limits.total_memory() == 2**20


def test_what_is_available(system):
    """Caches can be given up, and pages can be swapped out: neither speaks against a picture."""
    system("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:  4000 kB\nSwapFree:  1000 kB\n")
    assert limits.available_memory() == 5000 << 10
    system("proc/self/cgroup", "4:memory:/a\n0::/b\n")
    system("cgroup/b/memory.max", f"{3000 << 10}\n")
    system("cgroup/b/memory.current", f"{2500 << 10}\n")
    assert limits.available_memory() == (500 + 1000) << 10
    cached = f"anon 7\nactive_file {300 << 10}\ninactive_file {200 << 10}\n"
    system("cgroup/b/memory.stat", cached)
    assert limits.available_memory() == (1000 + 1000) << 10
    system("cgroup/memory/a/memory.limit_in_bytes", f"{3000 << 10}\n")
    system("cgroup/memory/a/memory.usage_in_bytes", f"{2800 << 10}\n")
    system("cgroup/memory/a/memory.stat", f"active_file 1\ntotal_inactive_file {100 << 10}\n")
    assert limits.available_memory() == (300 + 1000) << 10


def test_a_picture_beyond_what_is_available(codec, monkeypatch):
    [coded] = entropy.encode(codec.model, codec.model.analyze(torch.rand(1, 3, 130, 400)))
    needed = limits.coding_bytes(codec.model.config, (16, 32))
    monkeypatch.setattr(limits, "available_memory", lambda: needed - 1)
    with pytest.raises(flic.DeviceError, match="GiB of memory .* are available"):
        entropy.decode(codec.model, [coded], (130, 400))
    monkeypatch.setattr(limits, "available_memory", lambda: needed)
    entropy.decode(codec.model, [coded], (130, 400))


@pytest.mark.parametrize("native", [False, True])
def test_a_region_where_the_whole_is_beyond_what_is_available(native, monkeypatch):
    """Of a tiled picture y_hat is held as a whole, which no tile's needs tell."""
    codec = flic.open_codec("small") if native else Codec(flic.load_model("small"))
    data = codec.encode(np.zeros((128, 8192, 3), np.uint8), tile=128)
    whole = 4 * 192 * (128 // 16) * (8192 // 16)
    assert limits.transform_bytes(codec.model.config, (128, 3 * 128)) < whole
    monkeypatch.setattr(limits, "available_memory", lambda: whole - 1)
    with pytest.raises(flic.DeviceError, match="8192x128 .* available: a region takes less"):
        codec.decode(data)
    assert codec.decode(data, crop=(300, 0, 200, 100)).size == (200, 100)
    monkeypatch.setattr(limits, "available_memory", lambda: whole)
    assert codec.decode(data).size == (8192, 128)


@pytest.mark.parametrize("lanes", [1, 2, 32])
@pytest.mark.parametrize("frequency", [1, 2**13, 2**14, 3 * 2**13, TOTAL - 300, TOTAL - 1])
def test_no_stream_is_half_as_long_as_its_symbols_cost(frequency, lanes):
    """The likeliest symbols in the likeliest order cannot get below the bound, by far."""
    tables = rans.Tables.from_pmfs([np.array([frequency])], [0])
    least = limits.least_bits(tables)
    count = 6_000_000 if frequency == TOTAL - 1 else 100_000
    zeros = torch.zeros(count, dtype=torch.int32)
    encoder = rans.Encoder(lanes=lanes, groups=1)
    encoder.push(zeros, zeros, tables)
    assert 8 * len(encoder.finish()) > 0.6 * count * least[0]
    escape = 8 - np.log2(1 - frequency / TOTAL)
    assert least[0] == pytest.approx(min(-np.log2(frequency / TOTAL), escape), rel=1e-9)


def test_least_bits_of_each_table():
    rows = [np.array([]), np.array([100, TOTAL - 200]), np.array([1])]
    least = limits.least_bits(rans.Tables.from_pmfs(rows, [0, 5, 9]))
    assert np.allclose(least, [8, -np.log2(1 - 200 / TOTAL), 8 - np.log2(1 - 1 / TOTAL)])
    assert 0 < limits.least_bits(rans.gaussian_tables()).min() < 1e-3


@pytest.mark.parametrize("value", [0, 1])
def test_the_shortest_streams_pass(value):
    """The likeliest integers, y's nearly free: the shortest stream that this model can write."""
    model = flic.FLIC(SMALL).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("tca.entropy_parameters_net.4"):
                parameter.zero_()
        model.tca.entropy_parameters_net[4].bias[0::3] = float(value)
    z = torch.zeros((1, SMALL["hyper"], 8, 8), dtype=torch.int32)
    tables = model_engine.engine_of(model).z_tables
    for channel in range(len(tables)):
        symbols = tables.frequencies[tables.first[channel] : tables.first[channel + 1] - 1]
        z[:, channel] = int(tables.minimum[channel]) + int(np.argmax(symbols))
    y = torch.full((1, SMALL["latent"], 32, 32), value, dtype=torch.int32)
    [coded] = entropy.encode(model, Latents(y, z))
    assert torch.equal(entropy.decode(model, [coded], (512, 512))[0].y, y)
    bits, least = 8 * len(coded), limits.least_bits(tables).sum() * 8 * 8
    assert least < bits < 1.2 * least  # so close that the bound could have been wrong
