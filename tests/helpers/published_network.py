"""Plain modules with the class names, attributes and call signatures of the published network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import ResidualBlockUpsample, ResidualBlockWithStride, conv3x3
from compressai.layers import subpel_conv3x3 as subpel
from torch import nn

from flic_kernels.ops.frequency_modulation import reference as modulate
from flic_kernels.ops.slice_attention import reference as attend_slices
from flic_kernels.ops.window_attention import branch_windows
from flic_kernels.ops.window_attention import reference as attend_windows


class WindowAttention(nn.Module):
    def __init__(self, window, heads):
        super().__init__()
        rows = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = nn.Parameter(0.5 * torch.randn(rows, heads))


class WindowFrequencyModulation(nn.Module):
    def __init__(self, channels, window):
        super().__init__()
        self.complex_weight = nn.Parameter(torch.randn(window, window // 2 + 1, channels, 2))
        self.window_size = window


class Swin_FDWA(nn.Module):  # noqa: N801
    def __init__(self, channels, heads, window, modulation, shifted):
        super().__init__()
        self.split_size, self.num_heads = window, heads
        self.shift_size = window // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        sizes = branch_windows(window)
        self.attns = nn.ModuleList(WindowAttention(size, heads // 4) for size in sizes)
        self.ffn = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.fm = WindowFrequencyModulation(channels, modulation)

    def forward(self, x, size):
        tables = [attn.relative_position_bias_table for attn in self.attns]
        attended = attend_windows(
            self.qkv(self.norm1(x)).unflatten(1, size), tables,
            num_heads=self.num_heads, window=self.split_size, shifted=self.shift_size > 0,
        )  # fmt: skip
        x = x + self.proj(attended.flatten(1, 2))
        hidden = self.ffn(self.norm2(x)).unflatten(1, size)
        return x + modulate(hidden, self.fm.complex_weight, residual=None).flatten(1, 2)


class FAT_Block(nn.Module):  # noqa: N801
    def __init__(self, channels, heads, kind, window=8, modulation=16):
        super().__init__()
        self.type = kind
        self.conv1_1 = nn.Conv2d(channels, channels, 1)
        self.trans_block = Swin_FDWA(channels, heads, window, modulation, kind == "SW")
        self.conv1_2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        t = self.conv1_1(x).flatten(2).transpose(1, 2)
        t = self.trans_block(t, tuple(x.shape[2:]))
        return x + self.conv1_2(t.transpose(1, 2).reshape(x.shape))


class TCA_Block(nn.Module):  # noqa: N801
    def __init__(self, channels, slices, heads):
        super().__init__()
        self.slices, self.num_heads, self.window_size = slices, heads, 8
        self.norm1 = nn.GroupNorm(slices, channels)
        self.norm2 = nn.GroupNorm(slices, channels)
        encoding = nn.Module()
        encoding.proj = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        encoding.norm = nn.GroupNorm(slices, channels)
        self.cpe = nn.Sequential(encoding)
        self.attn, self.mlp = nn.Module(), nn.Module()
        for owner, name in ((self, "q1"), (self, "k1"), (self, "v1"), (self.attn, "proj"),
                            (self.mlp, "fc1"), (self.mlp, "fc2")):  # fmt: skip
            setattr(owner, name, nn.Conv2d(channels, channels, 1, groups=slices))

    def forward(self, y):
        batch, channels, height, width = y.shape
        split = y.reshape(batch, channels, height // 8, 8, width // 8, 8)
        w = self.norm1(split.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, 8, 8))
        w = w + F.gelu(self.cpe[0].norm(self.cpe[0].proj(w)))
        q, k, v = (conv(w).flatten(2).transpose(1, 2) for conv in (self.q1, self.k1, self.v1))
        a = attend_slices(q, k, v, slices=self.slices, heads=self.num_heads)
        a = self.attn.proj(a.transpose(1, 2).unflatten(2, (8, 8)))
        a = a.reshape(batch, height // 8, width // 8, channels, 8, 8)
        y = y + a.permute(0, 3, 1, 4, 2, 5).reshape(y.shape)
        return y + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(y))))


class PublishedNetwork(nn.Module):
    """An analysis and a synthesis transform and one T-CA layer, small."""

    def __init__(self):
        super().__init__()
        small = {"window": 2, "modulation": 4}
        self.g_a = nn.Sequential(
            ResidualBlockWithStride(3, 8),
            FAT_Block(8, 4, "W", **small),
            FAT_Block(8, 4, "SW", **small),
            conv3x3(8, 32, stride=1),
        )
        self.tca = nn.Sequential(TCA_Block(32, 2, 4))
        self.g_s = nn.Sequential(
            ResidualBlockUpsample(32, 8), FAT_Block(8, 4, "SW", **small), subpel(8, 3, 1)
        )

    def forward(self, x):
        return self.g_s(self.tca(self.g_a(x)))
