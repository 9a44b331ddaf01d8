"""What a whole file spends beyond its ideal code length, and the benchmarks that measure coders."""

import sys
import tempfile
import types

import pytest

from benches.harness.simulated_latents import simulate
from benches.studies import entropy_coders
from benches.studies.rans_overhead import framed
from flic_kernels import rans


@pytest.mark.parametrize(
    ("symbols", "rate", "most"),
    [
        (491_520, 0.25, 0.0075),  # 15 KB
        (491_520, 0.0814, 0.02),  # 5 KB, as are the next
        (122_880, 0.326, 0.02),
        (40_960, 1.0, 0.02),
    ],
)
def test_overhead_with_everything_counted(symbols, rate, most):
    tables = rans.gaussian_tables()
    data = simulate(symbols, rate)
    indexes, centers = rans.gaussian_indexes(data.means, data.scales, tables)
    payload = rans.encode(data.y - centers, indexes, tables)
    frames = sum(framed(payload))
    assert frames <= 40
    ideal = data.ideal / 8
    assert ideal == pytest.approx(symbols * rate / 8, rel=0.01)
    assert ideal < len(payload) + frames <= (1 + most) * ideal


@pytest.fixture
def bench(monkeypatch):
    """Runs the coders' benchmark on few symbols, with none of the optional coders."""
    monkeypatch.setattr(entropy_coders, "OPTIONAL", ())
    return lambda: entropy_coders.main(["--symbols", "2000", "--rate", "1", "--repeats", "1"])


def test_the_benchmark_compares_with_compressai(bench, one_thread, monkeypatch, capsys):
    seconds = iter([1.0, 0.5] + [0.05, 0.01] * 10)
    monkeypatch.setattr(entropy_coders, "timed", lambda *_: [next(seconds)])
    bench()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].strip() for row in rows[:2]] == ["CompressAI", "flic_kernels scalar"]
    times = [row[3].strip() for row in rows]
    assert times == ["1.0x / 1.0x"] + ["20.0x / 50.0x"] * (len(rows) - 1)


def test_a_failure_of_ours_fails_the_benchmark(bench, one_thread, monkeypatch):
    def broken(*_):
        raise RuntimeError("ours")

    monkeypatch.setattr(rans, "encode", broken)
    with pytest.raises(RuntimeError, match="ours"):
        bench()


def test_a_missing_coder_is_left_out(bench, one_thread, monkeypatch, capsys):
    monkeypatch.setattr(entropy_coders, "OPTIONAL", (entropy_coders.constriction,))
    monkeypatch.setitem(sys.modules, "constriction", None)
    bench()
    assert "constriction left out" in capsys.readouterr().err


def test_the_benchmark_leaves_no_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fake = types.SimpleNamespace(RangeDecoder=None, RangeEncoder=None)
    monkeypatch.setitem(sys.modules, "range_coder", fake)
    data = simulate(100, 1.0)
    for _ in entropy_coders.where_installed(entropy_coders.range_coder, data, None):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
