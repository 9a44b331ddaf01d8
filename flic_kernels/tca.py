"""A layer of T-CA, the entropy model's transformer, as fused operations (paper, section 3.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .ops import fused_linear, positional_encoding, slice_attention
from .ops.positional_encoding import from_windows


def tca_layer(layer: nn.Module, u: Tensor, *, heads: int, window: int) -> Tensor:
    """All slices of a layer at once, in windows of `window` x `window` positions.

    Args:
        layer: a module with the published names: norm1, cpe, q1, k1, v1, attn.proj, norm2, mlp.fc1
            and mlp.fc2; its number of slices is norm1's number of groups.
        u: [B, H, W, C], float; H and W multiples of `window`.
        heads: of the attention.

    Returns:
        [B, H, W, C] of u's dtype; differentiable once.
    """
    slices, (_, height, width, _) = layer.norm1.num_groups, u.shape
    norm1, norm2, encoding = layer.norm1, layer.norm2, layer.cpe[0]

    def product(x: Tensor, conv: nn.Module, **parts) -> Tensor:
        return fused_linear(x, conv.weight.flatten(1), conv.bias, groups=slices, **parts)

    w = positional_encoding(
        u, norm1.weight, norm1.bias, encoding.proj.weight, encoding.proj.bias,
        encoding.norm.weight, encoding.norm.bias, slices=slices, window=window, eps=norm1.eps,
    )  # fmt: skip
    q, k, v = product(w, layer.q1), product(w, layer.k1), product(w, layer.v1)
    attended = product(slice_attention(q, k, v, slices=slices, heads=heads), layer.attn.proj)
    attended = attended.transpose(1, 2).unflatten(2, (window, window))
    u = u + from_windows(attended, height, width)
    hidden = F.group_norm(u.permute(0, 3, 1, 2), slices, norm2.weight, norm2.bias, norm2.eps)
    hidden = product(hidden.permute(0, 2, 3, 1), layer.mlp.fc1, gelu=True)
    return product(hidden, layer.mlp.fc2, residual=u)
