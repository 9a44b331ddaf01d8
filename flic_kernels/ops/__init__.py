"""The operations, one file each; importing this package registers them all."""

from .. import native
from .conv3x3 import conv3x3
from .fat_block import fat_block
from .frequency_modulation import frequency_modulation
from .fused_linear import fused_linear
from .gdn import gdn
from .positional_encoding import positional_encoding
from .registry import OPERATIONS as OPERATIONS
from .registry import NotAvailable, backends, use
from .slice_attention import slice_attention
from .window_attention import window_attention

native.share_threads()

# Literal strings: flic_kernels reads them here without importing this.
__all__ = [
    "NotAvailable",
    "backends",
    "conv3x3",
    "fat_block",
    "frequency_modulation",
    "fused_linear",
    "gdn",
    "positional_encoding",
    "slice_attention",
    "use",
    "window_attention",
]
