"""A step of this project's Muon against torch's, on the matrices of the fast recipe's model.

    python -m benches optimizers

Prints what a step takes on one thread, after one that allocates.
"""

import time
from collections.abc import Sequence

import torch

from benches.harness import study
from flic.model.network import FLIC
from flic.training import FAST, Recipe
from flic.training.optimizers import Muon, Split, optimizers_for


def main(arguments: Sequence[str]) -> None:
    study.parser(__name__, __doc__, publishes=False).parse_args(arguments)
    torch.set_num_threads(1)
    ours = muon_of(FLIC(FAST["config"]))
    matrices = []
    for group in ours.param_groups:
        split = Split(group["count"], group["interleaved"])
        for parameter in group["params"]:
            parameter.grad = torch.randn_like(parameter)
            for matrix, gradient in zip(
                split.apart(parameter.detach()), split.apart(parameter.grad), strict=True
            ):
                matrices.append(torch.nn.Parameter(matrix.clone()))
                matrices[-1].grad = gradient.clone()
    theirs = torch.optim.Muon(matrices, lr=1e-3)
    for name, optimizer in (("flic.training.optimizers.Muon", ours), ("torch.optim.Muon", theirs)):
        optimizer.step()
        begin = time.process_time()
        optimizer.step()
        print(f"{name}: {time.process_time() - begin:.2f} s, {len(matrices)} matrices")


def muon_of(model: FLIC) -> Muon:
    """The fast recipe's Muon for all of a model."""
    parameters = [p for name, p in model.named_parameters() if not name.endswith(".quantiles")]
    return optimizers_for(Recipe(steps=1, optimizer="muon"), model, parameters)[0]
