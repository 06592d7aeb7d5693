// A safetensors file from any bytes; the same bytes as an index.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto tensors = hadal::parse_safetensors(bytes, "fuzz")) {
    size_t total = 0;
    for (const auto& tensor : *tensors) {
      total += tensor.data.size();
      HADAL_CHECK(tensor.data.empty() ||
                  (tensor.data.data() >= bytes.data() &&
                   tensor.data.data() + tensor.data.size() <= bytes.data() + size));
    }
    HADAL_CHECK(total <= size);
  }
  if (const auto index =
          hadal::parse_safetensors_index({reinterpret_cast<const char*>(data), size}, "fuzz"))
    for (const auto& file : index->files)
      HADAL_CHECK(file.find('/') == std::string_view::npos &&
                  file.find('\0') == std::string_view::npos);
  return 0;
}
