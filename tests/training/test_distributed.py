"""Two processes train as one: equal gradients and records."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_worker
from processes import environment
from training_runs import rows, write_pictures

from flic.training import train
from flic.training.distributed import World

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path):
    return write_pictures(tmp_path / "data", 6)


@pytest.fixture
def results(data, tmp_path) -> Path:
    """What two processes wrote (training_worker.py)."""
    folder = tmp_path / "two"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         training_worker.__file__, data, folder],
        env=environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=600)
    finally:
        process.terminate()  # which ends its workers too
    assert process.returncode == 0, output
    return folder


def test_two_processes_train_as_one(data, results, tmp_path):
    # The first compares with the whole batch at once, whose products add in another order: in
    # float32 that alone is a difference of 1e-6. The second takes the same parts one by one.
    for name, chunks in (("float64", None), ("float32", (range(1), range(1, 2)))):
        two = torch.load(results / f"{name}.pt")
        one = training_worker.gradients(World(), data, training_worker.DTYPES[name], chunks)
        assert two.keys() == one.keys()
        assert not {"tca.TCA.start_token", "entropy_bottleneck.quantiles"} & two.keys()
        for parameter, expected in one.items():
            assert (two[parameter] - expected).norm() <= 1e-6 * expected.norm(), parameter

    train(training_worker.RECIPE, data, tmp_path / "one", options=training_worker.OPTIONS)
    for log in ("log.csv", "validation.csv"):
        two = rows(results / "run" / log)
        assert rows(results / "stopped" / log) == two
        for ours, theirs in zip(rows(tmp_path / "one" / log), two, strict=True):
            assert ours.keys() == theirs.keys()
            for name in filter(ours.get, ours):
                assert float(theirs[name]) == pytest.approx(float(ours[name]), rel=1e-5), name


def test_parts_of_a_batch():
    assert World(rank=1, size=4).share(8) == range(2, 4)
    with pytest.raises(ValueError, match="a batch of 6 does not divide among 4"):
        World(rank=0, size=4).share(6)
