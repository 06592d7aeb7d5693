#include "checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <unordered_set>

#include "base/file.h"
#include "checkpoint/json_scan.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference
// DeepSeek-V3 has 91,000 tensors in 163 files, V4's largest 140,000.
constexpr size_t kMaxTensors = size_t{1} << 18;
constexpr size_t kMaxIndexBytes = size_t{64} << 20;
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxNameBytes = 1024;

/// What both readers below share: the path of open objects and the first error. Both have a fixed
/// shape to fill, so every call either fits the place it comes at or is refused there. The names of
/// the members are nlohmann's.
class SaxBase {
 public:
  bool binary(Json::binary_t& /*value*/) { return refuse("binary data"); }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const Json::exception& /*error*/) {
    return fail(
        fmt::format("byte {} of the JSON: it is not valid", position > 0 ? position - 1 : 0));
  }
  [[nodiscard]] const std::string& error() const { return error_; }

 protected:
  bool fail(std::string text) {
    if (error_.empty()) error_ = std::move(text);
    return false;
  }
  bool refuse(std::string_view what) {
    return fail(fmt::format("unexpected {} {}", what, place()));
  }
  [[nodiscard]] std::string place() const {
    if (depth_ == 0) return "at the top";
    return depth_ == 1 ? "under " + quote(name_)
                       : fmt::format("under {}: {}", quote(name_), quote(key_));
  }

  int depth_ = 0;     ///< open objects
  std::string name_;  ///< the key at the top
  std::string key_;   ///< the key within it

 private:
  std::string error_;
};

struct RawEntry {
  std::string name;
  DType dtype = HADAL_F32;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};

/// {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"k":
/// "text"}}
class HeaderReader : public SaxBase {
 public:
  std::vector<RawEntry> entries;

  bool null() { return refuse("null"); }
  bool boolean(bool /*value*/) { return refuse("boolean"); }
  bool number_float(double /*value*/, const std::string& /*text*/) { return refuse("fraction"); }
  bool number_integer(int64_t /*value*/) { return refuse("negative number"); }
  bool number_unsigned(uint64_t value) {
    if (!list_) return refuse("number");
    if (list_->size() >= kMaxDims)
      return fail(fmt::format("more than {} numbers {}", kMaxDims, place()));
    if (value > static_cast<uint64_t>(INT64_MAX))
      return fail(fmt::format("number {} is too large {}", value, place()));
    list_->push_back(static_cast<int64_t>(value));
    return true;
  }
  bool string(std::string& value) {
    if (in_metadata_ && depth_ == 2) return true;
    if (depth_ != 2 || list_ || key_ != "dtype") return refuse("string");
    const DTypeInfo* row = dtype_from_safetensors(value);
    if (!row) return fail(fmt::format("tensor {}: unknown type {}", quote(name_), quote(value)));
    current_.dtype = row->dtype;
    return true;
  }
  bool start_object(std::size_t /*count*/) {
    if (depth_ == 2 || list_) return refuse("object");
    if (++depth_ == 2) {
      in_metadata_ = name_ == "__metadata__";
      current_ = RawEntry{.name = name_, .dtype = HADAL_F32, .shape = {}, .begin = 0, .end = 0};
      offsets_.clear();
      seen_.clear();
    }
    return true;
  }
  bool key(std::string& value) {
    (depth_ == 1 ? name_ : key_) = value;
    if (depth_ == 1) {
      if (!names_.insert(value).second)
        return fail(fmt::format("tensor {} is there twice", quote(value)));
      return true;
    }
    if (in_metadata_) return true;
    if (value != "dtype" && value != "shape" && value != "data_offsets") return refuse("key");
    if (!seen_.insert(value).second)
      return fail(fmt::format("tensor {}: {} is there twice", quote(name_), quote(value)));
    return true;
  }
  bool end_object() {
    if (--depth_ != 1) return true;
    if (in_metadata_) {
      in_metadata_ = false;
      return true;
    }
    if (seen_.size() != 3)
      return fail(fmt::format("tensor {}: expected dtype, shape and data_offsets", quote(name_)));
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1])
      return fail(fmt::format("tensor {}: data_offsets must be two rising numbers", quote(name_)));
    if (entries.size() >= kMaxTensors)
      return fail(fmt::format("more than {} tensors", kMaxTensors));
    current_.begin = static_cast<uint64_t>(offsets_[0]);
    current_.end = static_cast<uint64_t>(offsets_[1]);
    entries.push_back(std::move(current_));
    return true;
  }
  bool start_array(std::size_t /*count*/) {
    if (depth_ != 2 || in_metadata_ || list_ || key_ == "dtype") return refuse("list");
    list_ = key_ == "shape" ? &current_.shape : &offsets_;
    return true;
  }
  bool end_array() {
    list_ = nullptr;
    return true;
  }

 private:
  bool in_metadata_ = false;
  RawEntry current_;
  std::vector<int64_t> offsets_;
  std::set<std::string, std::less<>> seen_;
  std::vector<int64_t>* list_ = nullptr;  ///< where numbers go: the open array
  std::unordered_set<std::string> names_;
};

/// {"metadata": {…}, "weight_map": {"name": "file"}}; what is beside weight_map is passed over.
class IndexReader : public SaxBase {
 public:
  std::map<std::string, std::string, std::less<>> weight_map;
  bool found = false;

  bool null() { return scalar("null"); }
  bool boolean(bool /*value*/) { return scalar("boolean"); }
  bool number_float(double /*value*/, const std::string& /*text*/) { return scalar("number"); }
  bool number_integer(int64_t /*value*/) { return scalar("number"); }
  bool number_unsigned(uint64_t /*value*/) { return scalar("number"); }
  bool string(std::string& value) {
    if (!in_map()) return scalar("string");
    if (weight_map.size() >= kMaxTensors)
      return fail(fmt::format("more than {} tensors", kMaxTensors));
    if (!weight_map.emplace(key_, value).second)
      return fail(fmt::format("tensor {} is there twice", quote(key_)));
    return true;
  }
  bool start_object(std::size_t /*count*/) {
    if (in_map()) return refuse("object");
    ++depth_;
    if (in_map()) {
      if (found) return fail("weight_map is there twice");
      found = true;
    }
    return true;
  }
  bool key(std::string& value) {
    if (depth_ == 1) name_ = value;
    if (depth_ == 2) key_ = value;
    return true;
  }
  bool end_object() {
    --depth_;
    return true;
  }
  bool start_array(std::size_t /*count*/) {
    if (depth_ == 0 || in_map() || (depth_ == 1 && name_ == "weight_map")) return refuse("list");
    return true;
  }
  bool end_array() { return true; }

 private:
  [[nodiscard]] bool in_map() const { return depth_ == 2 && name_ == "weight_map"; }
  bool scalar(std::string_view what) {
    if (depth_ == 0 || in_map() || (depth_ == 1 && name_ == "weight_map")) return refuse(what);
    return true;
  }
};

template <typename Reader>
Status run(Reader& reader, std::string_view json, const std::string& origin,
           const JsonLimits& limits) {
  HADAL_TRY(scan_json(json, origin, limits));
  try {
    if (Json::sax_parse(json.begin(), json.end(), &reader)) return {};
  } catch (const Json::exception&) {
    return failed(fmt::format("{}: no valid JSON", origin));
  }
  return failed(fmt::format("{}: {}", origin, reader.error()));
}

/// Bytes that a tensor of this shape takes; invalid if the shape overflows or is no whole number of
/// blocks.
CheckedSize expected_bytes(const RawEntry& entry) {
  CheckedSize values(1);
  for (const int64_t dim : entry.shape) values = values * CheckedSize(static_cast<uint64_t>(dim));
  if (!values.ok()) return CheckedSize::invalid();
  const auto bytes = row_bytes(entry.dtype, values.get_or(0));
  return bytes ? CheckedSize(static_cast<uint64_t>(*bytes)) : CheckedSize::invalid();
}

Status check_entry(const RawEntry& entry, size_t data_size, const std::string& origin) {
  const auto wrong = [&](std::string_view text) {
    return failed(fmt::format("{}: tensor {}: {}", origin, quote(entry.name), text));
  };
  if (entry.name.empty() || entry.name.size() > kMaxNameBytes || !is_printable(entry.name))
    return wrong(fmt::format("its name must be 1 to {} printable bytes", kMaxNameBytes));
  if (entry.end > data_size)
    return wrong(fmt::format(
        "data_offsets [{}, {}] end beyond the {} bytes of data in the file: truncated or damaged",
        entry.begin, entry.end, data_size));
  const CheckedSize bytes = expected_bytes(entry);
  if (!bytes.ok())
    return wrong(fmt::format("a shape of [{}] {} values has no size", fmt::join(entry.shape, ", "),
                             dtype_name(entry.dtype)));
  if (static_cast<uint64_t>(bytes.get_or(-1)) != entry.end - entry.begin)
    return wrong(fmt::format("[{}] {} values take {} bytes, data_offsets give {}",
                             fmt::join(entry.shape, ", "), dtype_name(entry.dtype),
                             bytes.get_or(-1), entry.end - entry.begin));
  return {};
}

bool is_shard_name(std::string_view name) {
  return name.size() <= 255 && name.ends_with(".safetensors") &&
         name.find('/') == std::string_view::npos && name.front() != '.' && is_printable(name);
}

}  // namespace

Result<std::vector<SafetensorsEntry>> parse_safetensors(std::span<const std::byte> bytes,
                                                        const std::string& origin) {
  uint64_t length = 0;
  if (bytes.size() < sizeof length)
    return failed(
        fmt::format("{}: no safetensors file: {} bytes, the header's length alone takes 8", origin,
                    bytes.size()));
  std::memcpy(&length, bytes.data(), sizeof length);
  const size_t left = bytes.size() - sizeof length;
  if (length > kMaxHeaderBytes)
    return failed(fmt::format("{}: a header of {} bytes, at most {} allowed: no safetensors file?",
                              origin, length, kMaxHeaderBytes));
  if (length > left)
    return failed(fmt::format("{}: a header of {} bytes, but only {} follow: truncated", origin,
                              length, left));
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()) + sizeof length, length);
  if (!json.starts_with('{'))
    return failed(fmt::format("{}: byte 8: the header must begin with '{{', found {}", origin,
                              quote(json.substr(0, 4))));

  HeaderReader reader;
  HADAL_TRY(run(reader, json, origin,
                {.depth = 3, .string_bytes = int64_t{8} << 20, .keys = int64_t{4} * (1 << 18)}));
  const std::span<const std::byte> data = bytes.subspan(sizeof length + length);
  std::vector<RawEntry>& raw = reader.entries;
  for (const RawEntry& entry : raw) HADAL_TRY(check_entry(entry, data.size(), origin));
  std::sort(raw.begin(), raw.end(), [](const RawEntry& a, const RawEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t at = 0;
  for (const RawEntry& entry : raw) {
    if (entry.begin != at)
      return failed(fmt::format("{}: tensor {}: its data begin at {}, expected {}: {}", origin,
                                quote(entry.name), entry.begin, at,
                                entry.begin < at ? "two tensors overlap" : "a hole before it"));
    at = entry.end;
  }
  if (at != data.size())
    return failed(
        fmt::format("{}: {} bytes of data, the tensors take {}", origin, data.size(), at));

  std::vector<SafetensorsEntry> out;
  out.reserve(raw.size());
  for (RawEntry& entry : raw)
    out.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                   data.subspan(entry.begin, entry.end - entry.begin)});
  return out;
}

Result<SafetensorsIndex> parse_safetensors_index(std::string_view json, const std::string& origin) {
  if (json.size() > kMaxIndexBytes)
    return failed(fmt::format("{}: {} bytes, more than the {} of an index", origin, json.size(),
                              kMaxIndexBytes));
  IndexReader reader;
  HADAL_TRY(run(reader, json, origin,
                {.depth = 64, .string_bytes = int64_t{1} << 20, .keys = int64_t{1} << 19}));
  if (!reader.found || reader.weight_map.empty())
    return failed(fmt::format("{}: no \"weight_map\" in it", origin));
  SafetensorsIndex index;
  std::set<std::string, std::less<>> names;
  for (const auto& [tensor, file] : reader.weight_map) {
    if (file.empty() || !is_shard_name(file))
      return failed(fmt::format(
          "{}: tensor {}: {} is no plain name of a .safetensors file in the same folder", origin,
          quote(tensor), quote(file)));
    names.insert(file);
  }
  index.files.assign(names.begin(), names.end());
  for (auto& [tensor, file] : reader.weight_map) {
    const auto place = std::lower_bound(index.files.begin(), index.files.end(), file);
    index.file_of.emplace_hint(index.file_of.end(), tensor,
                               static_cast<size_t>(place - index.files.begin()));
  }
  return index;
}

}  // namespace hadal
