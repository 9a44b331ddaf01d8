"""Make an existing FLIC network use the fused operations, in place, and undo it.

Two families are recognised, by class names, attributes and shapes: the published network as its
authors define it (`FAT_Block`, `TCA_Block`; [B, C, H, W] between modules) and `flic.FLIC`
(`FATBlock`, `TCABlock`; [B, H, W, C]), which consists of the fused operations already. A
module's class becomes a subclass of its own with another `forward`: parameters, buffers, hooks and
the state dict stay what they are, and copies, replicas of DataParallel and pickled files are
accelerated like the original. In the authors' family a transform's input is brought to
channels_last format once, and every module after it keeps that format.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .ops import conv3x3, fat_block, fused_linear
from .ops.fat_block import fat_parameters
from .tca import tca_layer

LOOKED_FOR = (
    "FAT blocks (class FAT_Block with conv1_1, trans_block, conv1_2, or flic's FATBlock) and "
    "T-CA layers (class TCA_Block with norm1, cpe, q1, k1, v1, attn, norm2, mlp, or "
    "flic's TCABlock)"
)
TRANSFORMS = ("g_a", "g_s", "h_a", "h_mean_s", "h_scale_s")


def accelerate(model: nn.Module) -> nn.Module:
    """Make `model`'s forward use the fused operations; returns the same, changed, instance.

    Args:
        model: an instance of the published network or a `flic.FLIC`, or any module that contains
            FAT blocks or T-CA layers of one of them. Works in training and evaluation, on any
            device: each operation picks its implementation by the tensors' device.

    Raises:
        ValueError: nothing recognised, or a block that does not look as expected; the message says
            what was looked for. The model is unchanged then.
    """
    replacements: list[tuple[nn.Module, Callable]] = []
    blocks = 0
    names = {_plain(type(module)).__name__ for module in model.modules()}
    first = bool(names & {"FAT_Block", "TCA_Block"})  # channels before positions
    for name, module in model.named_modules():
        found = _replacement(name, module, first)
        blocks += _plain(type(module)).__name__ in (*_FAT, *_TCA)
        if found is not None:
            replacements.append((module, found))
    if not blocks:
        raise ValueError(
            f"{type(model).__name__} is not a FLIC network: looked for {LOOKED_FOR}, found none"
        )
    for module, forward in replacements:
        module.__class__ = _accelerated(_plain(type(module)), forward)
    return model


def restore(model: nn.Module) -> nn.Module:
    """Undo `accelerate`; a model that was not accelerated stays as it is. Returns the instance."""
    for module in model.modules():
        module.__class__ = _plain(type(module))
    return model


class _Accelerated:
    """What the classes of accelerated modules share."""

    plain: type[nn.Module]

    def __reduce_ex__(self, protocol):
        """Pickle by the plain class and the forward: classes made here have no name to import."""
        build, (_, *rest), *state = super().__reduce_ex__(protocol)
        return _rebuild, (build, self.plain, type(self).forward, tuple(rest)), *state


@functools.cache
def _accelerated(plain: type[nn.Module], forward: Callable) -> type[nn.Module]:
    """A subclass of `plain` that computes by `forward`, under the same name."""
    names = {
        "plain": plain, "forward": forward, "__module__": plain.__module__,
        "__qualname__": plain.__qualname__, "__doc__": plain.__doc__,
    }  # fmt: skip
    return type(plain.__name__, (_Accelerated, plain), names)


def _plain(kind: type[nn.Module]) -> type[nn.Module]:
    """The class that a module has, or had before it was accelerated."""
    return kind.plain if issubclass(kind, _Accelerated) else kind


def _rebuild(build: Callable, plain: type, forward: Callable, rest: tuple) -> nn.Module:
    return build(_accelerated(plain, forward), *rest)


def _replacement(name: str, module: nn.Module, first: bool) -> Callable | None:
    plain = _plain(type(module))
    kind = plain.__name__
    if kind in _FAT:
        _require(name, module, ("conv1_1", "trans_block", "conv1_2"))
        _check_transformer(f"{name}.trans_block", module)
        return _fat_first if kind == "FAT_Block" else None
    if kind in _TCA:
        _check_tca(name, module)
        return _tca_first if kind == "TCA_Block" else None
    if first and kind == "ResidualBlockWithStride" and hasattr(module, "gdn"):
        return _stride_first
    if first and kind == "ResidualBlockUpsample" and hasattr(module, "igdn"):
        return _upsample_first
    last = name.rpartition(".")[2]
    if first and last in TRANSFORMS and plain.forward is nn.Sequential.forward:
        return _transform_first
    return None


def _require(name: str, module: nn.Module, attributes: tuple[str, ...]) -> None:
    missing = [attribute for attribute in attributes if not hasattr(module, attribute)]
    if missing:
        raise ValueError(
            f"{name} ({type(module).__name__}) has no {', '.join(missing)}: looked for {LOOKED_FOR}"
        )


def _check_transformer(name: str, outer: nn.Module) -> None:
    block, conv = outer.trans_block, outer.conv1_1
    _require(name, block, ("norm1", "qkv", "attns", "proj", "norm2", "ffn", "fm"))
    channels = conv.weight.shape[0]
    linears = [m for m in block.ffn.modules() if isinstance(m, nn.Linear)]
    problems = []
    if list(conv.weight.shape) != [channels, channels, 1, 1]:
        problems.append(f"conv1_1.weight is {list(conv.weight.shape)}")
    if list(block.qkv.weight.shape) != [3 * channels, channels]:
        problems.append(f"qkv.weight is {list(block.qkv.weight.shape)}")
    if block.qkv.bias is not None:
        problems.append("qkv has a bias")
    if block.norm1.eps != block.norm2.eps:
        problems.append("the LayerNorms' eps differ")
    if len(block.attns) != 4:
        problems.append(f"{len(block.attns)} attention branches")
    if len(linears) != 2:
        problems.append(f"{len(linears)} Linear layers in ffn")
    if block.fm.complex_weight.dim() != 4:
        problems.append(f"fm.complex_weight is {list(block.fm.complex_weight.shape)}")
    if problems:
        raise ValueError(f"{name} is no FLIC transformer block: {'; '.join(problems)}")


def _check_tca(name: str, layer: nn.Module) -> None:
    _require(name, layer, ("norm1", "cpe", "q1", "k1", "v1", "attn", "norm2", "mlp"))
    channels, slices = layer.norm1.weight.shape[0], layer.norm1.num_groups
    expected = [channels, channels // slices, 1, 1]
    for conv in ("q1", "k1", "v1"):
        shape = list(getattr(layer, conv).weight.shape)
        if shape != expected:
            raise ValueError(f"{name}.{conv}.weight must be {expected}, not {shape}")


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _fat_first(self, x: Tensor) -> Tensor:
    """FAT_Block: x [B, C, H, W]."""
    inner = self.trans_block
    out = fat_block(
        _channels_last(x), fat_parameters(self), num_heads=inner.num_heads, window=inner.split_size,
        shifted=self.type == "SW", eps=inner.norm1.eps,
    )  # fmt: skip
    return _channels_first(out)


def _tca_first(self, y: Tensor) -> Tensor:
    """TCA_Block: y [B, C, H, W]."""
    return _channels_first(
        tca_layer(self, _channels_last(y), heads=self.num_heads, window=self.window_size)
    )


def _conv(conv: nn.Module, x: Tensor, **follows) -> Tensor:
    """A 3x3 convolution on x [B, H, W, C], and what follows it."""
    return conv3x3(x, conv.weight, conv.bias, stride=conv.stride[0], **follows)


def _pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution on x [B, H, W, C], as a product over channels.

    Not by `conv`: the weight's gradient of PyTorch's 1x1 convolution with stride 2 writes out of
    bounds for large channels_last inputs of few channels (seen with 2.14.1, see test_accelerate).
    """
    rows, columns = conv.stride
    return fused_linear(x[:, ::rows, ::columns], conv.weight.flatten(1), conv.bias)


def _subpel(pair: nn.Module, x: Tensor, **follows) -> Tensor:
    """CompressAI's subpel_conv3x3: a convolution and a pixel shuffle."""
    conv, shuffle = pair
    return _conv(conv, x, shuffle=shuffle.upscale_factor, **follows)


def _normalisation(module: nn.Module, residual: Tensor) -> dict:
    beta, gamma = module.beta_reparam(module.beta), module.gamma_reparam(module.gamma)
    return {"gamma": gamma, "beta": beta, "inverse": bool(module.inverse), "residual": residual}


def _stride_first(self, x: Tensor) -> Tensor:
    """CompressAI's ResidualBlockWithStride: x [B, C, H, W]."""
    x = _channels_last(x)
    skip = x if self.skip is None else _pointwise(self.skip, x)
    hidden = _conv(self.conv1, x, leaky=True)
    return _channels_first(_conv(self.conv2, hidden, **_normalisation(self.gdn, skip)))


def _upsample_first(self, x: Tensor) -> Tensor:
    """CompressAI's ResidualBlockUpsample: x [B, C, H, W]."""
    x = _channels_last(x)
    skip, hidden = _subpel(self.upsample, x), _subpel(self.subpel_conv, x, leaky=True)
    return _channels_first(_conv(self.conv, hidden, **_normalisation(self.igdn, skip)))


def _transform_first(self, x: Tensor) -> Tensor:
    """A transform of the authors' family: one change of format for all of its modules."""
    x = x.contiguous(memory_format=torch.channels_last)
    for module in self:
        x = module(x)
    return x


_FAT = ("FAT_Block", "FATBlock")
_TCA = ("TCA_Block", "TCABlock")
