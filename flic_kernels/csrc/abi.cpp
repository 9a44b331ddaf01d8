#include "abi.h"  // into the CPU library
