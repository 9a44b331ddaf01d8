"""Triton kernels and their launchers, one file an operation; imported only when one is asked for."""
