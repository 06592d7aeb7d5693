#include "checkpoint/gguf_writer.h"

#include <algorithm>
#include <bit>

namespace hadal {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF numbers are written as they lie in memory");

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& out, std::string_view text) {
  put(out, uint64_t{text.size()});
  out += text;
}

}  // namespace

void GgufWriter::begin(std::string_view key, GgufType type) {
  put_text(metadata_, key);
  put(metadata_, static_cast<uint32_t>(type));
  ++keys_;
}

void GgufWriter::begin_array(std::string_view key, GgufType type, size_t count) {
  begin(key, GgufType::kArray);
  put(metadata_, static_cast<uint32_t>(type));
  put(metadata_, uint64_t{count});
}

void GgufWriter::add_u32(std::string_view key, int64_t value) {
  HADAL_CHECK(value >= 0 && value <= int64_t{UINT32_MAX});
  begin(key, GgufType::kU32);
  put(metadata_, static_cast<uint32_t>(value));
}

void GgufWriter::add_f32(std::string_view key, double value) {
  begin(key, GgufType::kF32);
  put(metadata_, static_cast<float>(value));
}

void GgufWriter::add_bool(std::string_view key, bool value) {
  begin(key, GgufType::kBool);
  put(metadata_, uint8_t{value});
}

void GgufWriter::add_text(std::string_view key, std::string_view value) {
  begin(key, GgufType::kString);
  put_text(metadata_, value);
}

void GgufWriter::add_texts(std::string_view key, std::span<const std::string> values) {
  begin_array(key, GgufType::kString, values.size());
  for (const std::string& value : values) put_text(metadata_, value);
}

void GgufWriter::add_i32s(std::string_view key, std::span<const int64_t> values) {
  begin_array(key, GgufType::kI32, values.size());
  for (const int64_t value : values) put(metadata_, static_cast<int32_t>(value));
}

void GgufWriter::add_f32s(std::string_view key, std::span<const double> values) {
  begin_array(key, GgufType::kF32, values.size());
  for (const double value : values) put(metadata_, static_cast<float>(value));
}

void GgufWriter::copy(std::string_view key, const GgufValue& value) {
  if (value.is_array) {
    begin_array(key, value.type, static_cast<size_t>(value.count));
    metadata_ += value.payload;
  } else if (value.type == GgufType::kString) {
    add_text(key, value.payload);
  } else {
    begin(key, value.type);
    metadata_ += value.payload;
  }
}

void GgufWriter::add_tensor(std::string_view name, DType dtype, std::span<const int64_t> shape) {
  const DTypeInfo* info = dtype_info(dtype);
  const auto row = shape.empty() ? std::nullopt : row_bytes(dtype, shape.back());
  HADAL_CHECK(info && info->ggml_id >= 0 && row);
  put_text(infos_, name);
  put(infos_, static_cast<uint32_t>(shape.size()));
  int64_t bytes = *row;
  for (size_t i = shape.size(); i-- > 0;) {
    put(infos_, static_cast<uint64_t>(shape[i]));
    if (i + 1 < shape.size()) bytes *= shape[i];
  }
  put(infos_, static_cast<uint32_t>(info->ggml_id));
  put(infos_, static_cast<uint64_t>(data_bytes_));
  data_bytes_ += bytes + padding(bytes);
  ++tensors_;
}

std::string GgufWriter::header() const {
  std::string out = "GGUF";
  put(out, uint32_t{3});
  put(out, tensors_);
  put(out, keys_);
  out += metadata_;
  out += infos_;
  out.append(static_cast<size_t>(padding(static_cast<int64_t>(out.size()))), '\0');
  return out;
}

}  // namespace hadal
