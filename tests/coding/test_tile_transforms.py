"""Large pictures in tiles: no seams, no rate, bounded memory, regions, damage."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from peak_memory import PeakMemory
from pictures import photograph
from PIL import Image

import flic
from flic.codec.codec import Codec
from flic.coding import entropy, limits, model_engine, padding, tile_transforms
from flic.format import container
from flic.format.tile_grid import Grid, Margins, Tile, input_box, latent_box
from flic.model import network
from flic.pictures import images, metrics
from flic_kernels.exact import ExactEngine, ExactPicture

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def codec(small_model) -> Codec:
    return Codec(small_model)


@pytest.fixture(scope="module")
def file(codec) -> bytes:
    """3 x 2 tiles of 128 pixels, the last ones partly padding."""
    return codec.encode(photograph(300, 200), tile=128)


@pytest.fixture(scope="module")
def parrot():
    """A photograph by a built-in model: its pixels; bytes of the file and pixels, whole and in
    2 x 2 tiles."""
    codec = Codec(flic.load_model("tiny"))
    picture = images.read(photograph(384, 384))
    out = [picture.pixels]
    for tile in ("none", 256):
        data = codec.encode_picture(picture, tile=tile)
        out += [len(data), codec.decode_picture(data).pixels]
    return out


def test_rate_and_quality(parrot):
    """Without margins in g_a and g_s the band lost 3 dB and more, without those in T-CA the rate
    grew by 10 %."""
    original, whole_bytes, whole, tiled_bytes, tiled = parrot
    assert tiled_bytes < 1.03 * whole_bytes
    assert metrics.psnr(original, tiled) > metrics.psnr(original, whole) - 0.1
    band = np.s_[256 - 8 : 256 + 8]
    for part in (np.s_[band, :], np.s_[:, band]):
        near = metrics.psnr(original[part], tiled[part])
        assert near > metrics.psnr(original[part], whole[part]) - 0.2


def test_no_steps_where_tiles_meet(parrot):
    """The error's step over a seam is the whole picture's, and the difference's its neighbours'."""
    original, _, whole, _, tiled = (np.asarray(part, np.float64) for part in parrot)

    def step(error, at):
        rows, columns = error[at] - error[at - 1], error[:, at] - error[:, at - 1]
        return np.sqrt((rows**2).mean() + (columns**2).mean())

    assert step(tiled - original, 256) < 1.05 * step(whole - original, 256)
    difference = tiled - whole
    elsewhere = [step(difference, at) for at in range(192, 320) if at != 256]
    assert step(difference, 256) < 1.5 * np.mean(elsewhere)


def test_a_whole_picture_is_what_it_was(small_model):
    """One tile has no margins: the transforms as they stand, bit for bit."""
    x = torch.rand(2, 3, 130, 200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = small_model.g_a(network.pad(x))
        z = small_model.h_a(y) - small_model.z_medians()
        y_hat = torch.round(y) + 0.25
        x_hat = small_model.g_s(y_hat)[:, :, :130, :200].clamp(0, 1)
    latents = small_model.analyze(x)
    assert torch.equal(latents.y, torch.round(y).int())
    assert torch.equal(latents.z, torch.round(z).int())
    assert torch.equal(small_model.synthesize(y_hat, (130, 200)), x_hat)


def test_round_trip(codec, file):
    """Integers as the encoder had them, pixels from each tile's own transform."""
    pixels = photograph(300, 200)
    fields = container.unpack(file)
    assert (fields.version, fields.tile, len(fields.streams)) == (2, 128, 6)
    mean = pixels.mean((0, 1), dtype=np.float64) / 255
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    x = network.pad(x, mean=torch.from_numpy(mean).float()[None, :, None, None])
    y_hat = torch.empty(1, 16, 16, 24)
    for tile, stream in zip(fields.grid, fields.streams, strict=True):
        rows, columns = input_box(tile).slices(tile.bounds)
        latents = tile_transforms.analyze(codec.model, x[:, :, rows, columns], tile).at()
        size = (tile.core.height, tile.core.width)
        decoded, part = entropy.decode(codec.model, [stream], size, margins=tile.margins)
        assert torch.equal(decoded.y, latents.y) and torch.equal(decoded.z, latents.z)
        y_hat[(..., *tile.core.slices(tile.bounds, 16))] = part
    expected = np.empty((256, 384, 3), np.uint8)
    for tile in fields.grid:
        around = y_hat[(..., *latent_box(tile).slices(tile.bounds, 16))]
        x_hat = tile_transforms.synthesize(codec.model, around.contiguous(), tile)[0]
        x_hat = (x_hat * 255).round().to(torch.uint8).permute(1, 2, 0)
        expected[tile.core.slices(tile.bounds)] = x_hat.numpy()
    assert np.array_equal(codec.decode_picture(file).pixels, expected[:200, :300])


def test_tiles_are_padded_as_the_whole_picture(codec):
    pixels = photograph(200, 300)
    whole = network.pad(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    for tile in Grid((300, 200), 128):
        box = input_box(tile)
        rows, columns = box.slices(tile.bounds)
        part = pixels[box.top : box.bottom, box.left : box.right]
        x = padding.pad(part, (box.height, box.width), padding.mean_colour(pixels))
        assert torch.allclose(
            torch.from_numpy(x).permute(2, 0, 1)[None], whole[:, :, rows, columns], atol=1e-6
        )


def test_margins_repeat_the_border(small_model, monkeypatch):
    """What the networks see around a tile; encoder and decoder alike."""
    latents = small_model.analyze(torch.rand(1, 3, 128, 256))
    margins = Margins(64, 128, 64, 0)
    seen = []
    for owner, name in ((ExactEngine, "open"), (ExactPicture, "next_slice")):
        monkeypatch.setattr(owner, name, spy(getattr(owner, name), seen))
    (stream,) = entropy.encode(small_model, latents, margins=margins)
    z_hat = latents.z + small_model.z_medians()
    edge = torch.nn.functional.pad(z_hat, (2, 0, 1, 1), mode="replicate")
    assert np.array_equal(seen[0], edge[0])
    first = latents.y[:, : small_model.config.slice_channels].float()
    edge = torch.nn.functional.pad(first, (8, 0, 4, 4), mode="replicate")
    assert seen[1] is None and np.array_equal(seen[2], edge[0])
    decoded, _ = entropy.decode(small_model, [stream], (128, 256), margins=margins)
    assert torch.equal(decoded.y, latents.y) and torch.equal(decoded.z, latents.z)
    with pytest.raises(flic.StreamMismatch):
        entropy.decode(small_model, [stream], (128, 256))


def spy(method, seen: list):
    """The method, whose first argument is appended to `seen`."""

    def called(self, argument=None, *others):
        seen.append(argument)
        return method(self, argument, *others)

    return called


CROPS = [(0, 0, 300, 200), (5, 7, 20, 30), (127, 127, 2, 2), (299, 199, 1, 1), (0, 190, 300, 1)]


@pytest.fixture(scope="module")
def decoded(codec, file) -> list[tuple[bytes, np.ndarray]]:
    """Files with and without tiles, and their pixels."""
    files = (file, codec.encode(photograph(300, 200)))
    return [(data, codec.decode_picture(data).pixels) for data in files]


@pytest.mark.parametrize("crop", CROPS)
def test_a_region_is_that_of_the_whole_picture(codec, decoded, crop):
    x, y, width, height = crop
    for data, whole in decoded:
        part = codec.decode_picture(data, crop=crop).pixels
        assert np.array_equal(part, whole[y : y + height, x : x + width])


def test_a_region_takes_only_the_tiles_that_it_needs(codec, monkeypatch):
    """A broken stream far away does not matter, a neighbour's does."""
    fields = container.unpack(codec.encode(photograph(512, 100), tile=128))
    broken = dataclasses.replace(fields, streams=(*fields.streams[:2], b"\0", b"\0"))
    data = container.pack(broken)
    assert codec.decode(data, crop=(10, 10, 50, 50)).size == (50, 50)
    for crop in ((130, 10, 5, 5), (100, 0, 100, 100), None):
        with pytest.raises(flic.FormatError, match=r"tile 2 \(row 0, column 2\)"):
            codec.decode(data, crop=crop)


def test_regions_that_cannot_be(codec, file):
    for crop in ((0, 0, 301, 200), (300, 0, 1, 1), (-1, 0, 5, 5), (0, 0, 0, 5)):
        with pytest.raises(flic.OptionError, match="does not lie in the picture of 300x200"):
            codec.decode(file, crop=crop)


def test_weights_are_looked_at_once_not_for_every_tile(small_model, monkeypatch):
    looked, content = [], model_engine._content
    monkeypatch.setattr(model_engine, "_content", lambda m: looked.append(m) or content(m))
    codec = Codec(small_model)
    codec.decode(codec.encode(photograph(300, 200), tile=128))
    assert len(looked) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_gray_and_alpha(codec, mode):
    image = Image.fromarray(photograph(200, 140)).convert(mode)
    if mode == "RGBA":
        ramp = np.arange(200 * 140, dtype=np.uint32).reshape(140, 200) % 251
        image.putalpha(Image.fromarray(ramp.astype(np.uint8)))
    data = codec.encode(image, tile=128)
    whole = codec.decode(data)
    assert (whole.mode, whole.size) == (mode, (200, 140))
    if mode == "RGBA":
        assert np.array_equal(np.asarray(whole)[..., 3], ramp)
    part = codec.decode(data, crop=(100, 90, 60, 50))
    assert np.array_equal(np.asarray(part), np.asarray(whole)[90:140, 100:160])


def test_a_damaged_tile_is_named(codec, file):
    fields = container.unpack(file)
    for i, stream in enumerate(fields.streams):
        damaged = [*fields.streams]
        damaged[i] = stream[:-4] + bytes([stream[-4] ^ 0x20]) + stream[-3:]
        data = container.pack(dataclasses.replace(fields, streams=tuple(damaged)))
        name = rf"tile {i} \(row {i // 3}, column {i % 3}\): "
        for act in (codec.decode, codec.verify):
            with pytest.raises((flic.StreamMismatch, flic.FormatError), match=name):
                act(data)


def test_streams_of_other_tiles_do_not_pass(codec, file):
    """Tiles of different sizes or margins: a stream of one is no stream of another."""
    fields = container.unpack(file)
    for i, j in itertools.combinations(range(6), 2):
        streams = [*fields.streams]
        streams[i], streams[j] = streams[j], streams[i]
        data = container.pack(dataclasses.replace(fields, streams=tuple(streams)))
        with pytest.raises((flic.StreamMismatch, flic.FormatError), match=f"tile {i}"):
            codec.decode(data)


def test_progress(codec, file):
    seen = []
    codec.encode_picture(
        images.read(photograph(300, 200)), tile=128, progress=lambda *s: seen.append(s)
    )
    assert seen == [(i, 6) for i in range(1, 7)]
    seen.clear()
    codec.decode_picture(file, progress=lambda *s: seen.append(s))
    assert seen == [(i, 12) for i in range(1, 13)]


def test_public_functions(small_model):
    pixels = photograph(140, 100)
    data = flic.encode(pixels, small_model, tile=128)
    assert container.unpack(data).tile == 128
    assert container.unpack(flic.encode(pixels, small_model)).tile is None
    part = flic.decode(data, small_model, crop=(120, 50, 20, 10))
    assert np.array_equal(np.asarray(part), np.asarray(flic.decode(data, small_model))[50:60, 120:])
    with pytest.raises(flic.OptionError, match="multiple of 128 pixels, not 100"):
        flic.encode(pixels, small_model, tile=100)


def test_memory_does_not_grow_with_the_picture(codec):
    """Twice as many tiles take little more than one, where a whole picture takes twice as much."""
    peaks = []
    for width in (384, 768):
        pixels = np.tile(photograph(384, 384), (1, width // 384, 1))
        with PeakMemory() as encoding:
            data = codec.encode(pixels, tile=128)
        with PeakMemory() as decoding:
            codec.decode_picture(data)
        peaks.append((encoding.bytes, decoding.bytes))
    for small, large in zip(*peaks, strict=True):
        assert 2**20 < small and large < 1.25 * small + 2**21, peaks


def test_transforms_beyond_the_machines_memory(codec, monkeypatch):
    pixels = photograph(300, 200)
    tiled, whole = codec.encode(pixels, tile=128), codec.encode(pixels)
    needed = limits.transform_bytes(codec.model.config, (160, 160))
    monkeypatch.setattr(limits, "total_memory", lambda: needed)
    monkeypatch.setattr(limits, "coding_bytes", lambda *_: 0)
    with pytest.raises(flic.DeviceError, match="384x256 pixels at once .* tiles take less"):
        codec.encode(pixels)
    with pytest.raises(flic.DeviceError, match="384x256 pixels at once"):
        codec.decode(whole)
    with pytest.raises(flic.DeviceError, match="192x160 pixels at once"):
        codec.encode(pixels, tile=128)
    monkeypatch.setattr(limits, "total_memory", lambda: 3 * needed)
    assert codec.encode(pixels, tile=128) == tiled


def test_the_bytes_of_a_transform_are_a_lower_bound(codec):
    size = (512, 512)
    x = torch.rand(1, 3, *size)
    with PeakMemory() as peak:
        tile_transforms.analyze(codec.model, x, Tile.whole(size))
    assert 2**20 < limits.transform_bytes(codec.model.config, size) < peak.bytes
