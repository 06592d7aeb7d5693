// Lines of a batch file, of requests and of results: each line that is not blank gives one item,
// and an item that is no call gives one line of results that is read back as done.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "server/batch_file.h"

namespace {

std::filesystem::path file_with(const char* name, std::string_view bytes) {
  static const std::filesystem::path folder = [] {
    std::filesystem::path made =
        std::filesystem::temp_directory_path() / ("hadal-fuzz-batch-" + std::to_string(::getpid()));
    std::filesystem::create_directories(made);
    return made;
  }();
  std::ofstream(folder / name, std::ios::binary | std::ios::trunc) << bytes;
  return folder / name;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hadal;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto path = file_with("in", bytes);
  if (const auto done = server::read_batch_results(path))
    HADAL_CHECK(done->whole_bytes <= static_cast<int64_t>(size));
  auto reader = server::BatchReader::open(path);
  HADAL_CHECK(reader.has_value());
  std::string results;
  std::vector<server::BatchItem> refused;
  while (true) {
    auto item = reader->next();
    HADAL_CHECK(item.has_value());
    if (!*item) break;
    if (std::holds_alternative<server::ChatCall>((*item)->request) ||
        std::holds_alternative<server::CompletionCall>((*item)->request))
      continue;
    results += server::batch_refusal_line(**item, "r");
    refused.push_back(**std::move(item));
  }
  const auto done = server::read_batch_results(file_with("out", results));
  HADAL_CHECK(done.has_value() && done->note.empty());
  HADAL_CHECK(done->whole_bytes == static_cast<int64_t>(results.size()));
  for (const server::BatchItem& item : refused) HADAL_CHECK(done->has(item));
  return 0;
}
