"""What a run with little compute starts from: a linear transform codec, in the network's weights.

The Karhunen-Loeve transform of 2x2 blocks, nested four times, goes into g_a's strided convolutions
and its inverse into g_s's sub-pixel ones; everything else begins as an identity or at zero. The
entropy model then learns alone what such latents look like.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.layers import GDN, FrequencyModulation
from ..model.network import FLIC
from .crops import Crops, to_tensor
from .optimizers import HEAD, entropy_only, scale_head
from .randomness import start_rng
from .recipe import Recipe

_GREY = 62.0  # y's quantisation step in grey levels, at lambda 0.0067
_GREY_LAMBDA = 0.0067
_MEAN, _SPAN = 0.45, 0.25  # the transform sees (x - mean) / span
_WHITENING = 0.7  # a channel is divided by its deviation to this power
_LEAST_DEVIATION = 0.003  # of the first channel's
_LIFT = 3.0  # deviations that keep a hidden channel on the linear side of the leaky ReLU
_TAPS = ((1, 1), (1, 2), (2, 1), (2, 2))  # of a 3x3 convolution with stride 2: its 2x2 block
_BATCHES, _CACHED = 24, 64  # batches that the transform and the entropy model are made from
_ENTROPY_BATCH, _ENTROPY_WARMUP, _ENTROPY_FALL = 16, 50, 0.6


def prepare(model: FLIC, crops: Crops, recipe: Recipe, optimizers: list) -> None:
    """Give a model the recipe's first weights, and T-CA's last layer its rates, in place.

    Where the recipe has a start of its own only the latter. Everything follows from the seed and
    the pictures.
    """
    device = next(model.parameters()).device
    batches = min(_BATCHES, crops.steps_per_epoch)
    x = torch.cat([_batch(crops, i, device) for i in range(batches)])
    if recipe.linear_start and recipe.start is None:
        step = _GREY * math.sqrt(_GREY_LAMBDA / max(recipe.lmbda, 1e-9)) / 255 / _SPAN
        made = copy.deepcopy(model).cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            linear_codec(made, x.cpu(), step)
        model.load_state_dict(made.state_dict())  # the weights stay where the optimiser has them
        if recipe.entropy_first:
            _train_entropy_model(model, crops, recipe, step * _SPAN * 255)
    if recipe.optimizer == "muon":
        with torch.no_grad():
            y = torch.cat([model.g_a(part) for part in x.split(recipe.batch)])
        scale_head(optimizers, y.float().std((0, 2, 3)))


def _batch(crops: Crops, i: int, device: torch.device) -> Tensor:
    return to_tensor(crops.batch(i, range(crops.recipe.batch)), device)


@torch.no_grad()
def linear_codec(model: FLIC, x: Tensor, step: float) -> None:
    """Put a linear transform codec into a model's weights, on the CPU.

    x: pictures [B, 3, h, w] in [0, 1], sides multiples of 16, that the transform is made from.
    step: y's quantisation step, as a share of the transform's unit.
    """
    _spread(model)
    features = (x - _MEAN) / _SPAN
    scale, offset = torch.full((3,), _SPAN), torch.full((3,), _MEAN)  # hidden = scale f + offset
    down = [*(model.g_a[i].conv1 for i in (0, 3, 6)), model.g_a[9]]
    up = [model.g_s[9][0], *(model.g_s[i].upsample[0] for i in (6, 3, 0))]
    for level, (analysis, synthesis) in enumerate(zip(down, up, strict=True)):
        last = level == 3
        patches = F.pixel_unshuffle(features, 2).permute(0, 2, 3, 1)
        mean, basis, deviation = principal(patches.flatten(0, 2), analysis.weight.shape[0])
        count = len(deviation)
        white = deviation.clamp(min=float(deviation[0]) * _LEAST_DEVIATION) ** -_WHITENING
        white = torch.full((count,), 1 / step) if last else white
        patch_scale, patch_offset = scale.repeat_interleave(4), offset.repeat_interleave(4)
        matrix = white[:, None] * basis.T / patch_scale
        bias = -white * (basis.T @ mean) - matrix @ patch_offset
        lift = torch.zeros(count) if last else _LIFT * deviation * white
        _put_analysis(analysis, matrix, bias + lift)
        if not last:
            _put_identity(model.g_a[3 * level], lift)
        synthesis.weight.mul_(0.02 if level else 0.0)
        inverse = patch_scale[:, None] * basis / white
        _put_synthesis(synthesis, inverse, mean * patch_scale + patch_offset)
        features = ((patches - mean) @ basis).permute(0, 3, 1, 2)
        scale, offset = white, torch.zeros(count)
    _fit_entropy_model(model, x, deviation / step)


def principal(rows: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [c], principal directions [c, n] and standard deviations [n] of rows [k, c]."""
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((rows - mean).T.double()))
    count = min(most, rows.shape[1])
    deviation = values.flip(0)[:count].clamp(min=1e-12).sqrt()
    return mean, vectors.flip(1)[:, :count].float(), deviation.float()


def _spread(model: FLIC) -> None:
    """Random weights of variance 1 / inputs; blocks and residual branches that do nothing yet."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                module.bias.zero_()
            last_in_tca = name.startswith("tca.") and name.endswith(("attn.proj", "mlp.fc2"))
            if name.endswith("conv1_2") or last_in_tca:
                module.weight.zero_()
        elif isinstance(module, FrequencyModulation):
            module.complex_weight.copy_(torch.tensor((1.0, 0.0)))
        elif isinstance(module, GDN):
            channels = len(module.beta)
            module.gamma.copy_(module.gamma_reparam.init(1e-5 * torch.eye(channels)))
            module.beta.copy_(module.beta_reparam.init(torch.ones(channels)))
    for i in (0, 3, 6):
        model.g_s[i].conv.weight.zero_()


def _put_analysis(conv: nn.Conv2d, matrix: Tensor, bias: Tensor) -> None:
    """Products of 2x2 blocks, [n, 4c], as the first n channels of a convolution with stride 2."""
    count, channels = len(matrix), matrix.shape[1] // 4
    conv.weight[:count] = 0
    conv.weight[count:] *= 0.5
    for tap, (row, column) in enumerate(_TAPS):
        conv.weight[:count, :channels, row, column] = matrix.reshape(count, channels, 4)[..., tap]
    conv.bias[:count] = bias


def _put_identity(block: nn.Module, lift: Tensor) -> None:
    """What follows conv1 in a residual block of g_a: conv2 takes its lift away again, and the
    skip adds nothing to these channels."""
    block.conv2.weight.zero_()
    block.conv2.weight[:, :, 1, 1] = torch.eye(len(block.conv2.weight))
    block.conv2.bias[: len(lift)] = -lift
    block.skip.weight[: len(lift)] = 0


def _put_synthesis(conv: nn.Conv2d, inverse: Tensor, bias: Tensor) -> None:
    """Products [4c, n] as the first rows of a sub-pixel convolution."""
    rows, count = inverse.shape
    conv.weight[:rows] = 0
    conv.weight[:rows, :count, 1, 1] = inverse
    conv.bias[:rows] = bias


def _fit_entropy_model(model: FLIC, x: Tensor, deviations: Tensor) -> None:
    """Scales of everything that sees y, or says what it is like; z with a deviation of 2."""
    divisor = deviations.clamp(min=0.5)
    for layer in (model.h_a[0].conv1, model.h_a[0].skip):
        layer.weight.div_(divisor[None, :, None, None])
    lift, slices = model.tca.TCA.lift.weight, model.config.slices
    by_slice = lift.view(slices, -1, *lift.shape[1:])
    for i, part in enumerate(divisor.view(slices, -1)[:-1], 1):
        by_slice[i] /= part[None, :, None, None]
    head = model.get_submodule(HEAD)
    head.bias[1::3] = deviations.clamp(min=0.15)
    head.weight.mul_(0.1)
    for row in (0, 1):
        head.weight[row::3] *= deviations.clamp(max=8.0)[:, None, None, None]
    z = model.h_a(model.g_a(x[:16]))
    gain = 2 / z.std((0, 2, 3))
    last = model.h_a[3]
    last.bias.copy_((last.bias - z.mean((0, 2, 3))) * gain)
    last.weight.mul_(gain[:, None, None, None])
    for synthesis in (model.h_mean_s, model.h_scale_s):
        for layer in (synthesis[0].subpel_conv[0], synthesis[0].upsample[0]):
            layer.weight.div_(2)


def _train_entropy_model(model: FLIC, crops: Crops, recipe: Recipe, grey: float) -> None:
    """Steps of the entropy model alone, on latents that g_a gives once and g_s never sees.

    grey: what a unit of y is in grey levels, so that the correction's use counts as distortion.
    """
    device = next(model.parameters()).device
    rng = start_rng(recipe.seed)
    noise = torch.Generator(device).manual_seed(recipe.seed)
    with torch.no_grad():
        y = torch.cat([model.g_a(_batch(crops, i, device)) for i in range(_CACHED)])
    pixels = 256 * y.shape[2] * y.shape[3]
    optimizers = entropy_only(recipe, model)
    scale_head(optimizers, y.std((0, 2, 3)))
    auxiliary = torch.optim.Adam([model.entropy_bottleneck.quantiles], lr=3 * recipe.aux_lr)
    rates = [[group["lr"] for group in o.param_groups] for o in optimizers]
    low, high = math.log(recipe.finest), math.log(recipe.coarsest)
    for i in range(recipe.entropy_first):
        chosen = y[torch.from_numpy(rng.integers(len(y), size=_ENTROPY_BATCH))]
        steps = torch.ones(_ENTROPY_BATCH, device=device)
        if recipe.variable:
            drawn = rng.uniform(low, high, _ENTROPY_BATCH)
            steps = torch.from_numpy(drawn).to(steps).exp()
        out = model.entropy(chosen, [noise] * _ENTROPY_BATCH, steps)
        bits = sum(-torch.log2(p).flatten(1).sum(1) for p in out["likelihoods"].values()) / pixels
        error = ((out["y_hat"] - chosen) ** 2).flatten(1).sum(1) * grey**2 / (3 * pixels)
        (steps * (bits + recipe.lmbda / steps**2 * error)).mean().backward()
        share = min(1.0, (i + 1) / _ENTROPY_WARMUP)
        share *= min(1.0, (1 - i / recipe.entropy_first) / _ENTROPY_FALL)
        for optimizer, own in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = share * rate
            optimizer.step()
        auxiliary.zero_grad(set_to_none=True)
        model.aux_loss().backward()
        auxiliary.step()
        model.zero_grad(set_to_none=True)
