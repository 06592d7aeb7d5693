#ifndef HADAL_CHIP_H
#define HADAL_CHIP_H
#include <stdint.h>
typedef enum hadal_dtype {
  HADAL_DTYPE_NONE = 0,
#define HADAL_DTYPE(name, code, values, bytes, ggml, st) HADAL_##name = code,
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
  HADAL_DTYPE_FORCE_32BIT = 0x7fffffff
} hadal_dtype;
#endif
