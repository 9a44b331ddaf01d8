"""Which of a state dict's values follow from the others. Needs no torch."""

import re

# Buffers that follow from the configuration or from the parameters: a file may lack them, and they
# take no part in the fingerprint. So the constants among them (those that do not grow) are never
# loaded; the tables of update() are, but nothing in flic computes with them.
_DERIVED = re.compile(
    r"(^gaussian_conditional\.)|(\.relative_position_index$)|(\.pedestal$)|(\.bound$)"
    r"|(^entropy_bottleneck\.(_offset|_quantized_cdf|_cdf_length|target)$)"
)


def is_derived(name: str) -> bool:
    """Whether a value of this (present) name follows from the others."""
    return _DERIVED.search(name) is not None
