// print_compressed_ids MODEL...: the compressed ids of each model's tokenizer, a JSON list a line
//   (MODEL: a folder, a GGUF file or a tokenizer.json).
// print_compressed_ids --keys: the compression key of each line of standard input, a JSON string.
// For tools/oracle/check_compressed_ids.py, which compares them with the `tokenizers` library.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "text/tokenizer/compressed_ids.h"

namespace hadal {
namespace {

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& path) {
  if (std::filesystem::path(path).extension() == ".json") {
    TokenizerData data;
    HADAL_TRY(data.tokenizer_json, read_text_file(path));
    return Tokenizer::create(data, path);
  }
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(path));
  return Tokenizer::create(checkpoint->tokenizer(), path);
}

int print_ids(const std::string& path) {
  const auto tokenizer = open_tokenizer(path);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  std::printf("%s\n", nlohmann::json(compressed_ids(**tokenizer).by_id).dump().c_str());
  return 0;
}

int print_keys() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto text = nlohmann::json::parse(line).get<std::string>();
    std::printf("%s\n", nlohmann::json(compression_key(text)).dump().c_str());
  }
  return 0;
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  int failures = 0;
  for (int i = 1; i < argc; ++i)
    failures += std::string(argv[i]) == "--keys" ? hadal::print_keys() : hadal::print_ids(argv[i]);
  return failures == 0 ? 0 : 1;
}
