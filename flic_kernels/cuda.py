"""torch's CUDA devices and streams, for the coder and the exact engine: on CUDA they need torch."""

import ctypes

import torch


def is_cuda(device: torch.device | str) -> bool:
    """Whether a device is a CUDA device; raises RuntimeError where there is no such name."""
    return torch.device(device).type == "cuda"


def current_device() -> int | None:
    """The current device's index, None where no device is available."""
    return torch.cuda.current_device() if torch.cuda.is_available() else None


def stream(device: torch.device | int) -> ctypes.c_void_p:
    """A device's current stream."""
    return ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
