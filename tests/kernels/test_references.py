"""The eager references' gradients against finite differences in float64."""

import pytest
import torch
from operation_checks import tensors_of

from flic_kernels.ops import OPERATIONS


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_gradients_are_those_of_finite_differences(operation):
    arguments = operation.lightest.make(torch.Generator().manual_seed(0), torch.float64)
    places, inputs = [], []
    for name in operation.differentiable:
        parts = tensors_of(arguments[name])
        places.append((name, len(parts), isinstance(arguments[name], torch.Tensor)))
        inputs += [part.requires_grad_() for part in parts]
    assert inputs

    def compute(*values):
        values = iter(values)
        given = dict(arguments)
        for name, count, single in places:
            parts = [next(values) for _ in range(count)]
            if parts:
                given[name] = parts[0] if single else parts
        return operation.reference(**given)

    assert torch.autograd.gradcheck(compute, inputs, fast_mode=True, atol=1e-6)
