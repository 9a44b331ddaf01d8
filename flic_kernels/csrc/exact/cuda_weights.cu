// The weights' folding and packing for the CUDA library: the CPU library's sources, compiled once
// more.
#include "exact/load_weights.cpp"
#include "exact/weights.cpp"
