"""A model's weights in one piece of memory: what is done to all of them takes one call, not 550."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_ALIGNED = 16  # values: a cache line on a CPU, and more than Triton asks of an address


class Flat:
    """One piece of memory that tensors of one type lie in, each from a cache line's start.

    Attributes:
        values: [n], the tensors one after another, zeros between them.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        """Moves the tensors, which are views of `values` from now on."""
        self._gaps = [t.new_zeros(-t.numel() % _ALIGNED) for t in tensors]
        self.values = self.gathered([t.detach() for t in tensors])
        lengths = [t.numel() + len(gap) for t, gap in zip(tensors, self._gaps, strict=True)]
        for tensor, part in zip(tensors, self.values.split(lengths), strict=True):
            tensor.data = part[: tensor.numel()].view(tensor.shape)

    def gathered(self, tensors: Sequence[Tensor]) -> Tensor:
        """Copies of others, such as gradients, laid out in the same way: [n]."""
        pieces = []
        for tensor, gap in zip(tensors, self._gaps, strict=True):
            pieces.append(tensor.reshape(-1))
            if len(gap):
                pieces.append(gap)
        return torch.cat(pieces)

    def adam_state(self, saved: Mapping) -> Mapping:
        """A saved state of Adam as that of `values`: an older version's has each tensor's own."""
        states, (group,) = saved["state"], saved["param_groups"]
        if len(group["params"]) == 1:
            return saved
        state = {}
        if states:
            each = [states[i] for i in group["params"]]
            state = {0: {"step": each[0]["step"]}}
            for name in ("exp_avg", "exp_avg_sq"):
                state[0][name] = self.gathered([own[name].to(self.values) for own in each])
        return {"state": state, "param_groups": [{**group, "params": [0]}]}
