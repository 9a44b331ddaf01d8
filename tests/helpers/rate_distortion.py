"""Metrics and BD-rates from their definitions in numpy, with nothing of flic's."""

import numpy as np

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik 2003


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB of uint8 arrays."""
    error = a.astype(np.float64) - b.astype(np.float64)
    return 20 * np.log10(255) - 10 * np.log10(np.mean(error * error))


def gaussian() -> np.ndarray:
    """11 taps of standard deviation 1.5 that sum to 1."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    return taps / taps.sum()


def ms_ssim(a: np.ndarray, b: np.ndarray, window: np.ndarray | None = None) -> float:
    """Mean over channels of uint8 [H, W, C]; sides that halve evenly four times."""
    window = gaussian() if window is None else window
    values = []
    for c in range(a.shape[2]):
        x, y = (plane[..., c].astype(np.float64) for plane in (a, b))
        value = 1.0
        for scale, weight in enumerate(_WEIGHTS):
            similarity, contrast = _ssim(x, y, window)
            value *= max(similarity if scale == 4 else contrast, 0) ** weight
            if scale < 4:
                x, y = (p.reshape(p.shape[0] // 2, 2, -1, 2).mean((1, 3)) for p in (x, y))
        values.append(value)
    return float(np.mean(values))


def _ssim(x: np.ndarray, y: np.ndarray, window: np.ndarray) -> tuple[float, float]:
    """Mean of SSIM, and of its contrast and structure part."""

    def blur(p):  # where the window fits
        rows = np.lib.stride_tricks.sliding_window_view(p, len(window), axis=0) @ window
        return np.lib.stride_tricks.sliding_window_view(rows, len(window), axis=1) @ window

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    contrast = (2 * vxy + c2) / (vx + vy + c2)
    return ((2 * mx * my + c1) / (mx * mx + my * my + c1) * contrast).mean(), contrast.mean()


def bd_rate(anchor, test, interpolate) -> float:
    """Percent. anchor, test: (rates, qualities) by rising quality; interpolate(x, y, points)."""
    low = max(anchor[1][0], test[1][0])
    high = min(anchor[1][-1], test[1][-1])
    points = low + (np.arange(200_000) + 0.5) / 200_000 * (high - low)
    logs = [interpolate(np.array(q), np.log(r), points) for r, q in (anchor, test)]
    return 100 * (np.exp(np.mean(logs[1] - logs[0])) - 1)


def cubic(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The polynomial through four points, by Lagrange."""
    total = np.zeros_like(points)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        total += y[i] * np.prod([(points - x[j]) / (x[i] - x[j]) for j in others], axis=0)
    return total


def pchip(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Piecewise cubic Hermite with Fritsch and Butland's slopes; a line through two points."""
    h, secants = np.diff(x), np.diff(y) / np.diff(x)
    slopes = np.zeros_like(x)
    for i in range(1, len(x) - 1):
        before, after = secants[i - 1], secants[i]
        if before * after > 0:
            w1, w2 = 2 * h[i] + h[i - 1], h[i] + 2 * h[i - 1]
            slopes[i] = (w1 + w2) / (w1 / before + w2 / after)
    if len(x) == 2:
        slopes[:] = secants[0]
    else:
        slopes[0] = _end_slope(h[0], h[1], secants[0], secants[1])
        slopes[-1] = _end_slope(h[-1], h[-2], secants[-1], secants[-2])
    i = np.clip(np.searchsorted(x, points) - 1, 0, len(h) - 1)
    t = (points - x[i]) / h[i]
    return (
        (1 + 2 * t) * (1 - t) ** 2 * y[i]
        + t * (1 - t) ** 2 * h[i] * slopes[i]
        + t * t * (3 - 2 * t) * y[i + 1]
        + t * t * (t - 1) * h[i] * slopes[i + 1]
    )


def _end_slope(h0: float, h1: float, s0: float, s1: float) -> float:
    """Three-point formula, kept from overshooting."""
    slope = ((2 * h0 + h1) * s0 - h0 * s1) / (h0 + h1)
    if slope * s0 <= 0:
        return 0.0
    if s0 * s1 <= 0 and abs(slope) > 3 * abs(s0):
        return 3 * s0
    return slope
