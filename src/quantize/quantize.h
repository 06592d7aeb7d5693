// Writes a model as a GGUF file in other types: from an official folder, or from another GGUF.
//
// Blocks of rows are decoded, encoded by all threads and written; never more than some tens of MiB
// are held. Before the first number is encoded, the header is read back as a model of its own and
// held against the source: what a GGUF cannot say is refused by name. The file appears under its
// name when it is complete. Called by apps/hadal.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "checkpoint/checkpoint.h"
#include "quantize/mix.h"

namespace hadal::quantize {

struct Options {
  const Mix* mix = nullptr;
  bool allow_requantize = false;  ///< also of what is quantised already
  bool replace = false;           ///< an existing file
  int threads = 1;
  std::function<void(uint64_t done, uint64_t total)> progress;  ///< in bytes
  const std::atomic<bool>* stop = nullptr;
};

struct Report {
  uint64_t source_bytes = 0, bytes = 0;
  std::map<DType, std::pair<int64_t, uint64_t>> types;  ///< tensors, bytes
  int64_t fallbacks = 0;              ///< tensors whose rows are no whole blocks of their type
  std::vector<std::string> left_out;  ///< tensors of the source that the file lacks
};

/// The bytes of the file that quantize would write, or the error by which it would refuse, as far
/// as that shows without reading a number.
Result<uint64_t> written_bytes(const Checkpoint& source, const Options& options);

/// Errors: kUsage if `out` exists; kFailed; kInterrupted. Nothing is left of an unfinished file.
Result<Report> quantize(const Checkpoint& source, const std::filesystem::path& out,
                        const Options& options);

}  // namespace hadal::quantize
