"""The training loss: rate plus weighted distortion (paper, section 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor

_LEAST = 0.02  # of a loss that counts more: even colour costs next to nothing


def rate_distortion(
    out: dict,
    x: Tensor,
    lmbda: float,
    metric: str = "mse",
    *,
    steps: Tensor | None = None,
    balance: float = 0.0,
    reduce: bool = True,
) -> dict[str, Tensor]:
    """Loss and its parts for a forward pass `out` of pictures x [B, 3, H, W] in [0, 1].

    steps: [B], the pictures' quantisation steps. At step d lambda is lambda / d^2, the slope of
    rate and distortion at that step, and the loss counts d times: rate and weighted distortion
    grow as 1 / d, so that every rate has the same part in the sum.
    balance: each picture's gradient counts (its loss)^-balance times, so that what costs little,
    such as smooth pictures, is not drowned by what costs much; the loss's value stays as it is.
    At 1 it would be the gradient of the losses' geometric mean.

    Returns "loss", "bpp" (estimated bits a pixel), "mse" (of values in [0, 1]) and, for metric
    "ms-ssim", "ms_ssim": means over the batch, each of shape [], or with `reduce` false [B].
    """
    pixels = x.shape[2] * x.shape[3]
    bpp = sum(-torch.log2(p).flatten(1).sum(1) for p in out["likelihoods"].values()) / pixels
    x_hat = out["x_hat"].to(x.dtype)
    mse = F.mse_loss(x_hat, x, reduction="none").flatten(1).mean(1)
    terms = {"bpp": bpp, "mse": mse}
    if metric == "ms-ssim":
        terms["ms_ssim"] = ms_ssim(x_hat, x, data_range=1.0, size_average=False)
        distortion = 1 - terms["ms_ssim"]
    else:
        distortion = 255**2 * mse
    if steps is None:
        loss = lmbda * distortion + bpp
    else:
        loss = steps * (lmbda / steps**2 * distortion + bpp)
    if balance:
        fixed = loss.detach()
        loss = fixed + (loss - fixed) * fixed.clamp_min(_LEAST).pow(-balance)
    terms = {"loss": loss, **terms}
    return {name: term.mean() for name, term in terms.items()} if reduce else terms
