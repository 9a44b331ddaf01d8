"""The C++ kernels' launchers: one file an operation."""
