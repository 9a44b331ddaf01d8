// What every C function of the library returns; flic_kernels/native.py turns it into exceptions.
#pragma once

#define FLIC_API extern "C" __attribute__((visibility("default")))

enum FlicStatus : int {
    FLIC_OK = 0,
    FLIC_BAD_ARGUMENT = 1,     // null pointer, negative size, impossible option
    FLIC_OUT_OF_MEMORY = 2,
    FLIC_NOT_FINITE = 3,       // NaN or infinity where a finite number is needed
    FLIC_BAD_INDEX = 4,        // a table index outside the tables
    FLIC_NO_SUCH_ISA = 6,      // the machine lacks the instruction set asked for
    FLIC_BAD_TABLES = 7,       // frequencies that do not form tables
    FLIC_CUDA_ERROR = 8,       // a kernel could not be launched
    FLIC_CORRUPT_HEADER = 20,  // rANS stream: the header is malformed
    FLIC_CORRUPT_STATES = 21,  // rANS stream: lane states are malformed
    FLIC_CORRUPT_WORDS = 22,   // rANS stream: words run out
    FLIC_CORRUPT_ESCAPE = 23,  // rANS stream: an escape is malformed or missing
    FLIC_CORRUPT_END = 24,     // rANS stream: wrong end state, or data left over
    FLIC_CORRUPT_PULLS = 25,   // rANS stream: more or fewer pulls than pushes
};
