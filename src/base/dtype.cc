#include "base/dtype.h"

#include <array>

namespace hadal {
namespace {

constexpr auto kTable = std::to_array<DTypeInfo>({
#define HADAL_DTYPE(name, code, values, bytes, ggml, st) \
  {HADAL_##name, #name, values, bytes, ggml, st},
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
});

template <typename Match>
const DTypeInfo* find(Match match) {
  for (const DTypeInfo& row : kTable)
    if (match(row)) return &row;
  return nullptr;
}

}  // namespace

const DTypeInfo* dtype_info(DType dtype) {
  return find([=](const DTypeInfo& r) { return r.dtype == dtype; });
}

const DTypeInfo* dtype_from_ggml(uint32_t ggml_id) {
  return find([=](const DTypeInfo& r) {
    return r.ggml_id >= 0 && static_cast<uint32_t>(r.ggml_id) == ggml_id;
  });
}

const DTypeInfo* dtype_from_safetensors(std::string_view name) {
  return find([=](const DTypeInfo& r) { return !name.empty() && r.safetensors == name; });
}

std::string_view dtype_name(DType dtype) {
  const DTypeInfo* row = dtype_info(dtype);
  return row ? row->name : "?";
}

std::optional<int64_t> row_bytes(DType dtype, int64_t values) {
  const DTypeInfo* row = dtype_info(dtype);
  if (!row || values < 0 || values % row->block_values != 0) return std::nullopt;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(values / row->block_values, static_cast<int64_t>(row->block_bytes),
                             &bytes))
    return std::nullopt;
  return bytes;
}

bool is_plain(DType dtype) {
  const DTypeInfo* row = dtype_info(dtype);
  return row && row->block_values == 1;
}

}  // namespace hadal
