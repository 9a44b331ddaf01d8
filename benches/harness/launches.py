"""The launches that the operators make at the codec's shapes and beyond, from meta tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from flic_kernels.ops.window_attention import BRANCHES, branch_windows
from flic_kernels.triton import (
    frequency_modulation,
    fused_linear,
    gdn,
    positional_encoding,
    slice_attention,
    window_attention,
)
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
        *window_attention.forward_launches(qkv, tables, out, None, *settings),
        *window_attention.forward_launches(qkv, tables, out, lse, *settings),
        *window_attention.backward_launches(out, qkv, tables, out, lse, qkv, tables, *settings),
    ]


def frequency_modulation_launches(size, channels, window, dtype, arch) -> list[Launch]:
    x = _meta(1, *size, channels, dtype=dtype)
    weight = _meta(window, window // 2 + 1, channels, 2, dtype=torch.float32)
    matrices = _meta(6, 16, 16, dtype=torch.float32)
    forward = frequency_modulation.forward_launches(x, weight, x, x, matrices, arch)
    forward += frequency_modulation.forward_launches(x, weight, None, x, matrices, arch)
    return forward + frequency_modulation.backward_launches(x, x, weight, x, matrices, arch)[0]


def slice_attention_launches(windows, channels, slices, heads, dtype, arch) -> list[Launch]:
    q = _meta(windows, 64, channels, dtype=dtype)
    lse = _meta(windows, heads, channels // heads, dtype=torch.float32)
    forward = slice_attention.forward_launches(q, q, q, q, lse, slices, heads, arch)
    forward += slice_attention.forward_launches(q, q, q, q, None, slices, heads, arch)
    gradients = q, q, q
    return forward + slice_attention.backward_launches(
        q, q, q, q, q, lse, gradients, slices, heads, arch
    )


def fused_linear_launches(rows, k, n, parts, groups, dtype, arch) -> list[Launch]:
    x, out = _meta(rows, groups * k, dtype=dtype), _meta(rows, groups * n, dtype=dtype)
    norm = _meta(k, dtype=torch.float32) if "norm" in parts else None
    bias = _meta(groups * n, dtype=torch.float32) if "bias" in parts else None
    residual = out if "residual" in parts else None
    weight = _meta(groups * n, k, dtype=torch.float32)
    settings = "gelu" in parts, groups, 1e-5
    return fused_linear.forward_launches(x, weight, bias, norm, norm, residual, out, *settings)


def gdn_launches(rows, channels, inverse, dtype, arch) -> list[Launch]:
    x = _meta(rows, channels, dtype=dtype)
    gamma = _meta(channels, channels, dtype=torch.float32)
    return gdn.forward_launches(x, gamma, gamma[0], x, x, inverse)


def positional_encoding_launches(size, channels, slices, dtype, arch) -> list[Launch]:
    u, vector = _meta(1, *size, channels, dtype=dtype), _meta(channels, dtype=torch.float32)
    conv = _meta(channels, 1, 3, 3, dtype=torch.float32)
    parameters = vector, vector, conv, vector, vector, vector
    return positional_encoding.forward_launches(u, parameters, u, slices, 8, 1e-5)


# Of other models: the widths, beside the codec's 16, to which the kernels pad heads.
WIDE_HEADS = [
    (
        f"window attention heads of {dim}{part}",
        window_attention_launches,
        (size, 8 * dim, 8, window),
    )
    for dim in (32, 64)
    for part, size, window in (("", (64, 96), 8), (" hyper", (16, 24), 2))
]


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
            *WIDE_HEADS,
            ("frequency modulation 96", frequency_modulation_launches, ((256, 384), 96, 16)),
            ("frequency modulation 144", frequency_modulation_launches, ((128, 192), 144, 16)),
            ("frequency modulation 256 hyper", frequency_modulation_launches, ((16, 24), 256, 4)),
            ("linear 96 norm", fused_linear_launches, (98304, 96, 288, "norm", 1)),
            ("linear 96 ffn", fused_linear_launches, (98304, 96, 384, "norm bias gelu", 1)),
            ("linear 256 residual", fused_linear_launches, (6144, 1024, 256, "bias residual", 1)),
            ("linear 5 x 256", fused_linear_launches, (1536, 256, 256, "bias gelu", 5)),
            ("gdn 96", gdn_launches, (98304, 96, False)),
            ("igdn 256", gdn_launches, (6144, 256, True)),
            ("positional encoding 5 x 256", positional_encoding_launches, ((32, 48), 1280, 5)),
            ("slice attention 1280/16", slice_attention_launches, (24, 1280, 5, 16)),
        ]
        seen = set()
        for name, build, arguments in cases:
            if subset and build in seen:
                continue
            seen.add(build)
            for launch in build(*arguments, dtype, arch):
                yield name, dtype, launch
