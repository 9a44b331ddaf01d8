// The checksum of the C interface's header, which setup.py takes: into each library once.
#pragma once

#include "include/flic_kernels.h"

FLIC_API uint32_t flic_abi() { return FLIC_INTERFACE; }
