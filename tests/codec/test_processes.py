"""Forks, threads and the interpreter's end, in processes that use two threads."""

from __future__ import annotations

import textwrap

import pytest
from processes import python

PRELUDE = """
import os, sys, threading, time
import numpy as np, torch
import flic
from flic import Codec
torch.set_num_threads(2)
pixels = np.random.default_rng(0).integers(0, 255, (384, 384, 3), dtype=np.uint8)
codec = Codec(flic.load_model())
data = codec.encode(pixels)
image = codec.decode(data)


def in_a_child(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def code():
    assert codec.encode(pixels) == data
    assert codec.decode(data).tobytes() == image.tobytes()
"""


def run(program: str) -> str:
    """The program's stderr; it must end well, in minutes at most (sanitizers are slow)."""
    program = PRELUDE + textwrap.dedent(program)
    done = python("-W", "ignore", "-c", program, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def test_forked_children():
    """They code; thread pools and engines serve there again, with new threads; they end well."""
    run("""
        import flic_kernels
        from flic_kernels.exact import ExactEngine

        assert in_a_child(code) == 0
        engine = ExactEngine(codec.model.state_dict(), threads=2)
        z_hat = torch.randn(1, engine.hyper_latent, 8, 8)
        x, weight = torch.randn(1, 64, 64, 16), torch.randn(16, 9, 16, 2)

        def compute():
            with torch.no_grad():
                out = *engine.hyper(z_hat), flic_kernels.frequency_modulation(x, weight)
            return [t.numpy().tobytes() for t in out]

        expected = compute()

        def again():
            global engine
            torch.set_num_threads(2)  # PyTorch's own operations would wait for ever now
            assert compute() == expected
            assert len(os.listdir("/proc/self/task")) > 1
            del engine

        assert in_a_child(again) == 0
        assert compute() == expected
        child = os.fork()
        if child == 0:
            code()
            sys.exit(0)  # which frees all that was inherited
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        code()
    """)


def test_a_child_forked_while_other_threads_code():
    """Whatever locks they hold at that moment."""
    run("""
        def forever():
            while True:
                codec.encode(pixels)

        threading.Thread(target=forever, daemon=True).start()
        for i in range(6):
            time.sleep(0.017 * i)
            assert in_a_child(code) == 0
    """)


def test_workers_of_a_data_loader_decode():
    run("""
        class Files(torch.utils.data.Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, i):
                return torch.from_numpy(np.array(flic.decode(data)))

        loader = torch.utils.data.DataLoader(Files(), num_workers=1, timeout=50)
        expected = torch.from_numpy(np.array(flic.decode(data)))
        assert all(torch.equal(found[0], expected) for found in loader)
    """)


@pytest.mark.parametrize("work", ["codec.encode(pixels)", "codec.decode(data)"])
def test_the_interpreter_ends_while_daemon_threads_code(work):
    assert not run(f"""
        def forever():
            while True:
                {work}

        for _ in range(2):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.3)
    """)


def test_coding_at_exit_still_works():
    run("""
        import atexit
        atexit.register(code)
        threading.Thread(target=code).start()
    """)


def test_threads_compute_at_once():
    """One engine and one set of tables for all threads, each with a pool of its own beside."""
    run("""
        import flic_kernels
        from flic_kernels import rans
        from flic_kernels.exact import ExactEngine
        from flic_kernels.ops import OPERATIONS

        engine = ExactEngine(codec.model.state_dict(), threads=2)
        z_hat = torch.randn(engine.hyper_latent, 4, 4)
        tables = rans.gaussian_tables()
        symbols = torch.randint(-3, 4, (5000,), dtype=torch.int32)
        indexes = torch.randint(0, len(tables), (5000,), dtype=torch.int32)
        cases = [
            (getattr(flic_kernels, name), operation.lightest.make(torch.Generator(), torch.float32))
            for name, operation in OPERATIONS.items()
        ]

        def compute():
            out = list(engine.open(z_hat).next_slice())
            with torch.no_grad():
                out += [function(**arguments, impl="cpu") for function, arguments in cases]
            coded = rans.encode(symbols, indexes, tables)
            out.append(rans.decode(coded, indexes, tables))
            return [coded, *(t.numpy().tobytes() for t in out)]

        expected, found = compute(), []
        threads = [
            threading.Thread(target=lambda: found.extend(compute() == expected for _ in range(5)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 15
    """)
