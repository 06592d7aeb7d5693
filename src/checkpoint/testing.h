// For tests only: GGUF and safetensors files built from bytes, whole or wrong in one place.
#pragma once

#include <unistd.h>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::testing {

/// Bytes in the order in which they are put.
class Bytes {
 public:
  template <typename T>
  Bytes& put(T value) {
    const size_t at = text_.size();
    text_.resize(at + sizeof value);
    std::memcpy(text_.data() + at, &value, sizeof value);
    return *this;
  }
  Bytes& raw(std::string_view text) {
    text_ += text;
    return *this;
  }
  Bytes& string(std::string_view text) { return put<uint64_t>(text.size()).raw(text); }

  // Metadata entries of GGUF.
  Bytes& key(std::string_view name, uint32_t type) { return string(name).put(type); }
  Bytes& u32(std::string_view name, uint32_t value) { return key(name, 4).put(value); }
  Bytes& f32(std::string_view name, float value) { return key(name, 6).put(value); }
  Bytes& text(std::string_view name, std::string_view value) { return key(name, 8).string(value); }
  Bytes& texts(std::string_view name, const std::vector<std::string>& values) {
    key(name, 9).put<uint32_t>(8).put<uint64_t>(values.size());
    for (const std::string& value : values) string(value);
    return *this;
  }
  Bytes& i32s(std::string_view name, const std::vector<int32_t>& values) {
    key(name, 9).put<uint32_t>(5).put<uint64_t>(values.size());
    for (const int32_t value : values) put(value);
    return *this;
  }
  /// A tensor's entry; dims innermost first.
  Bytes& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                uint64_t offset) {
    string(name).put(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) put(dim);
    return put(type).put(offset);
  }
  Bytes& pad(size_t unit) {
    while (text_.size() % unit != 0) text_ += '\0';
    return *this;
  }

  [[nodiscard]] const std::string& str() const { return text_; }
  [[nodiscard]] std::span<const std::byte> span() const { return std::as_bytes(std::span(text_)); }

 private:
  std::string text_;
};

inline Bytes gguf_start(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  return Bytes().raw("GGUF").put(version).put(tensors).put(keys);
}

/// An 8-byte length, the header, the data.
inline std::string safetensors(std::string_view header, std::string_view data) {
  return Bytes().put<uint64_t>(header.size()).raw(header).raw(data).str();
}

/// A folder that goes with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "hadal-test-XXXXXX").string();
    if (::mkdtemp(name.data())) path_ = name;
  }
  ~TempFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace hadal::testing
