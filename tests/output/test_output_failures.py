"""Files on disks that fill up and in processes that are killed: whole, or not there at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import fails, png, run
from processes import in_python

from flic.errors import OutputError
from flic.output import write_atomic

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's tools"),
    pytest.mark.usefixtures("one_thread"),
]

AT_RANDOM_MOMENTS = """
import os, random, signal, sys, time
from pathlib import Path
from flic.output import write_atomic
path, kills, size, rng = Path(sys.argv[1]), int(sys.argv[2]), 2_000_000, random.Random(1)
there = leftovers = 0
for kill in range(kills):
    path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        for i in range(10**6):
            write_atomic(path, bytes([i % 256]) * size)
    time.sleep(rng.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if path.exists():
        data = path.read_bytes()
        assert data == data[:1] * size, f"{len(data)} bytes under the final name"
        there += 1
    for other in path.parent.iterdir():
        if other != path:
            assert other.name.startswith("." + path.name) and other.name.endswith(".part")
            leftovers += 1
            other.unlink()
print(there, leftovers)
"""


def test_killed_at_random_moments(tmp_path):
    """Nothing under the final name, or all of it; what was cut short has another name."""
    there, leftovers = map(int, in_python(AT_RANDOM_MOMENTS, tmp_path / "file", 60).split())
    assert 0 < there and 0 < leftovers  # so kills came in the midst of it too


AT_EVERY_STEP = """
import itertools, os, signal, sys
from pathlib import Path
from flic.output import write_atomic
path, old, overwrite = Path(sys.argv[1]), sys.argv[2].encode(), sys.argv[3] == "True"
new, step, last = b"new" * 50_000, 0, None

def die_at(name):
    call = getattr(os, name)
    def counted(*args, **options):
        global step
        step += 1
        if step == last:
            if name == "fdopen":  # half of it is written, then
                os.write(args[0], new[: len(new) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)
    setattr(os, name, counted)

for last in itertools.count(1):
    path.unlink(missing_ok=True)
    if old:
        path.write_bytes(old)
    child = os.fork()
    if child == 0:
        for name in ("open", "fdopen", "fsync", "chmod", "replace", "link", "unlink", "close"):
            die_at(name)
        write_atomic(path, new, overwrite=overwrite)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    found = path.read_bytes() if path.exists() else b""
    assert found in (old, new), (last, len(found))
    if status == 0:
        assert found == new
        break
    assert os.WIFSIGNALED(status), status
print(last)
"""


@pytest.mark.parametrize(("old", "overwrite"), [("", True), ("old", True), ("", False)])
def test_killed_at_every_step(tmp_path, old, overwrite):
    assert int(in_python(AT_EVERY_STEP, tmp_path / "file", old, overwrite)) > 5


NO_SPACE = """
import os, sys
from flic.errors import OutputError
from flic.output import write_atomic
write_atomic("file", b"old")
for size in (100_000, 3_000_000):
    for name in ("file", "new"):
        try:
            write_atomic(name, bytes(size))
        except OutputError as error:
            assert "No space left" in str(error), error
        else:
            raise AssertionError("100 kB on a disk of 64 kB")
assert os.listdir() == ["file"] and open("file", "rb").read() == b"old"
write_atomic("file", bytes(10_000))
print("refused")
"""
READ_ONLY = """
import os, sys
from flic.errors import OutputError
from flic.output import write_atomic
for name in ("file", "new"):
    try:
        write_atomic(name, b"new")
    except OutputError as error:
        assert "read-only" in str(error).lower(), error
    else:
        raise AssertionError("written to a read-only disk")
assert os.listdir() == ["file"] and open("file", "rb").read() == b"old"
print("refused")
"""


def on_a_small_disk(folder: Path, commands: str) -> tuple[str, ...]:
    """A prefix that runs a program in `folder`, a disk of 64 kB that no other process sees."""
    mount = f"mount -t tmpfs -o size=64k none {folder} && cd {folder} && {commands} "
    prefix = ("unshare", "--map-root-user", "--mount", "sh", "-ec", mount + 'exec "$@"', "sh")
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a file system in a namespace of their own")
    return prefix


def test_full_disk(tmp_path):
    assert in_python(NO_SPACE, prefix=on_a_small_disk(tmp_path, "")) == "refused\n"


def test_read_only_disk(tmp_path):
    commands = "printf old > file && mount -o remount,ro . &&"
    assert in_python(READ_ONLY, prefix=on_a_small_disk(tmp_path, commands)) == "refused\n"


@pytest.mark.parametrize("size", [0, 100])
def test_commands_beyond_the_file_size_limit(here, known_models, size):
    """As on a disk that fills up while the command works."""
    import resource

    run("encode", "picture.png", "good.flic")
    before = sorted(os.listdir(here))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        fails("encode", "picture.png", "new.flic", match="new.flic: cannot write: File too large")
        fails("decode", "good.flic", "new.tiff", match="new.tiff: cannot write: File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert sorted(os.listdir(here)) == before


AS_NOBODY = """
import os, stat, sys, tempfile
from flic.errors import OutputError
from flic.output import check_target, write_atomic
folder = tempfile.mkdtemp()
os.chmod(folder, 0o755)
os.mkdir(folder + "/open")
os.chmod(folder + "/open", 0o777)
for name in ("locked", "open/locked"):
    with open(f"{folder}/{name}", "w") as file:
        file.write("old")
    os.chmod(f"{folder}/{name}", 0o444)
if os.getuid() == 0:
    os.setuid(65534)
else:
    os.chmod(folder, 0o555)
for name, says in (("locked", "is read-only"), ("open/locked", "is read-only"),
                   ("new", "the folder .* is read-only"), ("open/../new", "the folder")):
    for write in (check_target, lambda path: write_atomic(path, b"new")):
        try:
            write(__import__("pathlib").Path(folder, name))
        except OutputError as error:
            assert __import__("re").search(says, str(error)), error
        else:
            raise AssertionError(name)
write_atomic(folder + "/open/new", b"new")
assert open(folder + "/open/locked").read() == "old"
print(folder)
"""


def test_read_only_files_and_folders(tmp_path):
    import shutil

    folder = in_python(AS_NOBODY).strip()
    try:
        assert sorted(os.listdir(folder + "/open")) == ["locked", "new"]
    finally:
        os.chmod(folder, 0o755)
        shutil.rmtree(folder)


def test_a_command_says_so_before_it_works(here, known_models, monkeypatch):
    monkeypatch.setattr(
        "flic.codec.codec.Codec.encode_picture", lambda *_, **__: pytest.fail("worked first")
    )
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    fails("encode", "picture.png", "new.flic", match="is read-only")
    with pytest.raises(OutputError, match="picture.png: is read-only"):
        write_atomic("picture.png", png())
