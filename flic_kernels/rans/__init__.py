"""The rANS entropy coder: integer tables, a push/pull stream, lossless on integers.

docs/rans.md describes the stream; reference.py is a slow coder of the same format and
tables_reference.py a slow maker of the same tables, batch.py codes many pictures at once, cuda.py
on a GPU. Where tensors are taken, numpy arrays are, and arrays are given for them: only CUDA needs
torch.
"""

from flic_kernels.native import CorruptStream

from .coder import Decoder, Encoder, decode, encode, gaussian_indexes
from .tables import Tables, gaussian_tables

__all__ = [
    "CorruptStream",
    "Decoder",
    "Encoder",
    "Tables",
    "decode",
    "encode",
    "gaussian_indexes",
    "gaussian_tables",
]
