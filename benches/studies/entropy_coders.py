"""The entropy coder against others: symbols a second and bytes, on simulated latents.

    python -m benches entropy_coders [--symbols N] [--rate BITS] [--repeats R]
        [--write FILE[:PART]] [--json FILE]

One thread. CompressAI is a dependency; constriction, torchac and range-coder are compared where
they are installed. Every result is checked by decoding before its time counts. Prints a table in
Markdown: million symbols a second, both as multiples of CompressAI's, bytes over ideal ones.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from benches.harness import rows, study
from benches.harness.environment import environment
from benches.harness.simulated_latents import simulate
from flic_kernels import native, rans, rans_batch


class Case:
    """One coder on the same symbols: encode() -> data, decode(data) -> symbols."""

    def __init__(self, name, symbols, encode, decode, size=len, device="cpu"):
        self.name, self.symbols, self.device = name, symbols, device
        self.encode, self.decode, self.size = encode, decode, size


def ours(data, tables):
    indexes, centers = rans.gaussian_indexes(data.means, data.scales, tables)
    symbols = data.y - centers

    def with_isa(isa, function):
        def call(*args):
            with native.use_isa(isa):
                return function(*args)

        return call

    for isa in native.available_isas():
        encode = with_isa(isa, lambda: rans.encode(symbols, indexes, tables))
        decode = with_isa(isa, lambda stream: rans.decode(stream, indexes, tables))
        yield Case(f"flic_kernels {isa}", symbols, encode, decode)
    if torch.cuda.is_available():
        for pictures in (1, 16, 256):
            yield on_cuda(symbols, indexes, tables, pictures)


def on_cuda(symbols, indexes, tables, pictures):
    many = symbols.cuda().expand(pictures, -1).contiguous()
    index = indexes.cuda().expand(pictures, -1).contiguous()

    def encode():
        encoder = rans_batch.BatchEncoder(pictures)
        encoder.push(many, index, tables)
        return encoder.finish()

    def decode(streams):
        decoder = rans_batch.BatchDecoder(streams, "cuda")
        result = decoder.pull(index, tables)
        decoder.close()
        return result

    name, size = f"flic_kernels CUDA x{pictures}", lambda streams: sum(map(len, streams))
    return Case(name, many, encode, decode, size, device="cuda")


def compressai(data, tables):
    """GaussianConditional on the same symbols: it codes round(y - center), without fractions."""
    from compressai.entropy_models import GaussianConditional

    levels = torch.exp(torch.linspace(np.log(0.11), np.log(256), 64)).tolist()
    model = GaussianConditional(levels)
    model.update()
    _, centers = rans.gaussian_indexes(data.means, data.scales, tables)
    y, centers = data.y.float()[None, None], centers.float()[None, None]
    indexes = model.build_indexes(data.scales[None, None])
    encode = partial(model.compress, y, indexes, centers)
    decode = partial(model.decompress, indexes=indexes, means=centers)
    yield Case("CompressAI", y, encode, decode, size=lambda strings: len(strings[0]))


def constriction(data, tables):
    import constriction

    y = data.y.numpy()
    means = data.means.double().numpy()
    scales = data.scales.double().clamp_min(0.01).numpy()
    model = constriction.stream.model.QuantizedGaussian(int(y.min()) - 1, int(y.max()) + 1)

    def encode():
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(y, model, means, scales)
        return coder.get_compressed()

    def decode(words):
        return constriction.stream.stack.AnsCoder(words).decode(model, means, scales)

    yield Case("constriction ANS", y, encode, decode, size=lambda words: 4 * len(words))


def cdf_of_each(data, count, low, high):
    """Cumulative probabilities [count, high - low + 2] of the symbols low .. high."""
    edges = torch.arange(low, high + 2) - 0.5
    scales = data.scales[:count, None].double().clamp_min(0.01)
    cdf = 0.5 * torch.erfc((data.means[:count, None] - edges) / scales / 2**0.5)
    cdf[:, 0], cdf[:, -1] = 0, 1
    return cdf


def torchac(data, tables):
    """Its interface wants every symbol's cumulative table as floats: a part of the symbols."""
    import torchac

    count = min(len(data.y), 1 << 15)
    y = data.y[:count]
    low = int(y.min())
    cdf = cdf_of_each(data, count, low, int(y.max())).float()
    symbols = (y - low).short()
    encode = partial(torchac.encode_float_cdf, cdf, symbols)
    decode = partial(torchac.decode_float_cdf, cdf)
    yield Case(f"torchac (first {count})", symbols, encode, decode)


def range_coder(data, tables):
    """A Python call a symbol, since every symbol has another table: a small part of them."""
    from range_coder import RangeDecoder, RangeEncoder

    count = min(len(data.y), 1 << 12)
    y = data.y[:count]
    low = int(y.min())
    cdf = cdf_of_each(data, count, low, int(y.max())).numpy()
    tables = [[int(p * 2**20) + k for k, p in enumerate(row)] for row in cdf]
    symbols = (y - low).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stream")

        def encode():
            coder = RangeEncoder(path)
            for symbol, table in zip(symbols, tables, strict=True):
                coder.encode([symbol], table)
            coder.close()
            return os.path.getsize(path)

        def decode(_):
            coder = RangeDecoder(path)
            result = [coder.decode(1, table)[0] for table in tables]
            coder.close()
            return result

        yield Case(f"range-coder (first {count})", symbols, encode, decode, size=lambda size: size)


def where_installed(coder, data, tables):
    """A coder's cases; none, and a line that says so, where its package is missing or broken."""
    try:
        cases = coder(data, tables)
        first = next(cases)
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        print(f"{coder.__name__} left out: {type(error).__name__}: {reason}", file=sys.stderr)
        return
    yield first
    yield from cases


OPTIONAL = (constriction, torchac, range_coder)


def timed(function, repeats, device):
    """Seconds of each call, after one to warm up."""
    wait, times = torch.cuda.synchronize if device == "cuda" else lambda: None, []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - start)
    return times[1:]


def measure(case, rate, ideal, repeats):
    """The rows of a coder: encoding, decoding."""
    stream = case.encode()
    decoded = torch.as_tensor(np.asarray(torch.as_tensor(case.decode(stream)).cpu()))
    expected = torch.as_tensor(np.asarray(torch.as_tensor(case.symbols).cpu()))
    if not torch.equal(decoded.double().flatten(), expected.double().flatten()):
        raise SystemExit(f"{case.name}: what it decodes is not what it encoded")
    count = expected.numel()
    calls = {"encode": case.encode, "decode": lambda: case.decode(stream)}
    for mode, call in calls.items():
        name = f"{rate:g} bits a symbol"
        row = rows.Row("rans", name, case.name, mode, "int32", rows.OK, **environment(case.device))
        row.shape = [count]
        row.timed(timed(call, repeats, case.device), None)
        row.values = {
            "symbols_per_second": count / row.p50,
            "bits_per_symbol": rate,
            "bytes": case.size(stream),
            "ideal_bytes": ideal,
        }
        yield row


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__)
    parser.add_argument("--symbols", type=int, default=491_520)
    parser.add_argument("--rate", type=float, action="append", help="bits a symbol")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tables, results, lines = rans.gaussian_tables(), [], {}
    head = [f"{args.symbols} symbols"]
    for rate in args.rate or [0.25, 1.0]:
        data = simulate(args.symbols, rate)
        head += [f"{rate:g} bits: encode", "decode", "of CompressAI", "of the ideal bytes"]
        others = (where_installed(coder, data, tables) for coder in OPTIONAL)
        compared = None
        for cases in (compressai(data, tables), ours(data, tables), *others):
            for case in cases:
                copies = torch.as_tensor(case.symbols).numel() / len(data.y)
                ideal = data.ideal / 8 * copies if copies >= 1 else None
                slow = case.name.startswith(("CompressAI", "constriction", "torchac", "range"))
                repeats = max(3, args.repeats // 4) if slow else args.repeats
                found = list(measure(case, rate, ideal, repeats))
                speeds = [row.values["symbols_per_second"] for row in found]
                compared = compared or speeds
                cells = [f"{speed / 1e6:.1f}" for speed in speeds]
                times = (f"{a / b:.1f}x" for a, b in zip(speeds, compared, strict=True))
                cells.append(" / ".join(times))
                cells.append(f"{found[0].values['bytes'] / ideal:.4f}" if ideal else "")
                lines[case.name] = [*lines.get(case.name, [case.name]), *cells]
                results += found
    study.publish(args, head, [*lines.values()], results)
