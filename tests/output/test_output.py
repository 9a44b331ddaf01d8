"""Files are written whole or not at all."""

import os

import numpy as np
import pytest
from PIL import Image
from processes import python

from flic.errors import OutputError
from flic.output import write_atomic, wrote_picture
from flic.pictures import images


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


def test_only_what_is_ours_is_replaced(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"ours 1", ours=lambda _: False)  # nothing is there yet
    for data, kept in ((b"ours 2", b"ours 2"), (b"other", b"other")):
        path.write_bytes(data)
        ours = path.read_bytes().startswith(b"ours")
        if ours:
            write_atomic(path, kept, ours=lambda file: file.read_bytes().startswith(b"ours"))
        else:
            with pytest.raises(OutputError, match="flic did not write it"):
                write_atomic(path, b"ours 3", ours=lambda file: False)
        assert path.read_bytes() == kept
    write_atomic("/dev/null", b"", ours=lambda _: False)  # devices are written to, not replaced


PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_pictures_that_flic_wrote_are_known(tmp_path, suffix, mode):
    """By a mark that says nothing of a picture that was changed since, and disturbs nothing."""
    image = PICTURE.convert("RGB" if (suffix, mode) == (".jpg", "RGBA") else mode)
    image.info["exif"] = exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
    path = tmp_path / f"a{suffix}"
    data = images.to_bytes(image, suffix)
    path.write_bytes(data)
    assert wrote_picture(path)
    back = Image.open(path)
    back.load()
    if suffix != ".jpg":
        assert back.convert(image.mode).tobytes() == image.tobytes()
    if suffix != ".tiff":
        assert exif.removeprefix(b"Exif\0\0") in back.info["exif"]
    for at in (30, len(data) // 2, len(data) - 120):
        path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert not wrote_picture(path), at
    back.save(path, **({"lossless": True} if suffix == ".webp" else {}))
    assert not wrote_picture(path)
    path.write_bytes(b"")
    assert not wrote_picture(path)


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
        "import os, signal, sys; from flic.output import wrote_picture, write_atomic\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(sys.argv[1], b'new' * 1000)"
    )
    path = tmp_path / "file"
    assert python("-c", code, path).returncode < 0
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
