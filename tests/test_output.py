"""Files are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from flic.errors import OutputError
from flic.output import write_atomic


def test_new_and_replaced(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"one")
    path.chmod(0o640)
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_no_overwrite(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"one", overwrite=False)
    with pytest.raises(OutputError, match="exists already"):
        write_atomic(path, b"two", overwrite=False)
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


def test_no_overwrite_when_the_name_is_taken_meanwhile(tmp_path, monkeypatch):
    path = tmp_path / "file"
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (path.write_bytes(b"other"), fsync(fd)))
    with pytest.raises(OutputError, match="exists already"):
        write_atomic(path, b"mine", overwrite=False)
    assert path.read_bytes() == b"other"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_nothing_is_left_on_error(tmp_path, monkeypatch, error, step):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_killed_while_writing(tmp_path):
    code = (
        "import os, signal, sys; from flic.output import write_atomic\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(sys.argv[1], b'new' * 1000)"
    )
    path = tmp_path / "file"
    assert subprocess.run([sys.executable, "-c", code, path]).returncode < 0
    assert not path.exists()


def test_links_are_followed(tmp_path):
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_bytes() == b"new"


def test_devices_are_not_replaced():
    write_atomic("/dev/null", b"data")
    assert not os.path.isfile("/dev/null")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk():
    with pytest.raises(OutputError, match="No space left"):
        write_atomic("/dev/full", b"data")


def test_folders(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        write_atomic(tmp_path, b"")
    with pytest.raises(OutputError, match="there is no folder"):
        write_atomic(tmp_path / "none" / "file", b"")


def test_long_names(tmp_path):
    path = tmp_path / ("n" * 250)
    write_atomic(path, b"data")
    assert path.read_bytes() == b"data"
