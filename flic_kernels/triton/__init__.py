"""Triton kernels and their launchers, one file an operation; imported only when asked for."""
