"""The program as a process: pipes, signals, what it prints where."""

import io
import os
import signal
import subprocess

import pytest
from cli_tools import png, program, run
from PIL import Image
from processes import python

pytestmark = pytest.mark.usefixtures("one_thread", "known_models")


def ends(*args) -> str:
    """How the program ends: its exit code, and whether it has imported torch."""
    code = (
        "import sys, runpy; sys.argv = ['flic', *sys.argv[1:]]\n"
        "try: runpy.run_module('flic', run_name='__main__')\n"
        "except SystemExit as end: print('code', end.code, 'torch' in sys.modules)"
    )
    return python("-c", code, *args).stdout.splitlines()[-1]


class TestProgram:
    def test_light_commands_do_not_import_torch(self, here):
        run("encode", "picture.png", "picture.flic")
        for args in (["--help"], ["--version"], ["info", "picture.flic"], ["models"]):
            assert ends(*args) == "code 0 False", args

    def test_a_data_set_with_nothing_to_do_does_not_import_torch(self, here, model_folder):
        call = "encode-dataset", "in", "out", "-m", str(model_folder / "small.safetensors")
        (here / "in").mkdir()
        (here / "picture.png").rename(here / "in" / "picture.png")
        run(*call)
        assert ends(*call) == "code 0 False"

    @pytest.mark.parametrize("wrong", [("--anchors", "jpeg,gif"), ("--bd-method", "linear")])
    def test_wrong_values_of_eval_do_not_import_torch(self, here, wrong):
        assert ends("eval", "--data", ".", *wrong) == "code 1 False"

    def test_closed_pipe(self, here):
        run("encode", "picture.png", "picture.flic")
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as closed:
            process = python("-m", "flic", "info", *["picture.flic"] * 50, stdout=closed)
        assert process.returncode == 1 and process.stderr == ""

    @pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
    @pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_signals(self, here, signum, code):
        """Interrupted while it waits for its input: no traceback, nothing written."""
        process = program("encode", "-", "out.flic", stdin=subprocess.PIPE, cwd=here)
        process.stdin.write(bytes(1 << 20))  # more than a pipe holds: back when it is being read
        process.stdin.flush()
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code and b"Traceback" not in err
        assert os.listdir(here) == ["picture.png"]

    def test_pipeline(self, here, model_folder):
        model = model_folder / "small.safetensors"
        encoded, _ = program("encode", "-", "-", "-m", model, stdin=subprocess.PIPE).communicate(
            png()
        )
        process = program("decode", "-", "-", "-m", model, stdin=subprocess.PIPE)
        picture, errors = process.communicate(encoded)
        assert errors == b""
        assert Image.open(io.BytesIO(picture)).size == (40, 30)
