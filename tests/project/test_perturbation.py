"""A sample of `make perturb`, and proof that it would notice."""

from collections import Counter

import numpy as np
import perturbation
import pytest

from flic.coding import slice_loop
from flic.coding.native_coder import NativeCoder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def counts():
    return perturbation.run(400, seed=1)


def test_no_wrong_picture(counts):
    total = sum(counts.values(), Counter())
    assert total.total() >= 400
    assert total["wrong"] == 0
    assert total["identical"] + total["refused"] == total.total()


def test_damage_is_refused(counts):
    for name, counter in counts.items():
        if not name.startswith("noise"):
            assert counter["refused"] == counter.total() > 0, name


def test_the_noise_is_felt(counts):
    assert counts["noise 1e-6 relative"]["identical"] > 50
    strong = counts["noise 1e-3 of both"]
    assert strong["refused"] > 0.8 * strong.total()


def test_without_the_checks_pictures_are_wrong(monkeypatch):
    """The coder notices most trouble by itself, but not another picture's stream."""
    monkeypatch.setattr(slice_loop._Reader, "guard", lambda self, check: None)
    monkeypatch.setattr(slice_loop._Reader, "finish", lambda self, latents: self._coder.close())
    cases, rng = perturbation.cases(), np.random.default_rng(2)
    trial = perturbation.TRIALS["stream foreign checks"]
    assert [trial(case, rng) for case in cases] == ["wrong"] * len(cases)


def test_a_library_that_judges_otherwise_is_noticed(monkeypatch):
    monkeypatch.setattr(NativeCoder, "verify", lambda self, file: None)
    cases, rng = perturbation.cases(), np.random.default_rng(2)
    trial = perturbation.TRIALS["stream truncated"]
    assert [trial(case, rng) for case in cases] == ["wrong"] * len(cases)


def test_each_check_catches_alone(monkeypatch):
    """The latents' CRC alone suffices; the slices' checks say where, and early."""
    monkeypatch.setattr(slice_loop._Reader, "guard", lambda self, check: None)
    counts = {
        name: found
        for name, found in perturbation.run(200, seed=4).items()
        if name not in ("stream flipped bits", "stream changed frame")  # the C library has guards
    }
    assert sum(counts.values(), Counter())["wrong"] == 0
