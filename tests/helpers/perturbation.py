"""Perturbed and damaged decodes, counted: each gives the encoder's integers or is refused.

    make perturb                        at least 10,000 of them (ARGS="--count 100000": more)

Two kinds of trouble. Another machine's arithmetic: noise in the means and scales that feed the
tables, which the slices' checks and the latents' CRC must catch wherever it changes a symbol. And
damage to the stream under a file CRC that is right, as if the file had been written so: the C
library (flic.h) must take what the readable slice loop takes, and refuse what that refuses.
"""

import argparse
import dataclasses
import itertools
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from golden_model import portable_model, small_model

from flic.codec.codec import Codec
from flic.coding import entropy, model_engine
from flic.coding.entropy import Latents
from flic.coding.native_coder import NativeCoder
from flic.errors import FlicError
from flic.format import container
from flic.format.container import Container
from flic.format.step import float32
from flic.model import checkpoint

NOISE = {  # name: (part of the value, absolute)
    "noise 1e-6 relative": (1e-6, 0.0),
    "noise 1e-6 absolute": (0.0, 1e-6),
    "noise 1e-5 of both": (1e-5, 1e-5),
    "noise 1e-3 of both": (1e-3, 1e-3),
}


@dataclass
class Case:
    """A coded picture: what the file says and which integers it must give."""

    model: torch.nn.Module
    native: NativeCoder
    latents: Latents
    file: Container
    other: bytes  # another picture's stream, of the same size and model

    @property
    def stream(self) -> bytes:
        return self.file.streams[0]


class Noisy:
    """An exact engine's networks whose results are off, as if computed by another machine."""

    def __init__(self, networks, part: float, absolute: float, rng: np.random.Generator):
        self._networks, self._part, self._absolute, self._rng = networks, part, absolute, rng

    def _off(self, x: np.ndarray) -> np.ndarray:
        part, absolute = (self._rng.uniform(-1, 1, x.shape) for _ in range(2))
        off = x.astype(np.float64) * (1 + self._part * part)
        return (off + self._absolute * absolute).astype(np.float32)

    def open(self, z_hat, step):
        means, scales = map(self._off, self._networks.hyper(z_hat[None]))
        self._picture = self._networks.begin(means[0], scales[0], step)
        self.size = self._picture.size
        return self

    def next_slice(self, previous):
        means, scales, lrp = self._picture.next_slice(previous)
        return self._off(means), self._off(scales), lrp


def cases() -> list[Case]:
    """Pictures of two models: small ones with integers that tables do not hold, and larger ones,
    where noise finds many symbols next to another table. Each at three steps."""
    out = []
    models = [(model, native_coder(model)) for model in (small_model(), portable_model())]
    for (model, native), step in itertools.product(models, (1.0, 0.5, 3.7)):
        codec, step = Codec(model), float32(step)
        for height, width in ((128, 200), (384, 512)):
            x = torch.from_numpy(np.random.RandomState(width).random_sample((2, 3, height, width)))
            latents = model.analyze(torch.nn.functional.avg_pool2d(x.float(), 5, 1, 2), step)
            if height == 128:
                latents.y[0, :, 0, 0] = 4000
            streams = entropy.encode(model, latents)
            for i in range(2):
                own = Latents(latents.y[i : i + 1], latents.z[i : i + 1], step)
                file = Container(width, height, codec.fingerprint, (streams[i],), step=step)
                out.append(Case(model, native, own, file, streams[1 - i]))
    return out


def native_coder(model) -> NativeCoder:
    """The C library with a model's weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        checkpoint.save(model, path, compact=True)
        return NativeCoder(path, {})


def outcome(case: Case, data: bytes, made=None) -> str:
    """What decoding a file comes to. Anything but a FlicError is a crash, and goes up."""
    try:
        file = container.unpack(data)
        size = (file.height, file.width)
        latents, _ = entropy.decode(case.model, file.streams, size, made, step=file.step)
    except FlicError:
        found = "refused"
    else:
        same = torch.equal(latents.y, case.latents.y) and torch.equal(latents.z, case.latents.z)
        found = "identical" if same else "wrong"
    return found if made or taken(case, data) == (found == "identical") else "wrong"


def taken(case: Case, data: bytes) -> bool:
    """Whether the C library takes a file, whose integers' checksum it compares."""
    try:
        case.native.verify(SimpleNamespace(data=data))
    except FlicError:
        return False
    return True


def noise(part: float, absolute: float) -> Callable[[Case, np.random.Generator], str]:
    def trial(case, rng):
        made = model_engine.engine_of(case.model)
        noisy = dataclasses.replace(made, networks=Noisy(made.networks, part, absolute, rng))
        return outcome(case, container.pack(case.file), noisy)

    return trial


def damage(change: Callable[[Case, np.random.Generator], bytes]) -> Callable:
    """A trial on a stream that `change` makes, in a file with the right CRC."""

    def trial(case, rng):
        stream = case.stream
        while stream in (case.stream, case.other):  # no damage, and another right picture
            stream = change(case, rng)
        return outcome(case, container.pack(dataclasses.replace(case.file, streams=(stream,))))

    return trial


def flipped_bits(case, rng):
    stream = bytearray(case.stream)
    for _ in range(int(rng.integers(1, 4))):
        bit = int(rng.integers(8 * len(stream)))
        stream[bit // 8] ^= 1 << bit % 8
    return bytes(stream)


def changed_frame(case, rng):
    """In the first bytes, where versions, checks and lengths lie."""
    stream = bytearray(case.stream)
    stream[int(rng.integers(32))] = int(rng.integers(256))
    return bytes(stream)


def truncated(case, rng):
    return case.stream[: int(rng.integers(len(case.stream)))]


def lengthened(case, rng):
    at = int(rng.integers(len(case.stream) + 1))
    extra = rng.bytes(int(rng.integers(1, 9)))
    return case.stream[:at] + extra + case.stream[at:]


def removed(case, rng):
    at = int(rng.integers(len(case.stream)))
    return case.stream[:at] + case.stream[at + int(rng.integers(1, 9)) :]


def spliced(case, rng):
    """One picture's beginning, another's end; or this picture's checks on another's payload."""
    at = int(rng.integers(1, min(len(case.stream), len(case.other))))
    return case.stream[:at] + case.other[at:]


def foreign_checks(case, rng):
    """Another picture's stream that claims these latents' CRC."""
    return case.other[:1] + case.stream[1:5] + case.other[5:]


def noise_bytes(case, rng):
    """Bytes of no stream, behind a right frame."""
    return case.stream[:12] + rng.bytes(len(case.stream) - 12)


def unsealed(case, rng):
    """Bits of the whole file flipped, its CRC as it was."""
    data = bytearray(container.pack(case.file))
    bit = int(rng.integers(8 * len(data)))
    data[bit // 8] ^= 1 << bit % 8
    return outcome(case, bytes(data))


TRIALS = {name: noise(*amounts) for name, amounts in NOISE.items()}
TRIALS |= {
    f"stream {change.__name__.replace('_', ' ')}": damage(change)
    for change in (
        flipped_bits,
        changed_frame,
        truncated,
        lengthened,
        removed,
        spliced,
        foreign_checks,
        noise_bytes,
    )
}
TRIALS["file flipped bit"] = unsealed
SHARES = {"noise 1e-6 relative": 4, "noise 1e-6 absolute": 4, "stream flipped bits": 4}


def run(count: int, seed: int = 0) -> dict[str, Counter]:
    """At least `count` decodes; how many of each kind came to what."""
    pictures = cases()
    unit = count / sum(SHARES.get(name, 1) for name in TRIALS)
    counts = {}
    for name, trial in TRIALS.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        trials = int(unit * SHARES.get(name, 1)) + 1
        counts[name] = Counter(trial(pictures[i % len(pictures)], rng) for i in range(trials))
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="decodes, at least")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = run(options.count, options.seed)
    counts["all"] = sum(counts.values(), Counter())
    columns = ("identical", "refused", "wrong")
    print(f"{'':24}{'decodes':>10}" + "".join(f"{column:>11}" for column in columns))
    for name, counter in counts.items():
        numbers = "".join(f"{counter[column]:11,}" for column in columns)
        print(f"{name:24}{counter.total():10,}{numbers}")
    return 1 if counts["all"]["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
