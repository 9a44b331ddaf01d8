"""Two processes train as one: equal gradients and records."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_worker
from cli_tools import ROOT
from training_runs import rows, write_pictures

from flic.training import train
from flic.training.distributed import World

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("training") / "data", 6)


@pytest.fixture(scope="module")
def results(data, tmp_path_factory) -> Path:
    """What two processes wrote (training_worker.py)."""
    folder = tmp_path_factory.mktemp("distributed")
    paths = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         training_worker.__file__, data, folder],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


# The first compares with the whole batch at once, whose products add in another order: in float32
# that alone is a difference of 1e-6. The second takes the same parts one after the other.
@pytest.mark.parametrize("name, chunks", [("float64", None), ("float32", (range(1), range(1, 2)))])
def test_two_processes_have_the_gradients_of_one(data, results, name, chunks):
    two = torch.load(results / f"{name}.pt")
    one = training_worker.gradients(World(), data, training_worker.DTYPES[name], chunks)
    assert two.keys() == one.keys()
    assert not {"tca.TCA.start_token", "entropy_bottleneck.quantiles"} & two.keys()
    for parameter, expected in one.items():
        assert (two[parameter] - expected).norm() <= 1e-6 * expected.norm(), parameter


def test_two_processes_run_as_one(data, results, tmp_path):
    train(training_worker.RECIPE, data, tmp_path, options=training_worker.OPTIONS)
    for log in ("log.csv", "validation.csv"):
        for one, two in zip(rows(tmp_path / log), rows(results / "run" / log), strict=True):
            assert one.keys() == two.keys()
            for name in filter(one.get, one):
                assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-6), name


def test_parts_of_a_batch():
    assert World(rank=1, size=4).share(8) == range(2, 4)
    with pytest.raises(ValueError, match="a batch of 6 does not divide among 4"):
        World(rank=0, size=4).share(6)
