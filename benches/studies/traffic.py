"""Count the bytes that a block moves through memory, eagerly and with the fused operations.

    python -m benches traffic [--write docs/kernels.md]

The unit is C elements a pixel: an activation of the block's width read or written once. Weights are
left out (a few hundred KB a block) and so are re-reads that a cache serves. Eager attention writes
its scores, so its traffic depends on heads and windows; everything else is the same at every width.
"""

from __future__ import annotations

from collections.abc import Sequence

from benches.harness import document, study
from flic_kernels.ops.window_attention import BRANCHES, branch_windows

MODULATION_EAGER = 1 + 1.125 + 2 * 1.125 + 2 * 1.125 + 2 * 1.125 + 1.125 + 1


def scores_passes(channels: int, heads: int, window: int = 8) -> float:
    """Six passes over the scores: product, + bias (2), softmax (2), product with v."""
    pixels = sum(height * width for height, width in branch_windows(window))
    return 6 * heads / BRANCHES * pixels / channels


def fat_block(channels: int, heads: int, shifted: bool) -> list[tuple[str, float, float]]:
    """(part, eager, fused) in units of C elements a pixel."""
    rolls = 8 if shifted else 0
    attention = rolls + 6 + 2 + scores_passes(channels, heads) + 1 + 2 + 2
    return [
        ("conv1_1", 2, 2),
        ("norm1, qkv", 2 + 4, 1 + 3),
        ("window attention", attention, 3 + 1),
        ("proj, residual", 2 + 3, 3),
        ("norm2, first ffn product, GELU", 2 + 5 + 8, 1 + 4),
        ("second ffn product", 5, 5),
        ("modulation, residual", MODULATION_EAGER + 3, 3),
        ("conv1_2, residual", 2 + 3, 3),
    ]


def tca_layer(heads: int = 16, tokens: int = 80, slices: int = 5) -> list[tuple[str, float, float]]:
    """As `fat_block`, for 64 positions a window; scores of masked keys are not computed."""
    keys = tokens * (slices + 1) / (2 * slices)
    scores = 6 * keys / 64
    return [
        ("windows, norm1, positional encoding", 2 + 3 + 2 + 3 + 2 + 3, 1 + 1),
        ("q1, k1, v1", 6, 6),
        ("slice attention", 6 + scores + 1 + 2 + 2, 3 + 1),
        ("attn.proj, back from windows, residual", 2 + 2 + 3, 2 + 2 + 3),
        ("norm2", 3, 3),
        ("fc1, GELU", 2 + 2, 2),
        ("fc2, residual", 2 + 3, 3),
    ]


GDN = [("square, product, root, multiplication, residual", 2 + 2 + 2 + 3 + 3, 1 + 1 + 1)]


def rows() -> list[tuple[str, float, float, float, int, int]]:
    """(block, eager, fused, floor, channels, pixels at 768x512)."""
    found = []
    for channels, heads, scale in ((96, 8, 2), (144, 16, 4), (256, 32, 8)):
        pixels = 768 * 512 // scale**2
        for shifted in (False, True):
            parts = fat_block(channels, heads, shifted)
            name = f"FAT block {channels}/{heads}" + (", shifted" if shifted else "")
            floor = 4 if shifted else 2
            found.append((name, *_total(parts), floor, channels, pixels))
    found.append(("T-CA layer", *_total(tca_layer()), 4, 1280, 768 * 512 // 256))
    found.append(("GDN or IGDN with residual, 96", *_total(GDN), 3, 96, 768 * 512 // 4))
    return found


def _total(parts: list[tuple[str, float, float]]) -> tuple[float, float]:
    return sum(part[1] for part in parts), sum(part[2] for part in parts)


def tables() -> str:
    """All the counts in Markdown."""
    lines = ["| block | eager | fused | floor | eager, MB | fused, MB | floor, MB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, eager, fused, floor, channels, pixels in rows():
        unit = 2 * channels * pixels / 1e6
        counts = " | ".join(f"{value:.3g}" for value in (eager, fused, floor))
        sizes = " | ".join(f"{value * unit:.0f}" for value in (eager, fused, floor))
        lines.append(f"| {name} | {counts} | {sizes} |")
    lines.append("\nBy part:")
    for title, parts in (("FAT block 96/8", fat_block(96, 8, False)), ("T-CA layer", tca_layer())):
        lines.append(f"\n| {title} | eager | fused |\n|---|---|---|")
        lines += [f"| {part} | {eager:.3g} | {fused:.3g} |" for part, eager, fused in parts]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    parser = study.parser(__name__, __doc__, publishes=False)
    document.add_option(parser, "traffic")
    given = parser.parse_args(arguments)
    print(tables())
    if given.write:
        document.replace(*given.write, tables())
