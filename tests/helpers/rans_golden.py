"""The fixed streams of tests/golden/rans.npz."""

import numpy as np
import torch
from places import GOLDEN
from rans_cases import small_tables

from flic_kernels import rans

ARRAYS = np.load(GOLDEN / "rans.npz")
NAMES = sorted({name.split(".")[0] for name in ARRAYS.files})


def case(name):
    """(stream, pushes, lanes, groups) with pushes of tensors."""
    which, lanes, groups = ARRAYS[f"{name}.options"].tolist()
    tables = {"small": small_tables, "gaussian": rans.gaussian_tables}[which]()
    pushes = []
    while f"{name}.{len(pushes)}.symbols" in ARRAYS.files:
        arrays = (ARRAYS[f"{name}.{len(pushes)}.{what}"] for what in ("symbols", "indexes"))
        pushes.append((*(torch.from_numpy(array) for array in arrays), tables))
    return ARRAYS[f"{name}.stream"].tobytes(), pushes, int(lanes) or None, int(groups) or None
