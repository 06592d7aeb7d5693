// For tests only: a checkpoint of tensors given in code.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/testing.h"

namespace hadal::testing {

/// A tensor of a safetensors file: its type and shape as the header has them.
struct StoredTensor {
  std::string name, dtype, shape;  // "w.weight", "F32", "2,3"
  std::string data;
};

/// The bytes of numbers, in order.
template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Holds the files while the checkpoint is used.
class TestCheckpoint {
 public:
  explicit TestCheckpoint(const std::vector<StoredTensor>& tensors,
                          std::string_view config = R"({"model_type": "test"})") {
    std::string header = "{", data;
    for (const StoredTensor& t : tensors) {
      if (header.size() > 1) header += ",";
      header += '"' + t.name + R"(":{"dtype":")" + t.dtype + R"(","shape":[)" + t.shape +
                R"(],"data_offsets":[)" + std::to_string(data.size()) + "," +
                std::to_string(data.size() + t.data.size()) + "]}";
      data += t.data;
    }
    folder_.write("config.json", config);
    folder_.write("model.safetensors", safetensors(header + "}", data));
    auto opened = Checkpoint::open(folder_.path());
    if (!opened) throw std::runtime_error(opened.error().message);
    checkpoint_ = *std::move(opened);
  }
  const Checkpoint& operator*() const { return *checkpoint_; }
  const Checkpoint* operator->() const { return checkpoint_.get(); }

 private:
  TempFolder folder_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

}  // namespace hadal::testing
