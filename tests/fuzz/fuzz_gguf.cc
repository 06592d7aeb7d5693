// A GGUF header from any bytes, and all that is made from it: configuration, tokenizer data, names,
// the first values.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/quant.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_tokenizer.h"
#include "checkpoint/names.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = hadal::parse_gguf(std::as_bytes(std::span(data, size)), "fuzz");
  if (!file) return 0;
  hadal::GgufTensorFacts facts;
  for (const auto& tensor : file->tensors) {
    if (tensor.name == "output.weight") facts.has_output = true;
    if (tensor.name == "token_embd.weight") facts.embedding_rows = tensor.shape[0];
    std::vector<float> values(static_cast<size_t>(hadal::dtype_info(tensor.dtype)->block_values));
    hadal::decode_to_f32(tensor.dtype, tensor.data.data(), static_cast<int64_t>(values.size()),
                         values.data());
    (void)hadal::official_name("deepseek2", tensor.name);
  }
  for (const auto& [key, value] : file->metadata) {
    (void)value.printed();
    (void)value.description();
    (void)value.integers();
  }
  std::vector<std::string> notes;
  if (const auto config = hadal::gguf_config(*file, facts, "fuzz", notes)) {
    (void)hadal::check_config(*config).has_value();
    (void)config->dump();
  }
  (void)hadal::gguf_tokenizer(*file, "fuzz", notes).has_value();
  return 0;
}
