"""The launches that the operators make at the codec's shapes, built from meta tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from flic_kernels.ops.window_attention import BRANCHES, branch_windows
from flic_kernels.triton import frequency_modulation, slice_attention, window_attention
from flic_kernels.triton.launch import Launch

DTYPES = (torch.bfloat16, torch.float32, torch.float16)


def _meta(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def window_attention_launches(size, channels, heads, window, dtype, arch) -> list[Launch]:
    height, width = size
    qkv = _meta(1, height, width, 3 * channels, dtype=dtype)
    out = _meta(1, height, width, channels, dtype=dtype)
    lse = _meta(heads, height * width, dtype=torch.float32)
    tables = [
        _meta((2 * wh - 1) * (2 * ww - 1), heads // BRANCHES, dtype=torch.float32)
        for wh, ww in branch_windows(window)
    ]
    settings = heads, window, True
    return [
        *window_attention.forward_launches(qkv, tables, out, lse, *settings),
        *window_attention.backward_launches(out, qkv, tables, out, lse, qkv, tables, *settings),
    ]


def frequency_modulation_launches(size, channels, window, dtype, arch) -> list[Launch]:
    x = _meta(1, *size, channels, dtype=dtype)
    weight = _meta(window, window // 2 + 1, channels, 2, dtype=torch.float32)
    matrices = _meta(6, 16, 16, dtype=torch.float32)
    forward = frequency_modulation.forward_launches(x, weight, x, x, matrices, arch)
    return forward + frequency_modulation.backward_launches(x, x, weight, x, matrices, arch)[0]


def slice_attention_launches(windows, channels, slices, heads, dtype, arch) -> list[Launch]:
    q = _meta(windows, 64, channels, dtype=dtype)
    lse = _meta(windows, heads, channels // heads, dtype=torch.float32)
    forward = slice_attention.forward_launches(q, q, q, q, lse, slices, heads, arch)
    gradients = q, q, q
    return forward + slice_attention.backward_launches(
        q, q, q, q, q, lse, gradients, slices, heads, arch
    )


def every_launch(arch: int, subset: bool = False) -> Iterator[tuple[str, torch.dtype, Launch]]:
    """(case, dtype, launch) on compute capability `arch` (90: 9.0).

    `subset` keeps bfloat16 and the first case of each operation.
    """
    for dtype in DTYPES[: 1 if subset else None]:
        cases = [
            ("window attention 96/8", window_attention_launches, ((256, 384), 96, 8, 8)),
            ("window attention 144/16", window_attention_launches, ((128, 192), 144, 16, 8)),
            ("window attention 256/32", window_attention_launches, ((64, 96), 256, 32, 8)),
            ("window attention 256/32 hyper", window_attention_launches, ((16, 24), 256, 32, 2)),
            ("frequency modulation 96", frequency_modulation_launches, ((256, 384), 96, 16)),
            ("frequency modulation 144", frequency_modulation_launches, ((128, 192), 144, 16)),
            ("frequency modulation 256 hyper", frequency_modulation_launches, ((16, 24), 256, 4)),
            ("slice attention 1280/16", slice_attention_launches, (24, 1280, 5, 16)),
        ]
        seen = set()
        for name, build, arguments in cases:
            if subset and build in seen:
                continue
            seen.add(build)
            for launch in build(*arguments, dtype, arch):
                yield name, dtype, launch
