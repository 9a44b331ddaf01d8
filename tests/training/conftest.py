"""Fixtures of the tests of training."""

import pytest
from training_runs import write_pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of three pictures."""
    return write_pictures(tmp_path_factory.mktemp("training") / "data")
