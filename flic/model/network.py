"""The FLIC model: the published network, loadable from its checkpoints and trainable.

Source: Li et al., "Frequency-Aware Transformer for Learned Image Compression", ICLR 2024.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from os import PathLike

import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from torch import Tensor, nn

from ..coding import entropy, tile_transforms
from ..config import Config, resolve_published
from ..errors import CallError, StreamMismatch
from ..format.step import check_step
from ..format.tile_grid import Tile, padded
from .hub import HubMixin
from .hyperprior import EntropyBottleneck, GaussianConditional, add_noise, round_straight_through
from .layers import (
    FATBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    Transform,
    conv3x3,
    subpel_conv3x3,
)
from .state_dict import build, check_keys, normalize, resize_buffers, to_legacy_names, with_derived
from .tca import TCAEntropyModel

_COMPRESS = (
    "compress takes pictures alone, net.compress(x), and returns their bytes; to write a file: "
    "Path(path).write_bytes(flic.encode(picture, net))"
)
_DECOMPRESS = (
    "decompress takes what compress returns, net.decompress(**coded); to read a file of "
    "flic.encode: flic.decode(path, net)"
)
_FADE = 8.0  # pixels in which padding falls to 1/e of its difference to the mean


def pad(x: Tensor, size: tuple[int, int] | None = None, mean: Tensor | None = None) -> Tensor:
    """Pictures [B, C, H, W] continued to the right and below up to multiples of 128.

    The last column and row fade into each picture's mean within a few pixels: of the paddings that
    `python -m benches padding` compares, the one that costs the fewest bits.

    Args:
        size: the height and width to continue to; default: the next multiples of 128.
        mean: what to fade into, [B, C, 1, 1]; default: the mean of x. Where x is the lower right
            part of a picture, both are the whole picture's.
    """
    (height, width), (rows, columns) = x.shape[2:], padded(x.shape[2:]) if size is None else size
    if (height, width) == (rows, columns):
        return x
    below = (torch.arange(rows, device=x.device) - height + 1).clamp(min=0)
    right = (torch.arange(columns, device=x.device) - width + 1).clamp(min=0)
    fade = torch.exp((below[:, None] + right) * (-1 / _FADE)).to(x.dtype)
    if mean is None:
        mean = x.mean((2, 3), keepdim=True)
    border = F.pad(x, (0, columns - width, 0, rows - height), mode="replicate")
    return border + (mean - border) * (1 - fade)


class FLIC(HubMixin, CompressionModel):
    """Frequency-aware transformer image codec.

    Args:
        config: "base" (the published network), "small", "tiny", or an explicit `Config` or dict of
            its fields; or the published class's [2, 2, 2, 2, 2, 2].
        N, M, num_slices, head_dim: as the published class has them; other values than the published
            ones (`flic.config.PUBLISHED`) are an OptionError.

    The state dict has the published names; `state_dict(legacy_names=True)` has CompressAI 1.2.4's.
    `save_pretrained`, `from_pretrained` and `push_to_hub` are huggingface_hub's (hub.py).
    """

    def __init__(
        self,
        config: Config | dict | str | Sequence[int] = "base",
        *,
        N: int | Sequence[int] | None = None,  # noqa: N803
        M: int | None = None,  # noqa: N803
        num_slices: int | None = None,
        head_dim: Sequence[int] | None = None,
    ):
        super().__init__()
        self.metadata: dict[str, str] = {}  # of the file that the weights came from
        self.config = config = resolve_published(
            config, N=N, M=M, num_slices=num_slices, head_dim=head_dim
        )
        (n1, n2, n3), (h1, h2, h3) = config.widths, config.heads
        self.g_a = Transform(
            ResidualBlockWithStride(3, n1),
            *_fat_pair(n1, h1),
            ResidualBlockWithStride(n1, n2),
            *_fat_pair(n2, h2),
            ResidualBlockWithStride(n2, n3),
            *_fat_pair(n3, h3),
            conv3x3(n3, config.latent, stride=2),
        )
        self.g_s = Transform(
            ResidualBlockUpsample(config.latent, n3),
            *_fat_pair(n3, h3),
            ResidualBlockUpsample(n3, n2),
            *_fat_pair(n2, h2),
            ResidualBlockUpsample(n2, n1),
            *_fat_pair(n1, h1),
            subpel_conv3x3(n1, 3, 2),
        )
        self.h_a = Transform(
            ResidualBlockWithStride(config.latent, n3),
            *_fat_pair(n3, h3, window=2, modulation=4),
            conv3x3(n3, config.hyper, stride=2),
        )
        self.h_mean_s = _hyper_synthesis(config)
        self.h_scale_s = _hyper_synthesis(config)
        self.tca = TCAEntropyModel(config)
        self.entropy_bottleneck = EntropyBottleneck(config.hyper)
        self.gaussian_conditional = GaussianConditional()

    @property
    def M(self) -> int:  # noqa: N802
        """Channels of y, under the published class's name."""
        return self.config.latent

    @property
    def num_slices(self) -> int:
        """Channel slices of y, under the published class's name."""
        return self.config.slices

    def forward(
        self,
        x: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        steps: Tensor | None = None,
    ) -> dict:
        """Compress and reconstruct without coding.

        Under autocast only g_a and g_s run in its precision: what lies between them feeds the
        coding tables and keeps x's.

        Args:
            x: [B, 3, H, W], float, values in [0, 1], any H and W of at least 1.
            generators: of the noise in training mode, one for each of the B pictures, on x's
                device (noise on z is drawn first, then on y); default: torch's global one.
            steps: [B], each picture's quantisation step; default: 1.

        Returns:
            {"x_hat": [B, 3, H, W], not clamped; "likelihoods": {"y", "z"}; "para": {"means",
            "scales", "y"}}. y, means and scales, all three in steps, are [B, M, h, w], z's
            likelihoods [B, N, h/4, w/4] with h and w a sixteenth of the padded picture's sides. In
            training mode the likelihoods are those of the latents plus uniform noise, in evaluation
            those of the rounded ones.
        """
        height, width = x.shape[2:]
        y = self.g_a(pad(x)).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            out = self.entropy(y, generators, steps)
        x_hat = self.g_s(out.pop("y_hat")).to(x.dtype)
        return {"x_hat": x_hat[:, :, :height, :width], **out}

    def entropy(
        self,
        y: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        steps: Tensor | None = None,
    ) -> dict:
        """What lies between g_a and g_s: `forward` without the two.

        Args:
            y: [B, M, h, w] of g_a, h and w multiples of 8. The others as for `forward`.

        Returns:
            {"y_hat": g_s's input, "likelihoods", "para"}, the latter two as `forward` gives them.
        """
        z_hat, z_likelihoods = self.entropy_bottleneck(self.h_a(y), generators)
        step = 1.0 if steps is None else steps[:, None, None, None]
        y = y / step
        rounded = round_straight_through(y)
        means, scales, lrp = self.tca(self.hyper_features(z_hat), rounded * step)
        means, scales = means / step, scales / step
        coded = add_noise(y, generators) if self.training else rounded
        return {
            "y_hat": (rounded + 0.5 * torch.tanh(lrp)) * step,
            "likelihoods": {
                "y": self.gaussian_conditional(coded, means, scales),
                "z": z_likelihoods,
            },
            "para": {"means": means, "scales": scales, "y": y},
        }

    def hyper_features(self, z_hat: Tensor) -> Tensor:
        """z_hat [B, N, h/4, w/4] -> means and scales of the hyperprior, [B, 2M, h, w]."""
        return torch.cat((self.h_mean_s(z_hat), self.h_scale_s(z_hat)), dim=1)

    @torch.no_grad()
    def analyze(self, x: Tensor, step: float = 1.0) -> entropy.Latents:
        """The integers to code for pictures x [B, 3, H, W] in [0, 1], at a quantisation step."""
        return tile_transforms.analyze(self, pad(x), Tile.whole(x.shape[2:])).at(step)

    @torch.no_grad()
    def synthesize(self, y_hat: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures [B, 3, *size] in [0, 1] from corrected latents y_hat [B, M, h, w]."""
        return tile_transforms.synthesize(self, y_hat, Tile.whole(size))[:, :, : size[0], : size[1]]

    def z_medians(self) -> Tensor:
        """The values about which z is rounded, [1, N, 1, 1]."""
        return self.entropy_bottleneck.quantiles[:, 0, 1].detach()[None, :, None, None]

    def compress(self, x: Tensor, *files: object, step: float = 1.0, **options: object) -> dict:
        """Code pictures [B, 3, H, W] in [0, 1] at a quantisation step; no stream says which.

        Returns:
            {"strings": [[bytes of each picture]], "shape": (H, W)}.

        Raises:
            CallError: for more than x, such as a path: no file is written here; for an x that is
                not such a tensor, or has values outside of [0, 1].
            OptionError: for a step that no file carries.
        """
        if files or options:
            raise CallError(_COMPRESS)
        _check_pictures(x)
        streams = entropy.encode(self, self.analyze(x, check_step(step)))
        return {"strings": [streams], "shape": (x.shape[2], x.shape[3])}

    def decompress(
        self,
        strings: list[list[bytes]],
        shape: tuple[int, int] | None = None,
        *files: object,
        step: float = 1.0,
        **options: object,
    ) -> dict:
        """The pictures of `compress`, at its step: {"x_hat": [B, 3, H, W] in [0, 1]}.

        Raises:
            CallError: for a path in place of strings, or more than the two; no file is read here;
                for a shape that is not (height, width).
            StreamMismatch: for another shape than `compress` gave, but where both are padded to the
                same size, which nothing in the streams tells apart; for another step.
            OptionError: for a step that no file carries.
        """
        if files or options or shape is None or isinstance(strings, (str, PathLike)):
            raise CallError(_DECOMPRESS)
        size, step = _size(shape), check_step(step)
        try:
            _, y_hat = entropy.decode(self, strings[0], size, step=step)
        except StreamMismatch as error:
            hint = "is shape compress's (height, width), and step its step?"
            raise StreamMismatch(f"{error}; {hint}") from error
        return {"x_hat": self.synthesize(y_hat, size)}

    def state_dict(self, *args, legacy_names: bool = False, **kwargs):
        """As torch's; `legacy_names` gives the keys that CompressAI 1.2.4 wrote."""
        state = super().state_dict(*args, **kwargs)
        return to_legacy_names(state) if legacy_names else state

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign=False):
        """Load published or own names, with or without "module.", before or after update().

        Buffers that follow from the configuration or from the parameters may be missing. Where they
        are there, the model keeps its own constants: nothing that the fingerprint leaves out
        changes a picture.

        Raises:
            CheckpointError: names the first missing, unexpected or misshapen keys.
        """
        state = with_derived(self, normalize(state_dict))
        if strict:
            check_keys(self, state)
        resize_buffers(self, state)
        return nn.Module.load_state_dict(self, state, strict=strict, assign=assign)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> FLIC:
        """A model whose configuration is inferred from the shapes in a state dict."""
        return build(normalize(state_dict), kind=cls)


def _check_pictures(x: object) -> None:
    """Raise CallError unless x is a floating point tensor [B, 3, H, W] of values in [0, 1]."""
    want = "compress takes pictures as a floating point tensor [B, 3, H, W] of values in [0, 1]"
    if not isinstance(x, Tensor):
        raise CallError(f"{want}, not {type(x).__name__}")
    if x.dim() != 4 or x.shape[1] != 3 or x.numel() == 0 or not x.is_floating_point():
        raise CallError(f"{want}, not {x.dtype} {list(x.shape)}")
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):
        advice = ": divide by 255" if low >= 0 and 1 < high <= 255 else ""
        raise CallError(f"{want}; these go from {low:g} to {high:g}{advice}")


def _size(shape: object) -> tuple[int, int]:
    """The height and width that `decompress` is given; raises CallError."""
    try:
        height, width = map(operator.index, shape)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise CallError(f"shape must be compress's (height, width), not {shape!r}")
    return height, width


def _fat_pair(channels: int, heads: int, **windows: int) -> tuple[FATBlock, FATBlock]:
    plain = FATBlock(channels, heads, shifted=False, **windows)
    return plain, FATBlock(channels, heads, shifted=True, **windows)


def _hyper_synthesis(config: Config) -> Transform:
    width, heads = config.widths[2], config.heads[2]
    return Transform(
        ResidualBlockUpsample(config.hyper, width),
        *_fat_pair(width, heads, window=2, modulation=4),
        subpel_conv3x3(width, config.latent, 2),
    )


FrequencyAwareTransFormer = FLIC
