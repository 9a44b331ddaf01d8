"""T-CA, the transformer-based channel-wise autoregressive entropy model (paper, section 3.4).

Everything in it is grouped by slice, and a slice sees itself and earlier ones only. So a run of
consecutive slices [first, last) can be computed alone: all at once for training and evaluation, or
one by one on cached keys and values, where a whole picture costs one pass in total. That second
way, in plain operations, is the eager reference of the exact engine, which coding uses
(flic/coding/entropy_engine.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from flic_kernels.ops.slice_attention import attend
from flic_kernels.tca import tca_layer

from ..config import TCA_HEADS, TCA_WINDOW, Config
from .layers import conv3x3


def grouped_conv(conv: nn.Conv2d, x: Tensor, slices: int, first: int, last: int) -> Tensor:
    """The groups [first, last) of a convolution with one group a slice, [B, H, W, C] channels."""
    size = conv.weight.shape[0] // slices
    weight = conv.weight[first * size : last * size]
    bias = conv.bias[first * size : last * size]
    out = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=conv.padding, groups=last - first)
    return out.permute(0, 2, 3, 1)


def grouped_norm(norm: nn.GroupNorm, x: Tensor, first: int, last: int) -> Tensor:
    """The groups [first, last) of a GroupNorm with one group a slice, [B, H, W, C] channels."""
    size = norm.weight.shape[0] // norm.num_groups
    weight = norm.weight[first * size : last * size]
    bias = norm.bias[first * size : last * size]
    out = F.group_norm(x.permute(0, 3, 1, 2), last - first, weight, bias, norm.eps)
    return out.permute(0, 2, 3, 1)


def to_windows(u: Tensor) -> Tensor:
    """[B, H, W, C] -> [B H/8 W/8, 8, 8, C]."""
    return rearrange(u, "b (r y) (c x) d -> (b r c) y x d", y=TCA_WINDOW, x=TCA_WINDOW)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """[B H/8 W/8, 8, 8, C] -> [B, H, W, C]."""
    rows, columns = height // TCA_WINDOW, width // TCA_WINDOW
    return rearrange(windows, "(b r c) y x d -> b (r y) (c x) d", r=rows, c=columns)


class PositionalEncoding(nn.Module):
    """Depthwise 3x3 convolution and GroupNorm, the conditional positional encoding of a layer."""

    def __init__(self, channels: int, slices: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.GroupNorm(slices, channels)


class KeyValueCache:
    """Keys and values of the slices computed so far, for one layer: [N, L, C] each."""

    def __init__(self, windows: int, channels: int, like: Tensor):
        shape = (windows, TCA_WINDOW**2, channels)
        self.keys, self.values = like.new_empty(shape), like.new_empty(shape)

    def extend(self, k: Tensor, v: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Store channels [first, last) and return all up to `last`."""
        self.keys[..., first:last], self.values[..., first:last] = k, v
        return self.keys[..., :last], self.values[..., :last]


class TCABlock(nn.Module):
    """One layer of T-CA on [B, H, W, C], C a run of slices of `channels // slices` each."""

    def __init__(self, channels: int, slices: int):
        super().__init__()
        self.slices = slices
        self.q1 = nn.Conv2d(channels, channels, 1, groups=slices)
        self.k1 = nn.Conv2d(channels, channels, 1, groups=slices)
        self.v1 = nn.Conv2d(channels, channels, 1, groups=slices)
        self.norm1 = nn.GroupNorm(slices, channels)
        self.norm2 = nn.GroupNorm(slices, channels)
        self.cpe = nn.Sequential(PositionalEncoding(channels, slices))
        self.attn = nn.ModuleDict({"proj": nn.Conv2d(channels, channels, 1, groups=slices)})
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Conv2d(channels, channels, 1, groups=slices),
                "fc2": nn.Conv2d(channels, channels, 1, groups=slices),
            }
        )

    def forward(
        self, u: Tensor, first: int, last: int, cache: KeyValueCache | None = None
    ) -> Tensor:
        """All slices of the layer as fused operations, or [first, last) with a cache."""
        if cache is None:
            return tca_layer(self, u, heads=TCA_HEADS, window=TCA_WINDOW)
        _, height, width, _ = u.shape
        run = (first, last)
        w = grouped_norm(self.norm1, to_windows(u), *run)
        w = w + F.gelu(self._positions(w, *run))
        q, k, v = (
            grouped_conv(conv, w, self.slices, *run).flatten(1, 2)
            for conv in (self.q1, self.k1, self.v1)
        )
        attended = self._attend(q, k, v, first, last, cache).unflatten(1, (TCA_WINDOW, TCA_WINDOW))
        attended = grouped_conv(self.attn["proj"], attended, self.slices, *run)
        u = u + from_windows(attended, height, width)
        hidden = grouped_norm(self.norm2, u, *run)
        hidden = F.gelu(grouped_conv(self.mlp["fc1"], hidden, self.slices, *run))
        return u + grouped_conv(self.mlp["fc2"], hidden, self.slices, *run)

    def _positions(self, w: Tensor, first: int, last: int) -> Tensor:
        encoding, channels = self.cpe[0], w.shape[3]
        start = first * (channels // (last - first))
        weight = encoding.proj.weight[start : start + channels]
        bias = encoding.proj.bias[start : start + channels]
        out = F.conv2d(w.permute(0, 3, 1, 2), weight, bias, padding=1, groups=channels)
        return grouped_norm(encoding.norm, out.permute(0, 2, 3, 1), first, last)

    def _attend(self, q, k, v, first: int, last: int, cache: KeyValueCache) -> Tensor:
        size = self.q1.weight.shape[0] // self.slices
        k, v = cache.extend(k, v, first * size, last * size)
        scale = (self.slices * size // TCA_HEADS) ** -0.5
        return attend(q, k, v, heads=TCA_HEADS, scale=scale)


class TCATrunk(nn.Module):
    """Lift and layers, with the start token that the hyperprior gives (keys tca.TCA.*)."""

    def __init__(self, config: Config):
        super().__init__()
        size, inner = config.slice_channels, config.latent * config.ratio
        # Present in the published state dict, used by nothing.
        self.start_token = nn.Parameter(torch.zeros(1, size, 1, 1))
        self.lift = conv3x3(config.latent, inner, groups=config.slices)
        self.start_token_from_hyperprior = conv3x3(2 * config.latent, size)
        self.layers = nn.ModuleList(TCABlock(inner, config.slices) for _ in range(config.depth))


class TCAState:
    """What coding a picture slice by slice keeps: hyper features, start token, cached layers."""

    def __init__(self, start: Tensor, side: Tensor, caches: list[KeyValueCache]):
        self.start, self.side, self.caches = start, side, caches


class TCAEntropyModel(nn.Module):
    """Means, scales and residual corrections of y, each slice from the hyperprior and its past."""

    def __init__(self, config: Config):
        super().__init__()
        self.slices, self.latent, self.ratio = config.slices, config.latent, config.ratio
        latent, groups = config.latent, config.slices
        self.TCA = TCATrunk(config)
        self.hyper_trans = nn.Linear(2 * latent, 2 * latent)
        self.entropy_parameters_net = nn.Sequential(
            conv3x3((config.ratio + 2) * latent, 2 * latent, groups=groups),
            nn.GELU(),
            conv3x3(2 * latent, 3 * latent, groups=groups),
            nn.GELU(),
            conv3x3(3 * latent, 3 * latent, groups=groups),
        )

    def forward(self, hyper: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All slices at once.

        Args:
            hyper: [B, 2M, H, W], means and scales of the hyperprior; H and W multiples of 8.
            y: [B, M, H, W], the rounded latents.

        Returns:
            means, scales and lrp, [B, M, H, W] each.
        """
        start, side = self._condition(hyper.permute(0, 2, 3, 1))
        size = self.latent // self.slices
        past = torch.cat((start, y.permute(0, 2, 3, 1)[..., :-size]), dim=3)
        return self._run(past, side, 0, self.slices, None)

    def begin(self, hyper: Tensor) -> TCAState:
        """Start coding slice by slice; `hyper` as for `forward`."""
        hyper = hyper.permute(0, 2, 3, 1)
        start, side = self._condition(hyper)
        batch, height, width, _ = hyper.shape
        windows = batch * height * width // TCA_WINDOW**2
        inner = self.latent * self.ratio
        caches = [KeyValueCache(windows, inner, hyper) for _ in self.TCA.layers]
        return TCAState(start, side, caches)

    def next_slice(self, state: TCAState, i: int, y: Tensor | None) -> tuple[Tensor, ...]:
        """Means, scales and lrp of slice i, [B, M / slices, H, W] each.

        Slices are asked for in order; `y` [B, M / slices, H, W] is the decoded slice i - 1, None
        for the first.
        """
        past = state.start if i == 0 else y.permute(0, 2, 3, 1)
        return self._run(past, state.side, i, i + 1, state.caches)

    def _condition(self, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """hyper [B, H, W, 2M] -> start token [B, H, W, M / slices] and side [B, H, W, M, 2]."""
        start = self.TCA.start_token_from_hyperprior(hyper)
        return start, self.hyper_trans(hyper).unflatten(3, (self.latent, 2))

    def _run(self, past, side, first: int, last: int, caches) -> tuple[Tensor, Tensor, Tensor]:
        run = (self.slices, first, last)
        u = grouped_conv(self.TCA.lift, past, *run)
        for i, layer in enumerate(self.TCA.layers):
            u = layer(u, first, last, None if caches is None else caches[i])
        size = self.latent // self.slices
        side = side[..., first * size : last * size, :]
        features = torch.cat((u.unflatten(3, (-1, self.ratio)), side), dim=4).flatten(3)
        conv1, _, conv2, _, conv3 = self.entropy_parameters_net
        features = F.gelu(grouped_conv(conv1, features, *run))
        features = F.gelu(grouped_conv(conv2, features, *run))
        out = grouped_conv(conv3, features, *run).unflatten(3, (-1, 3))
        return tuple(part.permute(0, 3, 1, 2) for part in out.unbind(4))
