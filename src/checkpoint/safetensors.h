// The safetensors container and its index: headers parsed and validated from bytes.
//
// Follows the rules of the reference: a header of at most 100 MB that begins with '{', every
// tensor's type known and its bytes exactly as many as its shape takes, the data covered without
// overlap and without a hole, no name twice. Refuses what breaks one of them, naming the tensor.
// Called by safetensors_open.cc and by the fuzz target.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"

namespace hadal {

struct SafetensorsEntry {
  std::string name;
  DType dtype = HADAL_F32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

/// All tensors of a file, by where their data lie. `origin` (the file's name) begins every message.
Result<std::vector<SafetensorsEntry>> parse_safetensors(std::span<const std::byte> bytes,
                                                        const std::string& origin);

/// weight_map of model.safetensors.index.json: each tensor's name and the file that holds it. File
/// names are plain: no folder, no "..", nothing but a name that ends in ".safetensors".
struct SafetensorsIndex {
  std::vector<std::string> files;                      ///< sorted
  std::map<std::string, size_t, std::less<>> file_of;  ///< into files
};
Result<SafetensorsIndex> parse_safetensors_index(std::string_view json, const std::string& origin);

}  // namespace hadal
