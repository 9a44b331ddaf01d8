#include "base/abi.h"  // into the CPU library
