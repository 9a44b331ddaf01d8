"""Ctrl-C while native code computes: it stops soon, and leaves no file."""

import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from processes import environment, in_python

WITHIN = """
import os, signal, threading, time
import numpy as np
from flic.codec.opening import open_codec
from flic_kernels import native

codec = open_codec()
x = np.zeros((2048, 2048, 3), np.uint8)
begin = time.perf_counter()
codec.encode(x[:512, :512])
whole = 16 * (time.perf_counter() - begin)  # what it takes if nothing stops it, about
sent = []

def interrupt():
    time.sleep(whole / 8)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    codec.encode(x)
except KeyboardInterrupt:
    late = time.perf_counter() - sent[0]
    assert late < min(0.5 + whole / 8, whole / 3), (late, whole)
else:
    raise SystemExit("it went on")
before = codec.encode(x[:128, :128])  # what came before is over
with native.interruptible():
    after = codec.encode(x[:128, :128])
assert before == after and not native.library().flic_stopped()
print("stopped")
"""


def test_a_call_into_the_library_ends_at_once():
    assert in_python(WITHIN, OMP_NUM_THREADS="1") == "stopped\n"


def test_handlers_that_do_not_raise_and_other_signals():
    printed = in_python("""
import os, signal, threading, time
import numpy as np
from flic.codec.opening import open_codec
from flic_kernels import native

codec, x = open_codec(), np.zeros((1024, 1024, 3), np.uint8)
seen = []
for number in (signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: seen.append(number))
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    try:
        with native.interruptible():
            for _ in range(20 if number == signal.SIGINT else 1):
                codec.encode(x)
        time.sleep(0.5)
        print("done")
    except KeyboardInterrupt:
        print("stopped")
print(seen == [signal.SIGINT, signal.SIGUSR1], signal.set_wakeup_fd(-1))
""")
    assert printed.split() == ["stopped", "done", "True", "-1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_leaves_no_file(tmp_path, number):
    Image.new("RGB", (3072, 2560)).save(tmp_path / "big.bmp")
    child = subprocess.Popen(
        [sys.executable, "-m", "flic", "encode", "big.bmp", "big.flic", "--tile", "none"],
        cwd=tmp_path,
        env=environment(OMP_NUM_THREADS="1"),
        stderr=subprocess.PIPE,
    )
    time.sleep(1.0)
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert errors == (b"flic: interrupted\n" if number == signal.SIGINT else b"")
    assert [path.name for path in tmp_path.iterdir()] == ["big.bmp"]
