"""A model's file read in C++ is what numpy makes of it; damaged ones are refused."""

import errno
import functools
import hashlib
import json
import os
import random
import struct
import subprocess
import zlib

import numpy as np
import pytest
import safetensors.torch
import torch
import weights_reference as weights
from native_builds import compiler, model_file_program
from sanitizers import FLAGS

from flic.model.library import WEIGHTS

COMPILER = compiler("g++", "c++", "clang++")
VARIANTS = {
    "vector": ["-O3", "-ffp-contract=off"],
    "plain": ["-O2", "-DFLIC_SCALAR_ONLY", "-DFLIC_NO_MMAP"],
    "sanitized": ["-O1", "-g1", *FLAGS["address"]],
}
FOUND = 99  # the sanitizers' exit status
ENVIRONMENT = os.environ | {
    f"{name}_OPTIONS": f"exitcode={FOUND}" for name in ("ASAN", "LSAN", "UBSAN")
}

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on the path")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    @functools.cache
    def build(variant):
        link = FLAGS["address"] if variant == "sanitized" else []
        folder = tmp_path_factory.mktemp(variant)
        return model_file_program(folder, VARIANTS[variant], (COMPILER,), link)

    return build


@pytest.fixture(scope="module", params=VARIANTS)
def program(request, built):
    return built(request.param)


@pytest.fixture(scope="module")
def sanitized(built):
    return built("sanitized")


def run(program, *arguments):
    command = [str(part) for part in (program, *arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


def printed(program, *arguments):
    done = run(program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(program, *arguments):
    """The one line that says why."""
    done = run(program, *arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines), done.stdout) == (1, 1, ""), done.stderr[:2000]
    assert lines[0].startswith("error: ")
    return lines[0]


def expected(path):
    arrays, metadata = weights.read(path)
    tensors = {}
    for name, values in arrays.items():
        crc32 = zlib.crc32(np.ascontiguousarray(values))
        tensors[name] = {"shape": list(values.shape), "crc32": crc32, "aligned": True}
    fingerprint = weights.fingerprint(arrays)
    return {"tensors": tensors, "config": metadata.get("config"), "fingerprint": fingerprint}


def of_header(header, data=bytes(16)):
    """A file with this header: what becomes JSON, or its bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), data_offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(data_offsets)} | more


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_built_in_models(program, name):
    path = WEIGHTS / f"{name}.safetensors"
    found = json.loads(printed(program, "read", path))
    assert found == expected(path)
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    assert found["fingerprint"] == header["__metadata__"]["fingerprint"]
    assert any(name.endswith("gdn.beta_reparam.lower_bound.bound") for name in found["tensors"])


def special_bits(exponent_bits, mantissa_bits, kind):
    """Zeros, subnormal numbers, the smallest, largest and others, infinity, quiet NaN."""
    infinity = ((1 << exponent_bits) - 1) << mantissa_bits
    positive = [0, 1, 2, 3, (1 << mantissa_bits) - 1, 1 << mantissa_bits, infinity // 2,
                infinity - 1, infinity, infinity | 1 << (mantissa_bits - 1),
                infinity | (1 << mantissa_bits) - 1]  # fmt: skip
    sign = 1 << (exponent_bits + mantissa_bits)
    return np.array(positive + [bits | sign for bits in positive], kind)


SPECIAL = {
    "F32": special_bits(8, 23, np.uint32),
    "F16": special_bits(5, 10, np.uint16),
    "BF16": special_bits(8, 7, np.uint16),
}


def test_files_that_safetensors_writes(program, tmp_path):
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {}
    for name, bits in SPECIAL.items():
        signed = torch.from_numpy(bits.view(f"i{bits.itemsize}").copy())
        tensors[f"{name}.gdn.beta"] = signed.view(kinds[name])
        tensors[f"{name}.gamma"] = signed.clone().view(kinds[name]).reshape(2, 1, 11)
        tensors[f"{name}.empty"] = torch.empty(3, 0, 2, dtype=kinds[name])
        tensors[f"{name}.scalar.gdn.gamma"] = torch.tensor(-1.5, dtype=kinds[name])
    tensors["a.relative_position_index"] = torch.arange(9)  # int64, and derived
    tensors["gaussian_conditional.scale_table"] = torch.ones(4)
    tensors["entropy_bottleneck.target"] = torch.ones(4)
    tensors["entropy_bottleneck.targets"] = torch.ones(4)
    tensors["b.gdn.beta_reparam.pedestal"] = torch.full((1,), 7.0)
    tensors['größer 漢字 \U0001f600 "\\\n\t'] = torch.ones(2)
    tensors["\uffff"], tensors["\U00010000"] = torch.ones(1), torch.ones(2)
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(tensors, path, {"config": '{"ü": "\\n"}', "format": "flic"})
    found = expected(path)
    assert len(found["tensors"]) == 12 + 4 + 2 * 6  # with the constants, without what is derived
    assert json.loads(printed(program, "read", path)) == found


def test_every_alignment(program, tmp_path):
    path = tmp_path / "a.safetensors"
    header = {"one": entry("F16", (1,), (0, 2))}
    data, end = b"\x01\x80", 2
    for name, bits in SPECIAL.items():
        header[name] = entry(name, bits.shape, (end, end + bits.nbytes))
        data, end = data + bits.tobytes(), end + bits.nbytes
    seen = set()
    for spaces in range(8):
        text = json.dumps(header).encode() + b" " * spaces
        path.write_bytes(of_header(text, data))
        seen.add((len(text) + 8) % 8)
        found = expected(path)
        assert json.loads(printed(program, "read", path)) == found
        assert json.loads(printed(program, "memory", path, spaces)) == found
        assert found["config"] is None
    assert len(seen) == 8


def test_every_float16(program, tmp_path):
    halves = np.arange(1 << 16, dtype=np.uint16)
    bits = halves.view(np.float16).astype(np.float32).view(np.uint32)
    # numpy's own NaNs depend on the processor.
    nan = np.isnan(halves.view(np.float16))
    wide = halves.astype(np.uint32)
    bits = np.where(nan, (wide & 0x8000) << 16 | 0x7F800000 | (wide & 0x3FF) << 13, bits)
    path = tmp_path / "a.safetensors"
    path.write_bytes(of_header({"a": entry("F16", (1 << 16,), (0, 1 << 17))}, halves.tobytes()))
    found = json.loads(printed(program, "read", path))["tensors"]["a"]["crc32"]
    assert found == zlib.crc32(bits.astype("<u4"))


@pytest.mark.parametrize("piece", [0, 1, 7, 64, 65, 1 << 22])
def test_hashes(program, tmp_path, piece):
    data = random.Random(1).randbytes(2_000_003)
    (tmp_path / "data").write_bytes(data)
    sizes = [*range(201), 4096, 65_537, len(data)]
    lines = printed(program, "hashes", tmp_path / "data", piece, *sizes).splitlines()
    parts = [data[:size] for size in sizes]
    assert lines == [f"{hashlib.sha256(part).hexdigest()} {zlib.crc32(part)}" for part in parts]


NESTED = b"[" * 32 + b"1" + b"]" * 32
JSON = [
    b"null", b" true ", b"\t\r\nfalse", b"0", b"-0", b"-12", b"0.5", b"-1.25e-3", b"1E+2", b"1e2",
    b"123456789012345", b"1234567890123456", b"9007199254740993", b"18446744073709551616",
    b"84859062667233142256700",
    b"0.1", b"3.4028234663852886e38", b"5e-324", b"1.7976931348623157e308", b"2.5e-7",
    b'""', b'"abc"', rb'"\"\\\/\b\f\n\r\t"', rb'"\u0000\u0041\u00e9\u20AC\uFFFF"',
    rb'"\ud83d\ude00\uD800\uDC00\udbff\udfff"', '"é €\u07ff\u0800\ud7ff\ue000"'.encode(),
    '"\U0001f600\U00010000\U0010ffff\x7f"'.encode(),
    b"[]", b"[ ]", b"[1,2 , 3]", b"{}", b"{ }", b'{"b":1,"a":[{"c":null}], "":"x"}', NESTED,
    b'{"a":' * 32 + b"1" + b"}" * 32, b"[" + b"0," * 1000 + b"0]",
]  # fmt: skip


@pytest.mark.parametrize("text", JSON, ids=range(len(JSON)))
def test_json(sanitized, tmp_path, text):
    def loads(text):
        return json.loads(text, object_pairs_hook=tuple, parse_int=float)

    (tmp_path / "text").write_bytes(text)
    assert loads(printed(sanitized, "json", tmp_path / "text")) == loads(text)


NOT_JSON = [
    b"", b" ", b"nul", b"nulll", b"True", b"tru e", b"01", b"-", b"+1", b"1.", b".5", b"1e", b"1e+",
    b"-a", b"0x1", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1 2", b"{} {}", b"[1,]", b"[,1]",
    b"[1 2]", b"[", b"[1", b"[1,", b"]", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,',
    b'{"a":1,}', b'{"a" 1}', b"{a:1}", b"{'a':1}", b"{1:1}", b'{"a":1 "b":2}', b'{"a":1,"a":2}',
    rb'{"a":1,"b":2,"\u0061":3}', b"}", b'"', b'"a', b'"\\', b'"\\"', b'"a\nb"', b'"\x00"',
    b'"\x1f"', rb'"\x"', rb'"\u123"', rb'"\u12', rb'"\u 123"', rb'"\u12g4"', rb'"\ud800"',
    rb'"\ud800\n"', rb'"\ud800\u0041"', rb'"\ud800\ud800"', rb'"\udc00"', rb'"\udfff\ud800"',
    b'"\x80"', b'"\xbf"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xc3a"', b'"\xc3"', b'"\xc3',
    b'"\xe0\x9f\xbf"', b'"\xe2\x82"', b'"\xe2\x82a"', b'"\xed\xa0\x80"', b'"\xf0\x8f\xbf\xbf"',
    b'"\xf4\x90\x80\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xff"', b"\xef\xbb\xbf{}", b"1\x00",
    b"[" + NESTED + b"]", b"[" * 100_000, b'{"a":' * 100_000, b"[" + b"0," * (1 << 20) + b"0]",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_JSON, ids=range(len(NOT_JSON)))
def test_refused_json(sanitized, tmp_path, text):
    (tmp_path / "text").write_bytes(text)
    assert refused(sanitized, "json", tmp_path / "text").startswith("error: bad JSON at byte ")


def without(key):
    return {"a": {name: value for name, value in entry().items() if name != key}}


def changed(**changes):
    return {"a": entry() | changes}


SIZE, OUTSIDE, NUMBERS = "not the size that it claims", "outside the file", "whole numbers"
LISTS, LONGER, DTYPE, DAMAGED_JSON = "wants lists", "header is longer", "is of type", "bad JSON"
DAMAGED = {
    "empty file": (b"", "too short"),
    "seven bytes": (bytes(7), "too short"),
    "no header": (bytes(8), DAMAGED_JSON),
    "header longer by one": (struct.pack("<Q", 3) + b"{}", LONGER),
    "header of 2^64 - 1": (b"\xff" * 8 + b"{}" + bytes(32), LONGER),
    "header of 2^64 - 8": (struct.pack("<Q", 2**64 - 8) + b"{}" + bytes(32), LONGER),
    "header of 2^63": (struct.pack("<Q", 2**63) + b"{}" + bytes(32), LONGER),
    "header over 64 MiB": (of_header(b"{}".ljust((1 << 26) + 1)), LONGER),
    "header a list": (of_header([]), "no object"),
    "header a text": (of_header("a"), "no object"),
    "header not JSON": (of_header(b"\x80\x02}q\x00."), DAMAGED_JSON),
    "header cut": (of_header(json.dumps(changed()).encode()[:-1]), DAMAGED_JSON),
    "header and more": (of_header(json.dumps(changed()).encode() + b"x"), DAMAGED_JSON),
    "header twice": (of_header(json.dumps(changed()).encode() * 2), DAMAGED_JSON),
    "deep header": (of_header(b'{"a":' + b"[" * 1_000_000), "deeper"),
    "deep entry": (of_header({"a": entry(x=json.loads(NESTED))}), "deeper"),
    "name twice": (of_header(b'{"a":1,"a":2}'), "twice"),
    "dtype twice": (
        of_header(json.dumps(changed()).encode().replace(b'{"d', b'{"dtype":"F32","d')), "twice",
    ),
    "metadata twice": (of_header(b'{"__metadata__":{},"__metadata__":{}}'), "twice"),
    "metadata's key twice": (of_header(b'{"__metadata__":{"a":"","a":""}}'), "twice"),
    "metadata a list": (of_header({"__metadata__": []}), "metadata is no object"),
    "metadata null": (of_header({"__metadata__": None}), "metadata is no object"),
    "metadata a number": (of_header({"__metadata__": {"config": 1}}), "config, which is no text"),
    "metadata an object": (of_header({"__metadata__": {"config": {}}}), "which is no text"),
    "entry null": (of_header({"a": None}), "has no dtype"),
    "entry a list": (of_header({"a": [1]}), "has no dtype"),
    "no dtype": (of_header(without("dtype")), "has no dtype"),
    "no shape": (of_header(without("shape")), LISTS),
    "no offsets": (of_header(without("data_offsets")), LISTS),
    "dtype a number": (of_header(changed(dtype=32)), "has no dtype"),
    "dtype unknown": (of_header(changed(dtype="F64", shape=[1])), DTYPE),
    "dtype in small letters": (of_header(changed(dtype="f32")), DTYPE),
    "dtype of whole numbers": (of_header(changed(dtype="I32")), DTYPE),
    "dtype with more": (of_header(changed(dtype="F32\x00")), DTYPE),
    "shape a number": (of_header(changed(shape=2)), LISTS),
    "shape a text": (of_header(changed(shape="2")), LISTS),
    "shape negative": (of_header(changed(shape=[-1, -2])), NUMBERS),
    "shape a fraction": (of_header(changed(shape=[0.5, 4])), NUMBERS),
    "shape of texts": (of_header(changed(shape=["2"])), NUMBERS),
    "shape of booleans": (of_header(changed(shape=[2, True])), NUMBERS),
    "shape of null": (of_header(changed(shape=[2, None])), NUMBERS),
    "shape of 2^53": (of_header(changed(shape=[2**53, 0], data_offsets=[0, 0])), NUMBERS),
    "shape of 1e300": (of_header(changed(shape=[1e300])), NUMBERS),
    "shape of 2^64 values": (
        of_header(changed(shape=[2**32, 2**32], data_offsets=[0, 0])), "count",
    ),
    "shape of 2^64 + 2^32": (
        of_header(changed(shape=[2**32, 2**32 + 1], data_offsets=[0, 0])), "count",
    ),
    "bytes of 2^64 + 8": (of_header(changed(shape=[2, 2**31 + 1, 2**31])), SIZE),
    "shape of 2^62 + 2": (of_header(changed(shape=[2, 2**61 // 2**20, 2**20])), SIZE),
    "offsets negative": (of_header(changed(data_offsets=[-8, 0])), NUMBERS),
    "offsets reversed": (of_header(changed(data_offsets=[8, 0])), OUTSIDE),
    "offsets a fraction": (of_header(changed(data_offsets=[0.5, 8.5])), NUMBERS),
    "one offset": (of_header(changed(data_offsets=[8])), "two data_offsets"),
    "three offsets": (of_header(changed(data_offsets=[0, 8, 16])), "two data_offsets"),
    "offsets a number": (of_header(changed(data_offsets=8)), LISTS),
    "offsets one past the end": (of_header(changed(data_offsets=[9, 17])), OUTSIDE),
    "offsets far away": (of_header(changed(data_offsets=[2**52, 2**52 + 8])), OUTSIDE),
    "empty and far away": (
        of_header(changed(shape=[0], data_offsets=[2**52, 2**52])), OUTSIDE,
    ),
    "claims more": (of_header(changed(shape=[3])), SIZE),
    "claims less": (of_header(changed(shape=[1])), SIZE),
    "claims none": (of_header(changed(shape=[0])), SIZE),
    "values of five tensors": (of_header({f"{i}": entry() for i in range(5)}), "tensor 4 shares"),
    "scalar of two": (of_header(changed(shape=[])), SIZE),
    "float32 in seven bytes": (of_header(changed(shape=[1], data_offsets=[0, 7])), SIZE),
    "float16 in five bytes": (of_header({"a": entry("F16", (2,), (0, 5))}), SIZE),
    "float16 in four bytes each": (of_header({"a": entry("F16", (2,), (0, 8))}), SIZE),
    "second of two": (of_header({"a": entry(), "b": entry("I8", (8,))}), "tensor b is of type"),
    "name of two lines": (of_header({"a\nb\x1b": None}), r"tensor a?b? has"),
    "name of 100,000 letters": (of_header({"a" * 100_000: None}), "a... has no dtype"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(sanitized, tmp_path, name):
    data, why = DAMAGED[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    line = refused(sanitized, "read", path)
    assert why in line
    assert line.startswith(f"error: {path}: ")
    assert len(line) < len(str(path)) + 200
    assert refused(sanitized, "memory", path, 1) == line.replace(f"{path}: ", "")


ALLOWED = {
    "one tensor": changed(),
    "no tensors": {},
    "metadata alone": {"__metadata__": {"config": "x", "": "", "more": "\u0000"}},
    "overlapping": {"a": entry(), "b": entry(data_offsets=(4, 12)), "c": entry()},
    "up to the end": {"a": entry(data_offsets=(8, 16))},
    "empty at the end": {"a": entry(shape=(0, 5), data_offsets=(16, 16))},
    "empty shape": {"a": entry(shape=(), data_offsets=(4, 8))},
    "derived of any type": {"a.pedestal": entry("I64"), "gaussian_conditional.x": None},
    "more in an entry": {"a": entry(more=[1, {"x": None}])},
    "not sorted": {
        "b": entry(), "a.gdn.beta": entry(), "gdn.gamma": entry(), "a.xgdn.beta": entry(),
    },
    "no constants": {"gdn": entry(), "beta": entry(), "a.gdn.betas": entry(), "gdnx.beta": entry()},
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_unusual_files(sanitized, tmp_path, name):
    path = tmp_path / "a.safetensors"
    path.write_bytes(of_header(ALLOWED[name], struct.pack("<4f", 1, -2, 3e-40, 4)))
    assert json.loads(printed(sanitized, "read", path)) == expected(path)
    assert json.loads(printed(sanitized, "memory", path, 3)) == expected(path)


SMALL = of_header(
    {"__metadata__": {"config": "\u20ac"}, "a": entry(), "b": entry("F16", (4,), (8, 16))}
)


def test_truncated_files(sanitized, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(SMALL)
    assert json.loads(printed(sanitized, "memory", path, 0)) == expected(path)
    for size in range(len(SMALL)):
        path.write_bytes(SMALL[:size])
        refused(sanitized, "memory", path, 0)


def test_changed_bytes_do_no_harm(sanitized, tmp_path):
    path, chance, statuses = tmp_path / "a.safetensors", random.Random(1), set()
    for _ in range(200):
        data = bytearray(SMALL)
        for _ in range(chance.choice([1, 1, 2, 4])):
            data[chance.randrange(8, len(data))] = chance.choice(b'0129-[]{},:"\\ea\x00\xff ')
        path.write_bytes(data)
        done = run(sanitized, "memory", path, 0)
        statuses.add(done.returncode)
        assert len(done.stderr.splitlines()) == done.returncode, done.stderr[:2000]
    assert statuses == {0, 1}


def test_files_that_cannot_be_opened(program, tmp_path):
    missing = tmp_path / "missing"
    assert refused(program, "read", missing) == f"error: {missing}: {os.strerror(errno.ENOENT)}"
    assert refused(program, "read", tmp_path) == f"error: {tmp_path}: {os.strerror(errno.EISDIR)}"
    assert "too short" in refused(program, "read", os.devnull)
