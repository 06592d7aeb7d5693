// AdapterFile: a low-rank adapter as peft writes it: a folder with adapter_config.json and
// adapter_model.safetensors.
//
// Owns the mapping. Everything that can be told without the model is checked here: the kind of
// adapter, that each module has its A and its B, of ranks that fit together and to the
// configuration, and that every number is finite. Which modules a model has, weights/adapters.h
// finds out. Refuses by name what is no plain LoRA: DoRA, biases, modules that were trained whole.
// The paper: Hu et al. 2021, "LoRA"; rslora: Kalajdzievski 2023.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/result.h"
#include "checkpoint/config.h"

namespace hadal {

/// One of the two matrices; its bytes may be unaligned.
struct AdapterMatrix {
  std::string name;         ///< in the file: "base_model.model.model.layers.0.….lora_A.weight"
  DType dtype = HADAL_F32;  ///< F32, F16 or BF16
  int64_t rows = 0, cols = 0;
  std::span<const std::byte> data;
  [[nodiscard]] std::string text() const;  ///< its name and shape, for messages
};

/// What is added to one matrix of the model: W + scale B A.
struct AdapterModule {
  std::string module;  ///< without peft's prefix: "model.layers.0.self_attn.q_proj"
  AdapterMatrix a, b;  ///< [rank, in] and [out, rank]
  double scale = 1;    ///< alpha / rank, or by its root for rslora
  [[nodiscard]] int64_t rank() const { return a.rows; }
};

class AdapterFile {
 public:
  /// Errors: kNotFound; kFailed with the file and the tensor or key.
  static Result<std::shared_ptr<const AdapterFile>> open(const std::filesystem::path& folder);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// By module, in the order of their names.
  [[nodiscard]] const std::vector<AdapterModule>& modules() const { return modules_; }
  /// base_model_name_or_path, as written; "" if it is not said. Told to people, never checked.
  [[nodiscard]] const std::string& base_model() const { return base_model_; }
  [[nodiscard]] int64_t largest_rank() const;
  /// Of everything that the adapter adds to a model.
  [[nodiscard]] const Digest& digest() const { return digest_; }

 private:
  explicit AdapterFile(MappedFile file) : file_(std::move(file)) {}
  Status read_config(const Config& config);
  Status read_modules(const Config& config);

  std::filesystem::path path_;
  MappedFile file_;
  std::vector<AdapterModule> modules_;
  std::string base_model_;
  Digest digest_{};
};

}  // namespace hadal
