// Element types: names, block sizes, and where they come from. One row a type in
// include/hadal/dtypes.inc.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "hadal/chip.h"

namespace hadal {

using DType = hadal_dtype;

/// What the table knows of one type.
struct DTypeInfo {
  DType dtype;
  std::string_view name;         ///< as in dtypes.inc: "Q4_K"
  int32_t block_values;          ///< values stored together along the innermost dimension
  int32_t block_bytes;           ///< bytes of such a block
  int32_t ggml_id;               ///< type id in GGUF files, -1 if GGUF has no such type
  std::string_view safetensors;  ///< name in safetensors headers, "" if it has none
};

/// The row of `dtype`; nullptr for a code that is not in the table.
const DTypeInfo* dtype_info(DType dtype);
const DTypeInfo* dtype_from_ggml(uint32_t ggml_id);
const DTypeInfo* dtype_from_safetensors(std::string_view name);

/// The name, or "?" for an unknown code.
std::string_view dtype_name(DType dtype);

/// Bytes of one row of `values` values; nullopt if they are no whole number of blocks, or if the
/// size overflows.
std::optional<int64_t> row_bytes(DType dtype, int64_t values);

/// True for types that hold plain numbers, one a block (F32, BF16, I8, …), false for block formats.
bool is_plain(DType dtype);

}  // namespace hadal
