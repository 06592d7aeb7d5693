#include "weights/loader.h"

#include <algorithm>

namespace hadal {
namespace {

void drop_pages(const WeightSource& source, std::span<const MappedFile> files) {
  for (const WeightSource::Piece& piece : source.pieces)
    for (const MappedFile& file : files)
      if (piece.data.data() >= file.bytes().data() &&
          piece.data.data() < file.bytes().data() + file.bytes().size())
        file.drop(piece.data);
}

}  // namespace

Result<WeightLoader> WeightLoader::plan(const Device& device, std::deque<Weight>& weights,
                                        WeightMode mode) {
  std::vector<Entry> entries;
  for (Weight& weight : weights) {
    HADAL_TRY(const HeldForm form, held_form(device, weight.source, mode));
    weight.tensor.dtype = form.dtype;
    entries.push_back({.weight = &weight, .form = form, .loaded = {}});
  }
  return WeightLoader(device, std::move(entries));
}

uint64_t WeightLoader::bytes() const {
  uint64_t bytes = 0;
  for (const Entry& e : entries_)
    bytes += e.form.bytes > 0 ? e.form.bytes : e.weight->source.bytes();
  return bytes;
}

Status WeightLoader::load(std::span<const MappedFile> files, const LoadProgress& progress) {
  // The largest first: while a weight is packed it is in memory twice, and then that fits best.
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    const uint64_t x = a.weight->source.bytes(), y = b.weight->source.bytes();
    return x != y ? x > y : a.weight->source.name < b.weight->source.name;
  });
  uint64_t total = 0, done = 0;
  for (const Entry& e : entries_) total += e.weight->source.bytes();
  for (Entry& e : entries_) {
    const WeightSource& source = e.weight->source;
    HADAL_TRY(e.loaded, load_weight(*device_, source, e.form));
    e.weight->tensor.weight = e.loaded.weight.get();
    // A packed weight has left the mapped file: without this the model would be in memory twice.
    if (e.form.bytes > 0) drop_pages(source, files);
    done += source.bytes();
    if (progress) progress(done, total);
  }
  return {};
}

}  // namespace hadal
