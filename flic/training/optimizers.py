"""The optimisers of a run: Adam, or Muon for matrices beside Adam for the rest.

torch.optim.Muon takes one matrix at a time and in bfloat16: for the 355 matrices of the `small`
configuration 5.0 s a step on one CPU core, where those of one shape together in float32, as here,
take 0.18 s (python -m benches optimizers).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..model.network import FLIC
from .recipe import Recipe

_BETAS, _EPSILON = (0.9, 0.99), 1e-10  # of Adam beside Muon
_MOMENTUM = 0.95
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al., Muon (2024): five steps of this
_ITERATIONS = 5
_LEAST_SIDE = 9  # of a matrix that Muon takes

# What is no matrix, or better left to Adam: z's prior, GDN, tables, the first and last layers.
_NOT_MATRICES = re.compile(
    r"^entropy_bottleneck|gdn|_table$|complex_weight|^g_s\.9|^g_a\.0\.(conv1|skip)"
)
HEAD = "tca.entropy_parameters_net.4"
"""The layer that gives means, scales and corrections, three rows for each channel of y."""
_SUBPIXEL = re.compile(r"subpel_conv\.0|upsample\.0|^h_(mean|scale)_s\.3\.0")
_SLICED = re.compile(r"^tca\.(TCA\.(lift|layers)|entropy_parameters_net)")


@dataclass(frozen=True)
class Split:
    """How a parameter's rows are matrices of their own.

    count: of them. interleaved: row r belongs to matrix r mod count (the positions of a sub-pixel
    convolution), not to r // rows of one (slices, and q, k, v).
    """

    count: int = 1
    interleaved: bool = False

    def apart(self, x: Tensor) -> Tensor:
        """[count, rows, columns] of a parameter or its gradient, a view where it can be."""
        if self.interleaved:
            return x.reshape(-1, self.count, x[0].numel()).transpose(0, 1)
        return x.reshape(self.count, -1, x[0].numel())

    def together(self, matrices: Tensor, shape: torch.Size) -> Tensor:
        """The inverse."""
        return (matrices.transpose(0, 1) if self.interleaved else matrices).reshape(shape)


class Muon(Optimizer):
    """Momentum, made orthogonal by Newton-Schulz iterations (Jordan et al., 2024).

    params: groups with, beside torch's, a `split` for each parameter of the group.
    """

    def __init__(self, params: list[dict], lr: float):
        super().__init__(params, {"lr": lr, "count": 1, "interleaved": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        batches = defaultdict(list)
        for group in self.param_groups:
            split = Split(group["count"], group["interleaved"])
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = split.apart(self._momentum(parameter))
                batches[update.shape[1:]].append((parameter, group["lr"], split, update))
        for (rows, columns), members in batches.items():
            orthogonal = orthogonalised(torch.cat([update for *_, update in members]))
            size = max(1.0, rows / columns) ** 0.5
            parts = orthogonal.split([split.count for _, _, split, _ in members])
            for (parameter, lr, split, _), part in zip(members, parts, strict=True):
                parameter.sub_(split.together(part, parameter.shape), alpha=lr * size)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """The running mean of gradients, a step ahead (Nesterov)."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
        return parameter.grad.lerp(state["momentum"], _MOMENTUM)


def orthogonalised(matrices: Tensor) -> Tensor:
    """[n, rows, columns] with all singular values brought near 1."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT).mT
    x = matrices / (matrices.flatten(1).norm(dim=1)[:, None, None] + 1e-12)
    a, b, c = _NEWTON_SCHULZ
    if x.shape[2] < 3 * x.shape[1]:
        for _ in range(_ITERATIONS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x
    # of wide matrices the iterations are cheaper on the small side: x_i = p_i ... p_1 x
    gram, product, identity = x @ x.mT, None, torch.eye(x.shape[1]).to(x)
    for i in range(_ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * identity
        product = factor if product is None else factor @ product
        if i + 1 < _ITERATIONS:
            gram = factor @ gram @ factor
            gram = (gram + gram.mT) / 2  # rounding must not add up to an asymmetry
    return product @ x


class RowAdam(Adam):
    """Adam whose step is multiplied by a group's `rows`, a tensor that broadcasts, where there."""

    def step(self, closure: None = None) -> None:
        scaled = [g for g in self.param_groups if g.get("rows") is not None]
        before = [[p.detach().clone() for p in group["params"]] for group in scaled]
        super().step()
        with torch.no_grad():
            for group, old in zip(scaled, before, strict=True):
                for parameter, was in zip(group["params"], old, strict=True):
                    rows = group["rows"].to(parameter).view(-1, *[1] * (parameter.dim() - 1))
                    parameter.copy_(was + (parameter - was) * rows)


def optimizers_for(recipe: Recipe, model: FLIC, parameters: list[nn.Parameter]) -> list[Optimizer]:
    """The optimisers of a recipe for a model's main parameters, which they share out."""
    if recipe.optimizer == "adam":
        return [Adam(parameters, lr=recipe.lr, fused=True)]
    return _muon_and_adam(model, {id(p) for p in parameters}, recipe.lr)


def entropy_only(recipe: Recipe, model: FLIC) -> list[Optimizer]:
    """Muon and Adam for the entropy model alone, at rates for a frozen g_a."""
    wanted = {
        id(p)
        for name, p in model.named_parameters()
        if name.startswith(("tca.", "h_", "entropy_bottleneck."))
        and not name.endswith(".quantiles")
        and p.requires_grad
    }
    return _muon_and_adam(model, wanted, 2 * recipe.lr)


def _muon_and_adam(model: FLIC, wanted: set[int], lr: float) -> list[Optimizer]:
    """Muon at twice `lr` for matrices, Adam at `lr`, twice that for z's prior."""
    matrices, others = defaultdict(list), defaultdict(list)
    for name, parameter in model.named_parameters():
        if id(parameter) not in wanted:
            continue
        if _is_matrix(name, parameter):
            split = _split(name, model.config.slices)
            matrices[split.count, split.interleaved, _share(name)].append(parameter)
        elif name.startswith(HEAD):
            others["head"].append(parameter)
        else:
            others["z" if name.startswith("entropy_bottleneck") else "rest"].append(parameter)
    muon = Muon(
        [
            {"params": group, "count": count, "interleaved": interleaved, "lr": 2 * lr * share}
            for (count, interleaved, share), group in matrices.items()
        ],
        lr=2 * lr,
    )
    rows = torch.ones(3 * model.config.latent)
    options = {"head": {"rows": rows}, "z": {"lr": 2 * lr}, "rest": {}}
    groups = [{"params": others[name], **more} for name, more in options.items() if others[name]]
    return [muon, RowAdam(groups, lr=lr, betas=_BETAS, eps=_EPSILON)]


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    if parameter.dim() < 2 or _NOT_MATRICES.search(name) or name.startswith(HEAD):
        return False
    return min(parameter.shape[0], parameter[0].numel()) >= _LEAST_SIDE


def _split(name: str, slices: int) -> Split:
    if ".qkv." in name:
        return Split(3)
    if _SUBPIXEL.search(name):
        return Split(4, interleaved=True)
    return Split(slices if _SLICED.search(name) else 1)


def _share(name: str) -> float:
    """Of Muon's rate: curvature differs so much between layers (docs/training.md)."""
    if name.startswith(("tca.", "h_")):
        return 3.0
    steep = name.startswith("g_s.0.upsample") or (name.startswith("g_a.") and "conv2" in name)
    return 0.3 if steep else 1.0


def scale_head(optimizers: list[Optimizer], deviations: Tensor) -> None:
    """Give the rows of T-CA's last layer rates that follow each channel's standard deviation [M].

    Means and scales are as large as that, and Adam's steps are all of one size.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if group.get("rows") is not None:
                rows = torch.ones_like(group["rows"])
                rows[0::3] = rows[1::3] = deviations.clamp(0.15, 5.0).to(rows)
                group["rows"] = rows
