"""A sample of `make perturb`, and proof that it would notice."""

from collections import Counter

import perturbation
import pytest

from flic import entropy

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
    assert counts["noise 1e-3 of both"]["identical"] == 0


def test_without_the_checks_pictures_are_wrong(monkeypatch):
    """What the slices' checks and the latents' CRC are there for."""
    monkeypatch.setattr(entropy._Reader, "guard", lambda self, check: None)
    monkeypatch.setattr(entropy._Reader, "finish", lambda self, z, y: self._coder.close())
    counts = perturbation.run(400, seed=2)
    assert counts["noise 1e-5 of both"]["wrong"] > 0
    assert counts["stream foreign checks"]["wrong"] > 10


def test_each_check_catches_alone(monkeypatch):
    """The latents' CRC alone suffices; the slices' checks say where, and early."""
    monkeypatch.setattr(entropy._Reader, "guard", lambda self, check: None)
    counts = perturbation.run(400, seed=4)
    assert sum(counts.values(), Counter())["wrong"] == 0
