// The same checks with hadal/chip_parts.h compiled as C++20.
#include "chip_parts_test.c"
