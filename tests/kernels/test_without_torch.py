"""The coder and the exact engine on numpy arrays, where torch cannot be imported and where it is
there: the same bytes as with tensors."""

import textwrap

import numpy as np
import pytest
import torch
from exact_models import latents as model_latents
from exact_models import model
from processes import NO_TORCH, in_python
from rans_cases import draw, latents, small_tables

from flic_kernels import rans, rans_batch
from flic_kernels.exact import ExactEngine

REFUSE = NO_TORCH + "import numpy as np\n"


def without_torch(program, folder=None, given=None):
    """What a program prints and the arrays that it puts into `results`; it has those in `given`."""
    end = '\nassert "torch" not in sys.modules'
    if folder is None:
        return in_python(REFUSE + textwrap.dedent(program) + end), {}
    np.savez(folder / "given.npz", **given)
    begin = 'given, results = dict(np.load("given.npz")), {}\n'
    end += '\nnp.savez("results.npz", **results)'
    printed = in_python(REFUSE + begin + textwrap.dedent(program) + end, cwd=folder)
    return printed, dict(np.load(folder / "results.npz"))


def test_names_load_only_what_they_need():
    printed, _ = without_torch("""
        import flic_kernels
        assert "numpy.linalg" in sys.modules
        assert not any(name.startswith("flic_kernels.") for name in sys.modules)
        assert set(flic_kernels.__all__) <= set(dir(flic_kernels))
        for name in flic_kernels.__all__:
            try:
                getattr(flic_kernels, name)
            except ModuleNotFoundError as error:
                assert error.name == "torch"
            else:
                print(name)
        from flic_kernels import native
        assert native.isa() == native.available_isas()[-1]
        native.share_threads()
        assert not any("cuda" in name for name in sys.modules)
    """)
    assert printed.split() == ["exact", "native", "rans", "rans_batch"]


def test_all_names_are_those_of_the_operations():
    import flic_kernels

    names = in_python("import flic_kernels; print(*flic_kernels.__all__)").split()
    modules = ["exact", "native", "rans", "rans_batch"]
    assert names == [*flic_kernels.ops.__all__, "accelerate", "restore", *modules]
    for name in names:
        assert getattr(flic_kernels, name) is getattr(flic_kernels, name)


@pytest.mark.parametrize("first", ["acceleration", "ops.gdn", "cpu.gdn", "tca"])
def test_functions_are_not_hidden_by_the_modules_of_their_names(first):
    in_python(f"""
import flic_kernels.{first}
for name in ("accelerate", "gdn"):
    assert callable(getattr(flic_kernels, name)), name
""")


RANS = """
from flic_kernels import rans, rans_batch

tables = rans.gaussian_tables()
results["fingerprint"] = np.array(tables.fingerprint())
y, means, scales = given["y"], given["means"], given["scales"]
indexes, centers = rans.gaussian_indexes(means[::2], scales[::2], tables)
results["indexes"], results["centers"] = indexes, centers
symbols = y[::2] - centers
few = rans.Tables.from_pmfs([np.array([0.5, 0.25])], [-1])
nothing = np.zeros((3, 0), np.int32)
for symbol_type in ("int8", "int16", "int32"):
    for index_type in ("int32", "uint16"):
        s = symbols.clip(-128, 127).astype(symbol_type).reshape(-1, 10)
        i = indexes.astype(index_type).reshape(-1, 10)
        encoder = rans.Encoder()
        encoder.push(s.T, i.T, tables)
        encoder.push(nothing, nothing, tables)
        encoder.push(s[0, 0, ...], np.zeros((), index_type), few)
        data = encoder.finish()
        results[f"stream.{symbol_type}.{index_type}"] = np.frombuffer(data, np.uint8)
        decoder = rans.Decoder(data)
        pulled = [decoder.pull(i.T, tables), decoder.pull(nothing, tables)]
        pulled.append(decoder.pull(np.zeros((), index_type), few))
        decoder.close()
        for a, b in zip(pulled, (s.T, nothing, s[0, 0, ...])):
            assert type(a) is np.ndarray and a.dtype == np.int32 and a.shape == b.shape
            assert np.array_equal(a, b)
data = rans.encode(symbols, indexes, tables)
assert np.array_equal(rans.decode(data, indexes, tables), symbols)
results["bits"] = np.array(tables.bits(symbols, indexes))
results["stream"] = np.frombuffer(data, np.uint8)

encoder = rans_batch.BatchEncoder(4)
encoder.push(symbols.reshape(4, -1), indexes.reshape(4, -1), tables)
streams = encoder.finish()
for picture, stream in enumerate(streams):
    results[f"batch.{picture}"] = np.frombuffer(stream, np.uint8)
decoder = rans_batch.BatchDecoder(streams)
pulled = decoder.pull(indexes.reshape(4, -1), tables)
decoder.close()
assert type(pulled) is np.ndarray and np.array_equal(pulled, symbols.reshape(4, -1))

def refused(kind, words, function, *arguments):
    try:
        function(*arguments)
    except kind as error:
        assert words in str(error), error
    else:
        raise SystemExit(f"{words} was not refused")

refused(TypeError, "int64", rans.encode, symbols.astype(np.int64), indexes, tables)
refused(TypeError, "float64", rans.gaussian_indexes, means.astype(float), scales, tables)
refused(TypeError, "not list", rans.decode, data, [0, 1], tables)
refused(TypeError, "not >i4", rans.encode, symbols.astype(">i4"), indexes, tables)
refused(ValueError, "shape", rans.encode, symbols[1:], indexes, tables)
refused(ValueError, "NaN", rans.gaussian_indexes, means * np.float32("nan"), scales, tables)
refused(IndexError, "index", rans.encode, symbols, indexes - 2000, tables)
refused(rans.CorruptStream, "", rans.decode, data[:-1], indexes, tables)
refused(ModuleNotFoundError, "torch", rans.Decoder, data, "cuda")
"""


def test_the_coder_gives_the_same_bytes(tmp_path):
    y, means, scales = latents(8000, 4)
    given = {"y": y.numpy(), "means": means.numpy(), "scales": scales.numpy()}
    _, results = without_torch(RANS, tmp_path, given)
    tables = rans.gaussian_tables()
    indexes, centers = rans.gaussian_indexes(means[::2], scales[::2], tables)
    symbols = y[::2] - centers
    few = rans.Tables.from_pmfs([np.array([0.5, 0.25])], [-1])
    assert results.pop("fingerprint") == tables.fingerprint()
    assert results.pop("bits") == tables.bits(symbols, indexes)
    assert np.array_equal(results.pop("indexes"), indexes)
    assert np.array_equal(results.pop("centers"), centers)
    encoder = rans_batch.BatchEncoder(4)
    encoder.push(symbols.reshape(4, -1), indexes.reshape(4, -1), tables)
    for picture, stream in enumerate(encoder.finish()):
        assert results.pop(f"batch.{picture}").tobytes() == stream
    assert results.pop("stream").tobytes() == rans.encode(symbols, indexes, tables)
    encoder = rans.Encoder()
    clipped, nothing = symbols.clamp(-128, 127).reshape(-1, 10), torch.zeros(3, 0).int()
    encoder.push(clipped.T, indexes.reshape(-1, 10).T, tables)
    encoder.push(nothing, nothing, tables)
    encoder.push(clipped[0, 0], torch.zeros((), dtype=torch.int32), few)
    expected = encoder.finish()
    assert len(results) == 6
    for name, stream in results.items():
        assert stream.tobytes() == expected, name


EXACT = """
from flic_kernels import native
from flic_kernels.exact import ExactEngine, apply_function

z, y = given.pop("z"), given.pop("y")
for isa in native.available_isas():
    engine = ExactEngine(given, isa=isa, threads=2)
    results[f"fingerprint.{isa}"] = np.array(engine.fingerprint)
    means, scales = engine.hyper(z)
    results[f"means.{isa}"], results[f"scales.{isa}"] = means, scales
    for step in (1.0, 0.7):
        slices = list(engine.slices_of(means[0], scales[0], y[0], step))
        assert all(type(part) is np.ndarray for parts in slices for part in parts)
        results[f"slices.{isa}.{step}"] = np.array(slices)
    picture = engine.open(z[0].astype(np.float64))
    results[f"open.{isa}"] = np.array(picture.next_slice())
    results[f"hidden.{isa}"] = picture.hidden()
    results[f"gelu.{isa}"] = apply_function("gelu", means[0, 0, :3, :7], isa)
try:
    ExactEngine(given | {"tca.x": np.zeros(1)})
except ValueError as error:
    assert "tca.x is float64" in str(error)
try:
    ExactEngine(given, isa="cuda")
except ImportError:  # of torch, or of the library where that is not built
    pass
"""


def test_the_exact_engine_gives_the_same_bits(tmp_path):
    net = model("narrow")
    z, y = model_latents(net.config, 16, 8)
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    _, results = without_torch(EXACT, tmp_path, weights | {"z": z.numpy(), "y": y.numpy()})
    engine = ExactEngine(net.state_dict(), threads=1)
    means, scales = engine.hyper(z)
    picture = engine.open(z[0])
    expected = {
        "fingerprint": np.array(engine.fingerprint),
        "means": means,
        "scales": scales,
        "open": np.array([part.numpy() for part in picture.next_slice()]),
        "hidden": picture.hidden(),
    }
    for step in (1.0, 0.7):
        slices = engine.slices_of(means[0], scales[0], y[0], step)
        expected[f"slices.{step}"] = np.array([[p.numpy() for p in parts] for parts in slices])
    assert len(results) == 8 * len({name.split(".")[1] for name in results})
    for name, value in results.items():
        what, _, rest = name.partition(".")
        what += "." + rest.partition(".")[2] if what == "slices" else ""
        if what != "gelu":
            assert value.tobytes() == np.asarray(expected[what]).tobytes(), name


def test_each_kind_gives_its_own_where_torch_is():
    tables = small_tables()
    tensors = draw(tables, 300, 5)
    arrays = [tensor.numpy() for tensor in tensors]
    data = rans.encode(*tensors, tables)
    assert rans.encode(*arrays, tables) == data == rans.encode(tensors[0], arrays[1], tables)
    for symbols, indexes in (tensors, arrays):
        decoded = rans.decode(data, indexes, tables)
        assert type(decoded) is type(symbols) and decoded.tolist() == symbols.tolist()
    ones = torch.ones(2, 3)
    for x in (ones, ones.numpy()):
        assert all(
            type(part) is type(x) for part in rans.gaussian_indexes(x, x, rans.gaussian_tables())
        )
    misaligned = np.frombuffer(b"\0" + arrays[0].tobytes(), np.int32, offset=1)
    assert rans.encode(misaligned, arrays[1], tables) == data
    net = model("narrow")
    z, _ = model_latents(net.config, 8, 8)
    engine = ExactEngine(net.state_dict(), threads=1)
    found = [engine.open(kind).next_slice() for kind in (z[0], z[0].numpy())]
    assert {type(part) for part in found[0]} == {torch.Tensor}
    assert {type(part) for part in found[1]} == {np.ndarray}
    for tensor, array in zip(*found, strict=True):
        assert tensor.numpy().tobytes() == array.tobytes()
