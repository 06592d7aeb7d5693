#include "weights/loader.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>

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
    weight.tensor.dtype = form.form.dtype;
    entries.push_back({.weight = &weight, .form = form, .loaded = {}});
  }
  return WeightLoader(device, std::move(entries), false);
}

Result<WeightLoader> WeightLoader::plan_in_forms(const Device& device, std::deque<Weight>& weights,
                                                 std::span<const HeldForm> forms) {
  HADAL_CHECK(forms.size() == weights.size());
  std::vector<Entry> entries;
  for (size_t i = 0; i < weights.size(); ++i) {
    HADAL_TRY(const HeldForm form, held_in(device, weights[i].source, forms[i]));
    weights[i].tensor.dtype = form.form.dtype;
    entries.push_back({.weight = &weights[i], .form = form, .loaded = {}});
  }
  return WeightLoader(device, std::move(entries), false);
}

const HeldForm* WeightLoader::form_of(uint32_t number) const {
  for (const Entry& e : entries_)
    if (e.weight->tensor.index == number) return &e.form;
  return nullptr;
}

WeightLoader WeightLoader::plan_one_of_several(const Device& device, std::deque<Weight>& weights,
                                               WeightMode mode) {
  std::vector<Entry> entries;
  std::vector<Tensor> operands;
  for (Weight& weight : weights) {
    Entry& entry = entries.emplace_back();
    entry.weight = &weight;
    Tensor& operand = operands.emplace_back(weight.tensor);
    if (auto form = held_form(device, weight.source, mode)) {
      entry.form = *std::move(form);
      operand.dtype = entry.form.form.dtype;
    } else {
      entry.refused = std::move(form).error();
    }
  }
  WeightLoader loader(device, std::move(entries), true);
  loader.operands_ = std::move(operands);
  return loader;
}

void WeightLoader::number(std::deque<Weight>& weights) {
  uint32_t next = 0;
  for (Weight& weight : weights) {
    weight.tensor.index = next++;
    weight.tensor.weight = nullptr;
  }
}

Tensor WeightLoader::operand(const Tensor& numbered) const {
  HADAL_CHECK(numbered.index < operands_.size());
  Tensor held = numbered;
  held.dtype = operands_[numbered.index].dtype;
  held.weight = operands_[numbered.index].weight;
  return held;
}

Status WeightLoader::keep(const std::set<uint32_t>& numbers) {
  for (const Entry& e : entries_)
    if (e.refused && numbers.contains(e.weight->tensor.index)) return *e.refused;
  std::erase_if(entries_,
                [&](const Entry& e) { return !numbers.contains(e.weight->tensor.index); });
  return {};
}

uint64_t WeightLoader::bytes_of(const Entry& e) {
  const WeightSource& source = e.weight->source;
  if (e.form.bytes > 0) return e.form.bytes;
  return e.form.as_stored ? source.bytes()
                          : e.form.form.bytes(source.batch, source.rows, source.cols);
}

uint64_t WeightLoader::bytes() const {
  uint64_t bytes = 0;
  for (const Entry& e : entries_) bytes += bytes_of(e);
  return bytes;
}

uint64_t WeightLoader::bytes_of(uint32_t number) const {
  for (const Entry& e : entries_)
    if (e.weight->tensor.index == number) return bytes_of(e);
  return 0;
}

uint64_t WeightLoader::mapped_bytes() const {
  uint64_t bytes = 0;
  for (const Entry& e : entries_)
    if (e.form.bytes == 0 && e.form.as_stored) bytes += e.weight->source.bytes();
  return bytes;
}

std::vector<std::string> WeightLoader::conversions() const {
  struct Total {
    int64_t count = 0;
    uint64_t stored = 0, made = 0;
    EncodingError error;
  };
  std::map<std::string, Total> totals;
  for (const Entry& e : entries_) {
    const WeightSource& source = e.weight->source;
    // Vectors become F32 on every chip; what is turned keeps its numbers.
    if (e.form.as_stored || (source.uses & HADAL_USE_VECTOR) != 0 ||
        (source.rebuilt() && e.form.form.dtype == source.dtype))
      continue;
    Total& total = totals[e.form.form.text()];
    ++total.count;
    total.stored += source.bytes();
    total.made += e.form.form.bytes(source.batch, source.rows, source.cols);
    total.error += e.loaded.error;
  }
  std::vector<std::string> lines;
  for (const auto& [form, total] : totals) {
    const auto mib = [](uint64_t bytes) {
      char text[32];
      std::snprintf(text, sizeof text, "%.3g MiB", static_cast<double>(bytes) / (1 << 20));
      return std::string(text);
    };
    std::string line = std::to_string(total.count) + " matrices of " + mib(total.stored) +
                       " are held as " + form + ", " + mib(total.made) +
                       (total.made > total.stored ? ": the chip takes nothing smaller" : "");
    if (total.error.values > 0) {
      char text[64];
      std::snprintf(text, sizeof text, "; rms error %.2g of the numbers' rms",
                    std::sqrt(total.error.error / total.error.values));
      line += text;
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

Status WeightLoader::load(std::span<const MappedFile> files, const LoadProgress& progress) {
  // The largest first: while a weight is packed it is in memory twice, and then that fits best.
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    const uint64_t x = a.weight->source.bytes(), y = b.weight->source.bytes();
    return x != y ? x > y : a.weight->source.name < b.weight->source.name;
  });
  std::shared_ptr<ThreadPool> pool;  // the cpu chip's own, where that is the device
  if (std::any_of(entries_.begin(), entries_.end(),
                  [](const Entry& e) { return !e.form.as_stored; })) {
    HADAL_TRY(pool, ThreadPool::shared(device_->host_threads()));
  }
  uint64_t total = 0, done = 0;
  for (const Entry& e : entries_) total += e.weight->source.bytes();
  for (Entry& e : entries_) {
    const WeightSource& source = e.weight->source;
    HADAL_TRY(e.loaded, load_weight(*device_, source, e.form, pool.get()));
    Tensor& operand = one_of_several_ ? operands_[e.weight->tensor.index] : e.weight->tensor;
    operand.weight = e.loaded.weight.get();
    // A packed weight has left the mapped file: without this the model would be in memory twice.
    if (e.form.bytes > 0) drop_pages(source, files);
    done += source.bytes();
    if (progress) progress(done, total);
  }
  return device_->sync();  // uploads may still be on their way
}

}  // namespace hadal
