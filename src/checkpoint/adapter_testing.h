// For tests only: an adapter's folder, made of tensors given in code.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/floats.h"
#include "checkpoint/testing.h"

namespace hadal::testing {

struct AdapterTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string data;
};

inline int64_t count_of(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t e : shape) count *= e;
  return count;
}

/// dtype: "F32", "F16", "BF16", or "F64", of which the bytes are no numbers that matter.
inline AdapterTensor adapter_tensor(std::string name, std::string dtype, std::vector<int64_t> shape,
                                    const std::vector<float>& values) {
  AdapterTensor t{std::move(name), std::move(dtype), std::move(shape), ""};
  for (const float value : values) {
    const uint16_t half = t.dtype == "F16" ? f32_to_f16(value) : f32_to_bf16(value);
    if (t.dtype == "F32")
      t.data.append(reinterpret_cast<const char*>(&value), sizeof value);
    else if (t.dtype == "F64")
      t.data.append(8, '\0');
    else
      t.data.append(reinterpret_cast<const char*>(&half), sizeof half);
  }
  return t;
}

/// All numbers alike.
inline AdapterTensor adapter_tensor(std::string name, std::string dtype, std::vector<int64_t> shape,
                                    float value) {
  const auto count = static_cast<size_t>(count_of(shape));
  return adapter_tensor(std::move(name), std::move(dtype), std::move(shape),
                        std::vector<float>(count, value));
}

class AdapterFolder {
 public:
  AdapterFolder(const std::string& config, const std::vector<AdapterTensor>& tensors) {
    std::string header = "{", data;
    for (const AdapterTensor& t : tensors) {
      if (header.size() > 1) header += ",";
      header += '"' + t.name + R"(":{"dtype":")" + t.dtype + R"(","shape":[)";
      for (size_t i = 0; i < t.shape.size(); ++i)
        header += (i ? "," : "") + std::to_string(t.shape[i]);
      header += R"(],"data_offsets":[)" + std::to_string(data.size()) + "," +
                std::to_string(data.size() + t.data.size()) + "]}";
      data += t.data;
    }
    folder_->write("adapter_config.json", config);
    folder_->write("adapter_model.safetensors", safetensors(header + "}", data));
  }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_->path(); }

 private:
  std::unique_ptr<TempFolder> folder_ = std::make_unique<TempFolder>();
};

}  // namespace hadal::testing
