"""The benchmarks' options for pytest, the run they share, and the table and chart at its end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from benches.harness import document, report
from benches.harness.clock import timer_of
from benches.harness.measure import Run

RUN = pytest.StashKey[Run]()
SPECS = pytest.StashKey[dict]()
DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("bfloat16", "float32")}


def pytest_addoption(parser):
    group = parser.getgroup("benchmarks of flic")
    group.addoption("--rows", type=Path, metavar="FILE", help="write the rows, one a line, as JSON")
    group.addoption("--chart", type=Path, metavar="FILE", help="draw FILE with .png and with .svg")
    group.addoption(
        "--write",
        type=document.place("bench"),
        metavar="FILE[:PART]",
        help="the rows into a document's table",
    )
    group.addoption("--device", choices=DTYPES, help="default: cuda where there is a GPU")
    group.addoption("--dtypes", help="comma-separated (default: float32,bfloat16)")
    group.addoption("--no-compile", action="store_true", help="without torch.compile (minutes)")
    group.addoption("--seconds", type=float, default=3, help="of timing a problem and mode")
    later = "what has not begun by then is skipped, and said to be"
    group.addoption("--budget", type=float, default=float("inf"), metavar="SECONDS", help=later)
    small = "tiny inputs: shows that everything runs; its times say nothing"
    group.addoption("--small", action="store_true", help=small)


def device_of(config) -> str:
    return config.getoption("device") or ("cuda" if torch.cuda.is_available() else "cpu")


def dtypes_of(config) -> list[torch.dtype]:
    names = config.getoption("dtypes")
    names = names.split(",") if names else DTYPES[device_of(config)]
    if unknown := [name for name in names if name not in ("float32", "bfloat16", "float16")]:
        raise pytest.UsageError(f"--dtypes: float32, bfloat16 or float16, not {unknown[0]!r}")
    return [getattr(torch, name) for name in names]


def pytest_configure(config):
    path, small = config.getoption("rows"), config.getoption("small")
    if path:
        path.unlink(missing_ok=True)
    device = device_of(config)
    config.stash[RUN] = Run(
        device=device,
        json=path,
        compiled=not config.getoption("no_compile"),
        seconds=0 if small else config.getoption("seconds"),
        rounds=(2, 2) if small else (3, 20 if device == "cpu" else 100),
        deadline=time.monotonic() + config.getoption("budget"),
        small=small,
    )


def pytest_generate_tests(metafunc):
    """A module that is parametrised over `spec` has a function `specs(device, dtypes, small)`."""
    if "spec" in metafunc.fixturenames:
        config, module = metafunc.config, metafunc.module
        known = config.stash.setdefault(SPECS, {})
        if module not in known:  # one list for all functions: pytest then runs a spec's together
            asked = device_of(config), dtypes_of(config), config.getoption("small")
            known[module] = list(module.specs(*asked))
        metafunc.parametrize("spec", known[module], ids=str, scope="module")


def pytest_collection_modifyitems(config, items):
    for item in items:
        timer = timer_of(device_of(config))
        item.add_marker(pytest.mark.benchmark(timer=timer, disable_gc=True))


@pytest.fixture(scope="session")
def run(request) -> Run:
    return request.config.stash[RUN]


@pytest.fixture(scope="module")
def problem(spec, run):
    """The spec's problem, for all modes; None where no time is left to build it."""
    return None if run.out_of_time else spec.build()


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_group_stats(config, benchmarks, group_by):
    """No table of pytest-benchmark's own, which would take what ran in turns for one thing."""
    return []


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.ensure_newline()
    found = config.stash[RUN].done
    report.show(found)
    if config.getoption("write") and found:
        document.replace(*config.getoption("write"), report.markdown(found))
    if config.getoption("chart"):
        report.chart(found, config.getoption("chart"))
