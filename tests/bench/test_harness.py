"""The benchmarks: they check before they time, take turns, and say what they did not time."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from benches import __main__ as command
from benches.harness import clock, measure, report, rows
from benches.harness.machine import PeakMemory
from benches.harness.problems import BOTH, FORWARD, ModuleProblem, OperationProblem, Spec
from benches.studies import gpu
from benches.suites import codec, ops, training, transforms
from flic_kernels import NotAvailable
from flic_kernels.ops import OPERATIONS
from flic_kernels.ops.registry import Implementation

pytestmark = pytest.mark.usefixtures("one_thread")
GDN = OPERATIONS["gdn"]


class Benchmark:
    """What is used of pytest-benchmark's fixture, on a clock that each call moves on by its own."""

    enabled = True

    def pedantic(self, target, setup, rounds, iterations):
        assert iterations == 1
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[]))
        for _ in range(rounds):
            arguments, options = setup()
            start = time.perf_counter()
            target(*arguments, **options)
            self.stats.stats.data.append(time.perf_counter() - start)


@pytest.fixture
def run():
    shared = {"device": "abacus", "copy_bytes_per_second": 1e9, "fma_gflops": 10.0}
    run = measure.Run("cpu", None, False, 0.01, (3, 5), float("inf"))
    run.__dict__["shared"] = shared
    return run


def gdn_problem(monkeypatch, **implementations):
    """The lightest case of gdn, with its reference and these functions as implementations."""
    loaders = {
        name: Implementation(name, ("cpu",), lambda function=function: function)
        for name, function in implementations.items()
    }
    monkeypatch.setattr(GDN, "implementations", loaders)
    names = OperationProblem.names(GDN, "cpu")
    tolerances = dict.fromkeys((FORWARD, BOTH), GDN.tolerances[torch.float32])
    spec = Spec("gdn", "lightest", torch.float32, names, tolerances, None)
    return spec, OperationProblem(GDN, GDN.lightest, torch.float32, "cpu")


def slightly_wrong(*arguments, **options):
    return GDN.reference(*arguments, **options) * 1.001


@pytest.mark.parametrize("mode", [FORWARD, BOTH])
def test_no_speed_for_a_wrong_result(run, monkeypatch, capsys, mode):
    spec, problem = gdn_problem(monkeypatch, right=GDN.reference, wrong=slightly_wrong)
    with pytest.raises(pytest.fail.Exception, match="wrong: wrong, .* off, allowed 1e-05"):
        measure.compare(run, Benchmark(), spec, problem, mode)
    reference, right, wrong = run.done
    assert [row.impl for row in run.done] == ["reference", "right", "wrong"]
    assert (right.status, wrong.status) == ("ok", "wrong")
    assert wrong.error == pytest.approx(1e-3, rel=0.01)
    assert (wrong.p50, wrong.speedup, wrong.rounds, wrong.gflops) == (None, None, 0, None)
    assert right.p20 <= right.p50 <= right.p80 and 3 <= right.rounds <= 5 and right.error < 1e-6
    assert right.copy_share == right.bytes_moved / right.p50 / 1e9
    assert reference.speedup == 1
    run.done[0].versions = {"torch": "2"}
    report.show(run.done)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "WRONG" in line]
    assert line.split()[-3:-1] == ["wrong", "WRONG"]  # and the error: no time, no ratio


def test_a_wrong_gradient_is_wrong_only_where_it_is_asked_for(run, monkeypatch):
    def wrong_gradient(*arguments, **options):
        out = GDN.reference(*arguments, **options)
        return out + (out - out.detach()) * 0.01

    spec, problem = gdn_problem(monkeypatch, own=wrong_gradient)
    measure.compare(run, Benchmark(), spec, problem, FORWARD)
    with pytest.raises(pytest.fail.Exception, match="own: wrong, the gradient of"):
        measure.compare(run, Benchmark(), spec, problem, BOTH)
    assert [row.status for row in run.done] == ["ok", "ok", "ok", "wrong"]


def test_what_cannot_be_had_is_skipped_and_what_raises_fails(run, monkeypatch):
    def not_here(*arguments, **options):
        raise NotAvailable("no such unit")

    def broken(*arguments, **options):
        raise ZeroDivisionError("sorry")

    spec, problem = gdn_problem(monkeypatch, not_here=not_here, broken=broken)
    with pytest.raises(pytest.fail.Exception, match="broken: failed, ZeroDivisionError: sorry"):
        measure.compare(run, Benchmark(), spec, problem, FORWARD)
    assert [(row.status, row.note) for row in run.done] == [
        ("ok", None),
        ("skipped", "no such unit"),
        ("failed", "ZeroDivisionError: sorry"),
    ]


def test_out_of_time_is_said_of_every_row(run, monkeypatch):
    spec, _ = gdn_problem(monkeypatch, own=GDN.reference)
    run.deadline = run.compiled = time.monotonic() - 1
    with pytest.raises(pytest.skip.Exception, match="out of time"):
        measure.compare(run, Benchmark(), spec, None, FORWARD)
    assert [(row.impl, row.status, row.note) for row in run.done] == [
        (name, "skipped", "out of time") for name in ("reference", "compile", "own")
    ]


def test_implementations_take_turns():
    order = []
    functions = [lambda: order.append("a"), lambda: (order.append("b"), time.sleep(0.01))]
    times, peaks = measure.timed_in_turns(Benchmark(), functions, "cpu", 0, (3, 9))
    assert order == ["a", "b"] * 4  # one round to see how long it takes, then three
    assert len(times) == len(peaks) == 2 and all(len(of_one) == 3 for of_one in times)
    assert max(times[0]) < 0.01 <= min(times[1])


def test_speedup_is_of_the_same_round():
    row = rows.Row("op", "case", "own", FORWARD, "float32", "ok")
    row.timed([1, 10, 2], [2, 20, 2])
    assert (row.p50, row.speedup) == (2, 2)


def test_device_events_are_a_timer(monkeypatch):
    """pytest-benchmark subtracts what two calls of its timer gave."""

    class Event:
        now = 0.0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            Event.now += 500.0
            self.at, self.waited = Event.now, False

        def synchronize(self):
            self.waited = True

        def elapsed_time(self, later):
            assert later.waited and not self.waited
            return later.at - self.at  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    timer = clock.timer_of("cuda")
    start = timer()
    assert timer() - start == 0.5
    assert clock.timer_of("cpu") is time.perf_counter


def test_peak_memory_of_a_call():
    memory = PeakMemory("cpu")
    if not memory.known:
        pytest.skip("this system does not say how much memory a process took")
    memory.start()
    torch.ones(2**24).add_(1)
    peak = memory.stop()
    assert 2**26 * 0.9 < peak < 2**26 * 1.5
    memory.start()
    assert memory.stop() < 2**24


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_lightest_case_of_every_operation(name):
    operation = OPERATIONS[name]
    problem = OperationProblem(operation, operation.lightest, torch.float32, "cpu")
    for own in set(OperationProblem.names(operation, "cpu")) - {"compile"}:
        for mode in (FORWARD, BOTH):
            _, errors = problem.check(own, mode)
            assert max(errors.values()) < operation.tolerances[torch.float32], (own, errors)
            assert (len(errors) > 1) == (mode == BOTH)


@pytest.mark.parametrize("case", ["hyper-shifted", "shifted-dim9"])
def test_sdpa_computes_window_attention(case):
    operation = OPERATIONS["window_attention"]
    (chosen,) = (c for c in operation.cases if c.name == case)
    problem = OperationProblem(operation, chosen, torch.float32, "cpu")
    assert max(problem.check("sdpa", BOTH)[1].values()) < 1e-5


def test_counted_work():
    def costs(name):
        operation = OPERATIONS[name]
        problem = OperationProblem(operation, operation.lightest, torch.float32, "cpu")
        return problem.expected.costs[FORWARD], problem.expected.costs[BOTH]

    # fused_linear: 21 rows of 20 by 12 x 20 and a bias; backward is two such products.
    forward, both = costs("fused_linear")
    assert (forward.flops, both.flops) == (2 * 21 * 20 * 12, 3 * 2 * 21 * 20 * 12)
    inputs, out = 4 * (21 * 20 + 12 * 20 + 12), 4 * 21 * 12
    assert (forward.bytes_moved, both.bytes_moved) == (inputs + out, 3 * inputs + 2 * out)
    # positional_encoding: nine multiply-adds for each of 8 x 4 positions and 15 channels.
    forward, both = costs("positional_encoding")
    assert (forward.flops, both.flops) == (2 * 9 * 480, 3 * 2 * 9 * 480)


def test_modules_as_they_are_count_where_the_registry_has_something(monkeypatch):
    for operation in OPERATIONS.values():
        monkeypatch.setattr(operation, "implementations", {})
    assert "default" not in ModuleProblem.names("cpu")
    monkeypatch.setattr(GDN, "implementations", {"own": Implementation("own", ("cpu",), lambda: 1)})
    assert "default" in ModuleProblem.names("cpu")


def test_a_transform_in_all_its_ways():
    small = transforms.SMALL
    problem = transforms.transform("hyper_synthesis", torch.float32, "cpu", True, small)
    for name in ("reference", "accelerated", "exact", "default"):
        assert max(problem.check(name, FORWARD)[1].values()) < 1e-5, name
    # What passes between stages: more than parameters, input and output, which count once.
    tensors = [*problem.module.parameters(), *problem.inputs, *problem.expected.results]
    assert problem.expected.costs[FORWARD].bytes_moved > 4 * sum(t.numel() for t in tensors)
    with torch.no_grad():
        problem.module.h_mean_s[3][0].weight[0] += 1  # in what is computed from now on
    assert problem.check("reference", FORWARD)[1]["out"] > 1e-5


def test_counted_work_of_the_network():
    """g_a's products are 164 GFLOP at 768x512; this is a 24th of that."""
    model = transforms.network(False)
    x = torch.rand(1, 3, 128, 128)
    problem = ModuleProblem(model.g_a, [x], transforms.stages, {})
    assert problem.expected.costs[FORWARD].flops / 1e9 == pytest.approx(164 / 24, rel=0.01)


def test_specs_name_every_thing_once():
    for module in (ops, transforms, codec, training):
        for small in (True, False):
            dtypes = [torch.bfloat16, torch.float32]
            names = [str(spec) for spec in module.specs("cpu", dtypes, small)]
            assert len(set(names)) == len(names)
    names = " ".join(str(s) for s in ops.specs("cpu", [torch.float32], False))
    assert all(f"{name}-" in names for name in OPERATIONS)
    assert "fat_block-256-shifted" in names


def test_rows_of_two_runs():
    def row(impl, status, mode=FORWARD, rounds=1):
        return rows.Row("op", "case", impl, mode, "float32", status, rounds=rounds)

    first = [row("reference", "ok"), row("cpu", "ok"), row("reference", "ok", BOTH)]
    second = [row("reference", "ok", rounds=2), row("compile", "ok"), row("cpu", "ok", rounds=2)]
    second += [row("reference", "skipped", BOTH), row("compile", "skipped", BOTH)]
    merged = [(r.impl, r.mode, r.status, r.rounds) for r in rows.merge(first, second)]
    assert merged == [
        ("reference", FORWARD, "ok", 2), ("compile", FORWARD, "ok", 1), ("cpu", FORWARD, "ok", 2),
        ("reference", BOTH, "ok", 1), ("compile", BOTH, "skipped", 1),
    ]  # fmt: skip


def test_unknown_names_are_refused(capsys):
    assert command.main(["opps"]) == 2
    why = "benches: no suite or study 'opps' (python -m benches --list names all)\n"
    assert capsys.readouterr().err == why
    assert command.main(["ops", "large"]) == 2
    assert "benches: large is a study, which runs alone" in capsys.readouterr().err
    assert command.main(["--help"]) == 0


def test_a_budget_that_is_used_up(tmp_path, capsys, outside_xdist):
    path = tmp_path / "rows.json"
    where = ["--rows", str(path), "--chart", str(tmp_path / "chart")]
    assert command.main(["--small", "--budget", "0", *where]) == 0
    assert "compile skipped: out of time" in capsys.readouterr().out
    found = rows.read(path)
    assert {(row.status, row.note) for row in found} == {("skipped", "out of time")}
    assert {row.op for row in found} > {"tca", "encode", *OPERATIONS}
    assert not list(tmp_path.glob("chart*"))


def test_the_gpu_part_without_one(tmp_path, monkeypatch, capsys, outside_xdist):
    """Its steps on CPU tensors."""
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    monkeypatch.setattr(gpu, "TESTS", (str(tmp_path / "test_one.py"),))
    monkeypatch.setattr(gpu, "STEPS", {"eager": (1, command.SUITES, [])})
    out = tmp_path / "out"
    only = "(gdn and not conv) or h_a or encode or fat_block"
    arguments = ["--out", str(out), "--device", "cpu", "--small", "--only", only]
    assert gpu.main(arguments) == 0, (out / "eager.txt").read_text()
    printed = capsys.readouterr().out
    assert "tests on cpu: 1 passed" in printed and "encode 128x128, reference: g_a, h_a" in printed
    found = rows.read(out / "rows.json")
    assert {row.op for row in found} == {"gdn", "fat_block", "h_a", "encode"}
    assert all(row.p20 <= row.p50 <= row.p80 and row.commit for row in found)
    assert all((out / name).stat().st_size for name in ("chart.png", "chart.svg", "tests.txt"))


def test_a_step_of_the_gpu_part_is_stopped(tmp_path):
    before = time.monotonic()
    assert gpu.run_step(["sleep", "60"], tmp_path / "log", 0) is None
    assert time.monotonic() - before < 10
    assert gpu.run_step(["sh", "-c", "echo last; exit 3"], tmp_path / "log", 9) == 3
    assert gpu.last_line(tmp_path / "log") == "last"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_part_wants_a_gpu(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "benches gpu: no CUDA device is available\n"
    assert not (tmp_path / "out").exists()
