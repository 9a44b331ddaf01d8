"""Worker processes for folders: shared out, ended with the program, one that dies is told of."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tools import pixels, program, run
from fake_task import FAKE, IN_THREADS, Fake, jobs, wait_for
from PIL import Image
from processes import environment

import flic
from flic.cli import workers
from flic.cli.workers import Job
from flic.coding import limits


@pytest.mark.parametrize(("task", "processes"), [(FAKE, 1), (FAKE, 2), (IN_THREADS, 2)])
def test_every_job_has_its_outcome(task, processes):
    todo = jobs("a", "bad", "b", "c", "d", "e")
    results = dict(workers.outcomes(task, todo, processes))
    assert set(results) == set(todo)
    assert isinstance(results.pop(todo[1]), flic.PictureError)
    for job, (data, _) in results.items():
        assert data == f"{job.source}.flic".encode()
    pids = {numbers["pid"] for _, numbers in results.values()}
    here = processes == 1 or task is IN_THREADS
    assert (pids == {os.getpid()}) == here and len(pids) <= processes
    assert not multiprocessing.active_children()


def test_a_killed_worker_fails_its_own_file_only(tmp_path):
    """What it was at is tried once more, alone; the others go on, and none is done twice."""
    todo = [Job(tmp_path / name, Path(f"{i}.flic")) for i, name in enumerate(NAMES)]
    results = list(workers.outcomes(FAKE, todo, 2))
    assert sorted(job.target for job, _ in results) == sorted(job.target for job in todo)
    failed = {job.source.name: outcome for job, outcome in results if type(outcome) is not tuple}
    assert list(failed) == ["kill"] and isinstance(failed["kill"], flic.FlicError)
    assert "killed" in str(failed["kill"]) and "\n" not in str(failed["kill"])
    assert (tmp_path / "seen").exists()
    assert not multiprocessing.active_children()


NAMES = ("log", "a", "kill", "b", "kill once", "c", "d", "kill", "e")


def test_what_came_back_before_a_worker_was_killed_is_not_done_again(tmp_path):
    wait = tmp_path / "wait"  # for the other worker's answers
    wait.touch()
    todo = [Job(tmp_path / name, Path(f"{i}.flic")) for i, name in enumerate(("kill", "log", "a"))]
    results = {}
    for job, outcome in workers.outcomes(FAKE, todo, 2):
        results[job] = outcome
        if len(results) == 2:
            wait.unlink()
    assert set(results) == set(todo) and isinstance(results[todo[0]], flic.FlicError)
    assert (tmp_path / "log.txt").read_text() == "done\n"


def test_workers_that_cannot_begin_are_told_of():
    """No file is at fault, and nothing goes on for ever."""
    with pytest.raises(flic.FlicError, match="ended as it began.*--jobs 1"):
        dict(workers.outcomes(Unbegun(None, None, "cpu", "float32", None), jobs("a", "b"), 2))
    assert not multiprocessing.active_children()


class Unbegun(Fake):
    """Ends the process that it is sent to."""

    def __reduce__(self):
        return os._exit, (1,)


def test_how_many(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert workers.share(100, None, None, "cpu") == (8, 1)
    assert workers.share(100, None, 2, "cpu") == (4, 2)
    assert workers.share(12, None, None, "cpu") == (8, 1)
    assert workers.share(8, None, None, "cpu") == (8, 1)
    assert workers.share(7, None, None, "cpu") == (3, 2)
    assert workers.share(3, None, None, "cpu") == (1, None)
    assert workers.share(0, None, None, "cpu") == (1, None)
    assert workers.share(100, None, None, "cuda") == (1, None)
    assert workers.share(100, 3, None, "cpu") == (3, 2)
    assert workers.share(2, 30, None, "cpu") == (2, 4)
    assert workers.share(100, 16, None, "cpu") == (16, 1)
    assert workers.share(100, 1, 5, "cpu") == (1, 5)


def test_never_more_threads_than_cores(monkeypatch):
    for cores in (1, 2, 3, 8, 12):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores))
        for count in range(30):
            processes, threads = workers.share(count, None, None, "cpu")
            assert processes * (threads or cores) <= cores
            assert (processes == cores) == (count >= cores) or cores == 1


def test_workers_find_room_in_memory(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(limits, "available_memory", lambda: 7 << 30)
    assert workers.share(100, None, None, "cpu", lambda: 2 << 30) == (3, 2)
    assert workers.share(100, None, None, "cpu", lambda: 8 << 30) == (1, None)
    assert workers.share(100, None, None, "cpu", lambda: 1 << 20) == (8, 1)
    assert workers.share(100, 5, None, "cpu", lambda: 8 << 30) == (5, 1)  # as the user says
    monkeypatch.setattr(limits, "available_memory", lambda: None)
    assert workers.share(100, None, None, "cpu", lambda: 2 << 30) == (8, 1)


def test_a_folders_workers_take_what_its_largest_picture_takes(here, known_models, monkeypatch):
    """Encoding and decoding: whole, and in tiles; files that cannot be read need nothing."""
    (here / "in").mkdir()
    for i, (width, height) in enumerate(((40, 30), (700, 500))):
        Image.fromarray(pixels(i, width, height)).save(here / "in" / f"{i}.png")
    (here / "in" / "bad.png").write_bytes(b"no picture")
    needs = []
    monkeypatch.setattr(workers, "share", lambda *a: (needs.append(a[4]()), (1, None))[1])
    config = flic.load_model("small").config
    run("encode", "in", "out", code=1)
    assert needs.pop() == limits.worker_bytes(config, (500, 700), None, process=False)
    run("encode", "in", "tiles", "--tile", 128, code=1)
    assert needs.pop() == limits.worker_bytes(config, (500, 700), 128, process=False)
    for folder, side in (("out", None), ("tiles", 128)):
        run("decode", folder, "back" + folder)
        assert needs.pop() == limits.worker_bytes(config, (500, 700), side, process=False)


PROGRAM = """
import sys
from pathlib import Path
from flic.cli import app, batch, main
from fake_task import FAKE, jobs

def encode():
    names = ("a", "b", "sleep", "sleep/sleep")
    todo = [job._replace(target=Path("out", job.target)) for job in jobs(*names)]
    options = {"at_once": 2, "overwrite": True, "json": False, "quiet": False}
    batch.run(todo, FAKE, lambda *_: False, **options)

if __name__ == "__main__":
    app.registered_commands.clear()
    app.command()(encode)
    sys.argv = ["flic", "encode"]
    main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_ended_by_a_signal(tmp_path, signum, code):
    """Ctrl-C reaches all processes of a terminal: workers leave the answer to the program. What is
    written is whole, and no process stays behind."""
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    out = tmp_path / "out"
    wait_for(lambda: out.exists() and {"a.flic", "b.flic"} <= set(os.listdir(out)))
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    if signum != signal.SIGKILL:  # then Python's own resource tracker complains
        assert errors == (b"flic: interrupted\n" if signum == signal.SIGINT else b"")
    assert sorted(os.listdir(out)) == ["a.flic", "b.flic"]
    assert (out / "a.flic").read_bytes() == b"a.flic"
    wait_for(lambda: not members(process.pid))


def test_threads_end_with_the_command(tmp_path):
    """Ctrl-C ends what threads compute, whatever is left of large pictures, and writes none."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(pixels(0, 40, 30)).save(folder / "0.png")
    for i in range(1, 4):
        Image.fromarray(pixels(i, 4000, 3000)).save(folder / f"{i}.bmp")
    process = subprocess.Popen(
        [sys.executable, "-m", "flic", "encode", "in", "out", "--jobs", "2"],
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_for(lambda: (tmp_path / "out" / "0.flic").exists())
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 3
    assert process.returncode == 130 and errors == b"flic: interrupted\n"
    assert os.listdir(tmp_path / "out") == ["0.flic"]


def members(session: int) -> list[str]:
    """The processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[3] == str(session) and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_the_command(here, model_folder, small_model):
    """The real thing: files as one process makes them, and the bad one listed."""
    (here / "in").mkdir()
    for i in range(3):
        Image.fromarray(pixels(i)).save(here / "in" / f"{i}.png")
    (here / "in" / "bad.png").write_bytes(b"no picture")
    model = model_folder / "small.safetensors"
    process = program("encode", "in", "out", "--jobs", 2, "-m", model, cwd=here)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert b"3 done" in out and b"1 failed" in out
    assert errors.startswith(b"flic: in/bad.png: not a PNG") and errors.count(b"\n") == 1
    assert sorted(os.listdir(here / "out")) == ["0.flic", "1.flic", "2.flic"]
    for i in range(3):
        expected = flic.encode(pixels(i), small_model)
        assert (here / "out" / f"{i}.flic").read_bytes() == expected
