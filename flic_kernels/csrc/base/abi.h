// The version of the C interface. It changes with every change of a C function's parameters or of a
// structure that crosses the boundary; flic_kernels/native.py holds the same number and refuses a
// library with another one. tests/kernels/test_native.py notices a change that has not been counted.
#pragma once

#include "base/status.h"

FLIC_API int flic_abi() { return 6; }
