"""A model at a step of its own, for tools that choose a model and know no steps."""

from __future__ import annotations

from torch import Tensor

from ..model.network import FLIC


class AtStep(FLIC):
    """A FLIC whose forward pass and streams are at one quantisation step where none is named."""

    step = 1.0

    @classmethod
    def of(cls, model: FLIC, step: float) -> AtStep:
        """A copy of a model, in eval mode."""
        made = cls(model.config)
        made.load_state_dict(model.state_dict())
        made.metadata, made.step = model.metadata, step
        return made.eval()

    def forward(self, x: Tensor, *others: object, **options: object) -> dict:
        return super().forward(x, *others, **{"steps": x.new_full((len(x),), self.step), **options})

    def compress(self, *args: object, **options: object) -> dict:
        return super().compress(*args, **{"step": self.step, **options})

    def decompress(self, *args: object, **options: object) -> dict:
        return super().decompress(*args, **{"step": self.step, **options})
