"""BD-rates against integrals of their own, and why there is none."""

import pytest
import rate_distortion

from flic.evaluation import bd
from flic.evaluation.results import Curve, Point, Row


def curve(name: str, rates, qualities, kind: str = "model") -> Curve:
    points = [
        Point(str(i), {}, (Row("a", 9, 9, 9, rate, quality, None, None),))
        for i, (rate, quality) in enumerate(zip(rates, qualities, strict=True))
    ]
    return Curve(name, kind, "", tuple(points))


ANCHOR = ((0.15, 0.31, 0.62, 1.1), (28.1, 31.0, 33.7, 36.2))
TEST = ((0.11, 0.2, 0.45, 0.9), (28.6, 30.2, 33.1, 36.9))
MORE = ((0.1, 0.13, 0.2, 0.33, 0.5, 0.8, 1.3), (26.0, 27.9, 29.1, 31.8, 32.4, 34.9, 37.0))


class TestBDRate:
    @pytest.mark.parametrize(
        "method, anchor",
        [("cubic", ANCHOR), ("pchip", ANCHOR), ("pchip", MORE)],
    )
    def test_against_an_integration_of_its_own(self, method, anchor):
        interpolate = getattr(rate_distortion, method)
        right = rate_distortion.bd_rate(anchor, TEST, interpolate)
        found = bd.compare(curve("t", *TEST), curve("a", *anchor), "psnr", method)
        assert found.bd_rate == pytest.approx(right, abs=1e-6)
        assert (found.low, found.high) == (max(anchor[1][0], 28.6), min(anchor[1][-1], 36.9))
        assert found.reason is None

    @pytest.mark.parametrize("method", bd.METHODS)
    def test_half_the_rate(self, method):
        halved = curve("t", [rate / 2 for rate in ANCHOR[0]], ANCHOR[1])
        found = bd.compare(halved, curve("a", *ANCHOR), "psnr", method)
        assert found.bd_rate == pytest.approx(-50, abs=1e-9)
        assert found.overlap == 1

    def test_order_of_points_does_not_matter(self):
        turned = curve("t", TEST[0][::-1], TEST[1][::-1])
        straight = bd.compare(curve("t", *TEST), curve("a", *ANCHOR), "psnr")
        assert bd.compare(turned, curve("a", *ANCHOR), "psnr") == straight

    @pytest.mark.parametrize(
        "rates, qualities, method, reason",
        [
            ((0.2,), (30.0,), "pchip", "needs 2 points, t has 1"),
            ((0.2, 0.3, 0.4), (30.0, 31.0, 32.0), "cubic", "needs 4 points, t has 3"),
            ((0.2, 0.4), (20.0, 28.1), "pchip", "no quality in common"),
            ((0.2, 0.4), (31.0, 30.0), "pchip", "does not grow"),
            ((0.2, 0.2), (30.0, 31.0), "pchip", "does not grow"),
            ((0.2, 0.4), (30.0, float("inf")), "pchip", "without loss"),
        ],
    )
    def test_says_why_there_is_none(self, rates, qualities, method, reason):
        found = bd.compare(curve("t", rates, qualities), curve("a", *ANCHOR), "psnr", method)
        assert found.bd_rate is None and reason in found.reason

    def test_a_metric_that_is_missing(self):
        found = bd.compare(curve("t", *TEST), curve("a", *ANCHOR), "ms_ssim_db")
        assert "lacks this metric" in found.reason

    def test_who_is_compared_with_whom(self):
        curves = [curve("1", *TEST), curve("2", *ANCHOR), curve("3", *MORE, kind="anchor")]
        pairs = [(c.curve, c.reference) for c in bd.compare_all(curves) if c.metric == "psnr"]
        assert pairs == [("1", "3"), ("2", "3"), ("2", "1")]
