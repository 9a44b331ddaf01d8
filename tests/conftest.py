"""Options and fixtures shared by the tests."""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--photos",
        metavar="DIR",
        type=Path,
        help="folder of photographs with eval/ and examples/ in it; tests on them skip without",
    )


@pytest.fixture(scope="session")
def photos(request) -> Path:
    """The folder given by --photos; skips the test where none is given."""
    folder = request.config.getoption("--photos")
    if folder is None:
        pytest.skip("needs --photos DIR")
    if not folder.is_dir():
        pytest.fail(f"--photos {folder}: no such folder")
    return folder
