"""FLIC's building blocks. All take and return channels-last tensors [B, H, W, C].

Modules and parameters carry the names of the published state dict. In this layout a 1x1 convolution
is a Linear on channels, and a 3x3 one sees the memory of PyTorch's channels_last format, so nothing
is ever copied from one layout to another.
"""

from __future__ import annotations

import functools

import torch
from compressai.layers import GDN as CompressAIGDN
from compressai.ops import NonNegativeParametrizer
from torch import Tensor, nn

from flic_kernels import conv3x3 as fused_conv3x3
from flic_kernels import fat_block, fused_linear
from flic_kernels.ops.fat_block import fat_parameters
from flic_kernels.ops.window_attention import branch_windows, relative_position_index


class Conv2d(nn.Conv2d):
    """Convolution [B, H, W, C_in] -> [B, H', W', C_out]; a 1x1 one is a Linear."""

    def forward(self, x: Tensor, **fused) -> Tensor:
        """fused: what follows a 3x3 convolution, as `flic_kernels.conv3x3` takes it."""
        if self.kernel_size == (1, 1) and self.groups == 1:
            x = x[:, :: self.stride[0], :: self.stride[1]]
            return fused_linear(x, self.weight.flatten(1), self.bias)
        if self.kernel_size == (3, 3) and self.groups == 1:
            return fused_conv3x3(x, self.weight, self.bias, stride=self.stride[0], **fused)
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PixelShuffle(nn.Module):
    """Sub-pixel rearrangement [B, H, W, C r^2] -> [B, H r, W r, C], channels as nn.PixelShuffle."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor


class SubpelConv2d(nn.Sequential):
    """3x3 convolution and sub-pixel upsampling in one operation (keys of compressai.layers)."""

    def __init__(self, c_in: int, c_out: int, factor: int):
        super().__init__(conv3x3(c_in, c_out * factor**2), PixelShuffle(factor))

    def forward(self, x: Tensor, **fused) -> Tensor:
        """fused: as for `Conv2d`."""
        conv, shuffle = self
        return conv(x, shuffle=shuffle.factor, **fused)


def conv3x3(c_in: int, c_out: int, stride: int = 1, groups: int = 1) -> Conv2d:
    """3x3 convolution, zero padded."""
    return Conv2d(c_in, c_out, 3, stride=stride, padding=1, groups=groups)


def subpel_conv3x3(c_in: int, c_out: int, factor: int) -> SubpelConv2d:
    """3x3 convolution followed by sub-pixel upsampling."""
    return SubpelConv2d(c_in, c_out, factor)


class _NonNegative(NonNegativeParametrizer):
    """CompressAI's, for any device: its buffers are made on the CPU whatever torch's default is."""

    def init(self, x: Tensor) -> Tensor:
        pedestal = self.pedestal.to(x.device)
        return torch.sqrt(torch.max(x + pedestal, pedestal))


class GDN(CompressAIGDN):
    """Parameters of generalised divisive normalisation (Ballé et al., 2016).

    Under `torch.device("meta")`, too, where CompressAI's own constructor fails.
    """

    def __init__(self, channels: int, inverse: bool = False):
        nn.Module.__init__(self)
        self.inverse = inverse
        self.beta_reparam = _NonNegative(minimum=1e-6)
        self.beta = nn.Parameter(self.beta_reparam.init(torch.ones(channels)))
        self.gamma_reparam = _NonNegative()
        self.gamma = nn.Parameter(self.gamma_reparam.init(0.1 * torch.eye(channels)))

    def fused(self, residual: Tensor) -> dict:
        """It and a residual, as what follows a 3x3 convolution."""
        return {
            "gamma": self.gamma_reparam(self.gamma),
            "beta": self.beta_reparam(self.beta),
            "inverse": bool(self.inverse),
            "residual": residual,
        }


class ResidualBlockWithStride(nn.Module):
    """Residual block that halves the resolution (compressai.layers.ResidualBlockWithStride)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv1 = conv3x3(c_in, c_out, stride=2)
        self.conv2 = conv3x3(c_out, c_out)
        self.gdn = GDN(c_out)
        self.skip = Conv2d(c_in, c_out, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x, leaky=True), **self.gdn.fused(self.skip(x)))


class ResidualBlockUpsample(nn.Module):
    """Residual block that doubles the resolution (compressai.layers.ResidualBlockUpsample)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.subpel_conv = subpel_conv3x3(c_in, c_out, 2)
        self.conv = conv3x3(c_out, c_out)
        self.igdn = GDN(c_out, inverse=True)
        self.upsample = subpel_conv3x3(c_in, c_out, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.subpel_conv(x, leaky=True)
        return self.conv(hidden, **self.igdn.fused(self.upsample(x)))


class WindowBias(nn.Module):
    """One branch's relative position bias; the index buffer is derived and kept for its key."""

    def __init__(self, window: tuple[int, int], heads: int):
        super().__init__()
        rows = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", _position_index(window).clone())


@functools.cache
def _position_index(window: tuple[int, int]) -> Tensor:
    """`relative_position_index`, on the CPU whatever torch's default device is."""
    with torch.device("cpu"):
        return relative_position_index(*window)


class FrequencyModulation(nn.Module):
    """The complex weight of a window's spectrum, [P, P // 2 + 1, C, 2]."""

    def __init__(self, channels: int, window: int):
        super().__init__()
        weight = 0.02 * torch.randn(window, window // 2 + 1, channels, 2)
        weight[..., 0] += 1
        self.complex_weight = nn.Parameter(weight)


class TransformerBlock(nn.Module):
    """Parameters of FDWA and FMFFN, each with its LayerNorm (paper, section 3.1)."""

    def __init__(self, channels: int, heads: int, window: int, modulation: int):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.norm1 = nn.LayerNorm(channels)
        self.proj = nn.Linear(channels, channels)
        self.attns = nn.ModuleList(WindowBias(size, heads // 4) for size in branch_windows(window))
        self.fm = FrequencyModulation(channels, modulation)
        self.ffn = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.norm2 = nn.LayerNorm(channels)


class FATBlock(nn.Module):
    """Frequency-aware transformer block: a transformer block between two 1x1 convolutions."""

    def __init__(
        self, channels: int, heads: int, *, shifted: bool, window: int = 8, modulation: int = 16
    ):
        super().__init__()
        self.num_heads, self.window, self.shifted = heads, window, shifted
        self.trans_block = TransformerBlock(channels, heads, window, modulation)
        self.conv1_1 = Conv2d(channels, channels, 1)
        self.conv1_2 = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return fat_block(
            x, fat_parameters(self), num_heads=self.num_heads, window=self.window,
            shifted=self.shifted,
        )  # fmt: skip


class Transform(nn.Sequential):
    """A chain of channels-last modules with the usual face: [B, C, H, W] in and out.

    The result is in channels_last memory format; only what comes in another one, as pictures do, is
    copied, here, once for all that reads it.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
