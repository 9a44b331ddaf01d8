"""Frequency modulation on a GPU: 2-D real transforms of small windows as DFT products.

A program holds a tile of T x T pixels and BC channels, T = max(16, P): one window, or several small
ones, which block-diagonal matrices keep apart. Along x the real transform is two products (cosine,
sine); along y the complex one is four; the inverse mirrors them. Nothing but input, weight and
output touches memory. Transforms run in float32: for 16-bit inputs, from Hopper on, by the matrix
units with three TF32 products in place of one; otherwise with IEEE products.
"""

from __future__ import annotations

import functools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ops.frequency_modulation import allocate
from ..ops.registry import NotAvailable
from .launch import Launch, architecture, run

WARPS = 8
PROGRAMS_WANTED = 528  # of the backward pass: four for each of 132 multiprocessors


def dft_matrices(size: int) -> Tensor:
    """[6, T, T] float64: the factors of the transforms of P x P windows, P = size, T = max(16, P).

    0, 1: x to kx, rows x (cosine, minus sine, with the orthonormal 1 / P of both directions);
    2, 3: y to ky (cosine, sine), symmetric; 4, 5: kx to x, rows kx (cosine, minus sine, with 1 / P
    and the multiplicity 2 of the frequencies that the half spectrum leaves out). Only the P // 2 +
    1 first kx of each window are used.
    """
    tile = max(16, size)
    index = torch.arange(tile)
    same = (index[:, None] // size == index[None, :] // size).double()
    angle = 2 * math.pi * ((index[:, None] % size) * (index[None, :] % size) % size) / size
    cosine, sine = same * angle.double().cos(), same * angle.double().sin()
    kx = index % size
    half = (kx <= size // 2).double()
    twice = half * torch.where((kx == 0) | (kx == size // 2), 1.0, 2.0)
    return torch.stack([
        cosine * half / size, -sine * half / size, cosine, sine,
        cosine * twice[:, None] / size, -sine * twice[:, None] / size,
    ])  # fmt: skip


@functools.lru_cache(maxsize=16)
def _matrices(size: int, device: torch.device) -> Tensor:
    return dft_matrices(size).float().to(device)


@triton.jit
def _matrix(matrices, which: tl.constexpr, T: tl.constexpr):
    row = tl.arange(0, T)
    return tl.load(matrices + which * T * T + row[:, None] * T + row[None, :])


@triton.jit
def _spectrum(x, matrices, T: tl.constexpr, BC: tl.constexpr, PRECISION: tl.constexpr):
    """x [T y * BC, T x] -> real and imaginary part of the spectrum, [T ky, BC * T kx]."""
    re = tl.dot(x, _matrix(matrices, 0, T), input_precision=PRECISION).reshape([T, BC * T])
    im = tl.dot(x, _matrix(matrices, 1, T), input_precision=PRECISION).reshape([T, BC * T])
    cosine = _matrix(matrices, 2, T)
    sine = _matrix(matrices, 3, T)
    out_re = tl.dot(cosine, re, input_precision=PRECISION)
    out_re += tl.dot(sine, im, input_precision=PRECISION)
    out_im = tl.dot(cosine, im, input_precision=PRECISION)
    out_im -= tl.dot(sine, re, input_precision=PRECISION)
    return out_re, out_im


@triton.jit
def _inverse(re, im, matrices, T: tl.constexpr, BC: tl.constexpr, PRECISION: tl.constexpr):
    """Spectrum [T ky, BC * T kx] -> windows [T y * BC, T x]."""
    cosine = _matrix(matrices, 2, T)
    sine = _matrix(matrices, 3, T)
    half_re = tl.dot(cosine, re, input_precision=PRECISION)
    half_re -= tl.dot(sine, im, input_precision=PRECISION)
    half_im = tl.dot(cosine, im, input_precision=PRECISION)
    half_im += tl.dot(sine, re, input_precision=PRECISION)
    out = tl.dot(half_re.reshape([T * BC, T]), _matrix(matrices, 4, T), input_precision=PRECISION)
    out += tl.dot(half_im.reshape([T * BC, T]), _matrix(matrices, 5, T), input_precision=PRECISION)
    return out


@triton.jit
def _tile(tile, first_channel, H, W, C, T: tl.constexpr, BC: tl.constexpr):
    """Offsets into [B, H, W, C] of a tile's elements [T y * BC, T x], and which of them exist."""
    columns = tl.cdiv(W, T)
    rows = tl.cdiv(H, T)
    line = tl.arange(0, T * BC)
    y = (tile // columns) % rows * T + line // BC
    c = first_channel + line % BC
    x = tile % columns * T + tl.arange(0, T)
    batch = (tile // (columns * rows)).to(tl.int64)
    offset = ((batch * H + y)[:, None] * W + x[None, :]) * C + c[:, None]
    return offset, ((y < H) & (c < C))[:, None] & (x < W)[None, :]


@triton.jit
def _weight(weight, first_channel, C, P: tl.constexpr, T: tl.constexpr, BC: tl.constexpr):
    """Real and imaginary part of the weight for a tile's spectrum, [T ky, BC * T kx]."""
    M: tl.constexpr = P // 2 + 1
    ky = tl.arange(0, T) % P
    line = tl.arange(0, BC * T)
    c = first_channel + line // T
    kx = line % T % P
    mask = ((c < C) & (kx < M))[None, :]
    address = weight + ((ky[:, None] * M + kx[None, :]) * C + c[None, :]) * 2
    re = tl.load(address, mask=mask, other=0.0).to(tl.float32)
    im = tl.load(address + 1, mask=mask, other=0.0).to(tl.float32)
    return re, im


@triton.jit
def _forward_kernel(
    x, weight, residual, out, matrices, H, W, C,
    P: tl.constexpr, T: tl.constexpr, BC: tl.constexpr, PRECISION: tl.constexpr,
    RESIDUAL: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(1) * BC
    offset, inside = _tile(tl.program_id(0), first, H, W, C, T, BC)
    pixels = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    re, im = _spectrum(pixels, matrices, T, BC, PRECISION)
    w_re, w_im = _weight(weight, first, C, P, T, BC)
    result = _inverse(re * w_re - im * w_im, re * w_im + im * w_re, matrices, T, BC, PRECISION)
    if RESIDUAL:
        result += tl.load(residual + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + offset, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(
    grad, x, weight, dx, partial, matrices, H, W, C, tiles, per_program,
    P: tl.constexpr, T: tl.constexpr, BC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dx of a chunk's tiles and the sum of their weight gradients.

    partial [chunk, 2, T ky, C, T kx] float32 receives sums of conj(spectrum of x) * spectrum of
    grad.
    """
    chunk = tl.program_id(0)
    first = tl.program_id(1) * BC
    sum_re = tl.zeros([T, BC * T], dtype=tl.float32)
    sum_im = tl.zeros([T, BC * T], dtype=tl.float32)
    for tile in range(chunk * per_program, min((chunk + 1) * per_program, tiles)):
        offset, inside = _tile(tl.zeros([], tl.int32) + tile, first, H, W, C, T, BC)
        g = tl.load(grad + offset, mask=inside, other=0.0).to(tl.float32)
        g_re, g_im = _spectrum(g, matrices, T, BC, PRECISION)
        w_re, w_im = _weight(weight, first, C, P, T, BC)
        result = _inverse(
            g_re * w_re + g_im * w_im, g_im * w_re - g_re * w_im, matrices, T, BC, PRECISION
        )
        tl.store(dx + offset, result.to(dx.dtype.element_ty), mask=inside)
        pixels = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
        re, im = _spectrum(pixels, matrices, T, BC, PRECISION)
        sum_re += re * g_re + im * g_im
        sum_im += re * g_im - im * g_re
    ky = tl.arange(0, T)
    line = tl.arange(0, BC * T)
    mask = (first + line // T < C)[None, :]
    address = partial + (chunk * 2 * T + ky[:, None]) * C * T + first * T + line[None, :]
    tl.store(address, sum_re, mask=mask)
    tl.store(address + T * T * C, sum_im, mask=mask)


def _settings(x: Tensor, weight: Tensor, arch: int, backward: bool) -> dict:
    ieee = x.dtype == torch.float32 or arch < 90
    size, (_, height, width, channels) = weight.shape[0], x.shape
    return {
        "H": height,
        "W": width,
        "C": channels,
        "P": size,
        "T": max(16, size),
        "BC": (4 if backward else 16) if ieee else 8,  # channels of a program
        "PRECISION": "ieee" if ieee else "tf32x3",
    }


def _grid(x: Tensor, settings: dict) -> tuple[int, int]:
    tile = settings["T"]
    tiles = x.shape[0] * -(-settings["H"] // tile) * -(-settings["W"] // tile)
    return tiles, -(-settings["C"] // settings["BC"])


def forward_launches(
    x: Tensor, weight: Tensor, residual: Tensor | None, out: Tensor, matrices: Tensor, arch: int
) -> list[Launch]:
    """`arch` is the compute capability, 90 for 9.0."""
    settings = _settings(x, weight, arch, False)
    tensors = {"x": x, "weight": weight, "residual": residual, "out": out, "matrices": matrices}
    arguments = tensors | settings | {"RESIDUAL": residual is not None}
    return [Launch(_forward_kernel, _grid(x, settings), arguments, WARPS)]


def backward_launches(
    grad: Tensor, x: Tensor, weight: Tensor, dx: Tensor, matrices: Tensor, arch: int
) -> tuple[list[Launch], Tensor]:
    """The launches and the partial sums that they fill, [chunks, 2, T, C, T]."""
    settings = _settings(x, weight, arch, True)
    tiles, blocks = _grid(x, settings)
    chunks = min(tiles, max(1, PROGRAMS_WANTED // blocks))
    per_program = -(-tiles // chunks)
    chunks = -(-tiles // per_program)
    tile = settings["T"]
    partial = x.new_empty(chunks, 2, tile, x.shape[3], tile, dtype=torch.float32)
    tensors = {"grad": grad, "x": x, "weight": weight, "dx": dx, "partial": partial}
    arguments = tensors | settings | {
        "matrices": matrices,
        "tiles": tiles,
        "per_program": per_program,
    }  # fmt: skip
    return [Launch(_backward_kernel, (chunks, blocks), arguments, WARPS)], partial


def forward(x, weight, residual):
    size = weight.shape[0]
    if size > 16 or size & (size - 1):
        raise NotAvailable(
            f"the Triton frequency modulation takes windows of 2, 4, 8 or 16 pixels, not {size}"
        )
    x, weight = x.contiguous(), weight.contiguous()
    residual = None if residual is None else residual.contiguous()
    out = allocate(x, weight, residual)
    matrices = _matrices(weight.shape[0], x.device)
    arch = architecture(x.device)
    run(forward_launches(x, weight, residual, out, matrices, arch), x.device)
    return out


def backward(grad, x, weight):
    grad, x, weight = grad.contiguous(), x.contiguous(), weight.contiguous()
    dx, size = x.new_empty(x.shape), weight.shape[0]
    matrices, arch = _matrices(size, x.device), architecture(x.device)
    launches, partial = backward_launches(grad, x, weight, dx, matrices, arch)
    run(launches, x.device)
    # The windows of a tile add up; then the half spectrum's multiplicity, as in the inverse.
    windows = partial.shape[2] // size
    total = partial.sum(0).reshape(2, windows, size, -1, windows, size).sum((1, 4))
    total = total[..., : size // 2 + 1].permute(1, 3, 2, 0).contiguous()
    total[:, 1 : size // 2] *= 2
    return dx, total.to(weight.dtype)
