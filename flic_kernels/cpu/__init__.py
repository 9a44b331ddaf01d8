"""Launchers of the C++ kernels for CPUs, one file an operation."""
