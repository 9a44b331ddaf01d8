"""A model's weights in few pieces of memory: most are small, and a call for each costs more than
what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_SMALL = 1 << 14  # values; what has more stays where it is, and its gradient is not copied
_ALIGNED = 16  # values: a cache line on a CPU, and more than Triton asks of an address


class Flat:
    """Tensors of one type as a piece of memory in which the small ones lie, and the others.

    Attributes:
        pieces: the piece, [n], in which each tensor begins with a cache line, zeros between them;
            then the large tensors themselves.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        """Moves the small tensors: they are views of the first piece from now on."""
        self._small = [tensor.numel() <= _SMALL for tensor in tensors]
        self._gaps = [t.new_zeros(-t.numel() % _ALIGNED) for t in tensors]
        self.pieces = self.gathered([tensor.detach() for tensor in tensors])
        start = 0
        for tensor, gap, is_small in zip(tensors, self._gaps, self._small, strict=True):
            if is_small:
                part = self.pieces[0][start : start + tensor.numel()]
                tensor.data = part.view(tensor.shape)
                start += tensor.numel() + len(gap)

    def gathered(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Others, such as gradients, in the same way: copies of small ones, then large ones."""
        small, large = [], []
        for tensor, gap, is_small in zip(tensors, self._gaps, self._small, strict=True):
            if not is_small:
                large.append(tensor)
                continue
            small.append(tensor.reshape(-1))
            if len(gap):
                small.append(gap)
        return [torch.cat(small), *large]

    def adam_state(self, saved: Mapping) -> Mapping:
        """A saved state of Adam as that of `pieces`: an older version's has each tensor's own."""
        states, (group,) = saved["state"], saved["param_groups"]
        if len(group["params"]) == len(self.pieces):
            return saved
        numbers = range(len(self.pieces))
        joined: dict[int, dict] = {}
        if states:
            each = [states[i] for i in group["params"]]
            joined = {i: {"step": each[0]["step"].clone()} for i in numbers}
            for name in ("exp_avg", "exp_avg_sq"):
                moments = self.gathered([own[name].to(self.pieces[0]) for own in each])
                for state, moment in zip(joined.values(), moments, strict=True):
                    state[name] = moment
        return {"state": joined, "param_groups": [{**group, "params": list(numbers)}]}
