#include "checkpoint/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "base/file.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF numbers are read as they lie in the file");

// Bounds on what a header may hold. A vocabulary of 150,000 tokens with merges takes 8 MB;
// DeepSeek's largest files have about 2,000 tensors and 60 keys.
constexpr size_t kMaxHeaderBytes = size_t{128} << 20;
constexpr uint64_t kMaxTensors = uint64_t{1} << 18;
constexpr uint64_t kMaxKeys = uint64_t{1} << 16;
constexpr size_t kMaxNameBytes = 1024;
constexpr uint32_t kMaxDims = 4;
constexpr uint32_t kMaxAlignment = 1u << 20;
constexpr uint32_t kMinAlignment = 8;
constexpr uint32_t kDefaultAlignment = 32;

// The least a key with its value, a tensor's entry, a string in an array can take: counts are held
// against what is left.
constexpr uint64_t kLeastKeyBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

struct TypeRow {
  std::string_view name;
  size_t bytes;  ///< 0: not of a fixed size
};
constexpr auto kTypes = std::to_array<TypeRow>({{"uint8", 1},
                                                {"int8", 1},
                                                {"uint16", 2},
                                                {"int16", 2},
                                                {"uint32", 4},
                                                {"int32", 4},
                                                {"float32", 4},
                                                {"bool", 1},
                                                {"string", 0},
                                                {"array", 0},
                                                {"uint64", 8},
                                                {"int64", 8},
                                                {"float64", 8}});

size_t type_bytes(GgufType type) { return kTypes[static_cast<size_t>(type)].bytes; }

template <typename T>
T load(std::string_view bytes) {
  T value{};
  // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): callers give sizeof value bytes
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// Where the next read happens. Every read says what it is for and fails, with the place, when the
/// bytes end before it does.
class Cursor {
 public:
  Cursor(std::string_view bytes, bool cut, const std::string& origin)
      : bytes_(bytes), cut_(cut), origin_(origin) {}

  [[nodiscard]] size_t offset() const { return at_; }
  [[nodiscard]] uint64_t remaining() const { return bytes_.size() - at_; }
  [[nodiscard]] Error error(std::string_view text) const {
    return failed(fmt::format("{}: byte {}: {}", origin_, at_, text));
  }

  Result<std::string_view> take(uint64_t count, std::string_view what) {
    if (count > remaining()) {
      const std::string limit = fmt::format("header larger than {} MiB", kMaxHeaderBytes >> 20);
      return error(fmt::format("{}: {} bytes expected, {} left: {}", what, count, remaining(),
                               cut_ ? limit : "truncated or no GGUF file"));
    }
    const std::string_view part = bytes_.substr(at_, count);
    at_ += count;
    return part;
  }

  template <typename T>
  Result<T> number(std::string_view what) {
    HADAL_TRY(const std::string_view part, take(sizeof(T), what));
    return load<T>(part);
  }

  /// A string with its length in front.
  Result<std::string_view> string(std::string_view what) {
    HADAL_TRY(const uint64_t length, number<uint64_t>(what));
    return take(length, what);
  }

 private:
  std::string_view bytes_;
  bool cut_;
  const std::string& origin_;
  size_t at_ = 0;
};

Result<GgufType> read_type(Cursor& in, std::string_view key) {
  HADAL_TRY(const uint32_t number, in.number<uint32_t>("a value's type"));
  if (number >= kTypes.size())
    return in.error(fmt::format("key {}: unknown value type {}", quote(key), number));
  return static_cast<GgufType>(number);
}

Status check_bools(const Cursor& in, std::string_view key, const GgufValue& value) {
  if (value.type != GgufType::kBool) return {};
  for (const char c : value.payload)
    if (c != 0 && c != 1)
      return in.error(fmt::format("key {}: a bool must be 0 or 1, found {}", quote(key),
                                  static_cast<uint8_t>(c)));
  return {};
}

Result<GgufValue> read_array(Cursor& in, std::string_view key) {
  GgufValue value;
  value.is_array = true;
  HADAL_TRY(value.type, read_type(in, key));
  if (value.type == GgufType::kArray)
    return in.error(fmt::format("key {}: arrays of arrays are not supported", quote(key)));
  HADAL_TRY(const uint64_t count, in.number<uint64_t>("an array's length"));
  const size_t least = value.type == GgufType::kString ? sizeof(uint64_t) : type_bytes(value.type);
  if (count > in.remaining() / least)
    return in.error(fmt::format("key {}: an array of {} {} values does not fit the {} bytes left",
                                quote(key), count, gguf_type_name(value.type), in.remaining()));
  value.count = static_cast<int64_t>(count);
  if (value.type != GgufType::kString) {
    HADAL_TRY(value.payload, in.take(count * least, "an array"));
    return value;
  }
  Cursor walk = in;
  for (uint64_t i = 0; i < count; ++i) HADAL_TRY(walk.string("a string in an array"));
  HADAL_TRY(value.payload, in.take(walk.offset() - in.offset(), "an array"));
  return value;
}

Result<GgufValue> read_value(Cursor& in, std::string_view key) {
  HADAL_TRY(const GgufType type, read_type(in, key));
  if (type == GgufType::kArray) return read_array(in, key);
  GgufValue value;
  value.type = type;
  if (type == GgufType::kString) {
    HADAL_TRY(value.payload, in.string("a string value"));
  } else {
    HADAL_TRY(value.payload, in.take(type_bytes(type), "a value"));
  }
  return value;
}

Status read_metadata(Cursor& in, uint64_t count, GgufFile& file) {
  file.metadata.reserve(count);
  file.by_key.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    HADAL_TRY(const std::string_view key, in.string("a metadata key"));
    if (key.empty() || key.size() > 65535)
      return in.error(fmt::format("a metadata key of {} bytes, expected 1 to 65535", key.size()));
    HADAL_TRY(const GgufValue value, read_value(in, key));
    HADAL_TRY(check_bools(in, key, value));
    if (!file.by_key.emplace(key, file.metadata.size()).second)
      return in.error(fmt::format("key {} is there twice", quote(key)));
    file.metadata.emplace_back(key, value);
  }
  return {};
}

/// What a tensor's entry says, before its bytes are looked for.
struct Entry {
  GgufTensor tensor;
  uint64_t offset = 0;
  int64_t bytes = 0;
};

/// The bytes of a tensor with these dimensions (innermost first), every product checked.
Result<int64_t> tensor_bytes(const Cursor& in, std::string_view name, DType dtype,
                             std::span<const int64_t> dims) {
  const auto row = row_bytes(dtype, dims[0]);
  if (!row)
    return in.error(
        fmt::format("tensor {}: a row of {} values is no whole number of {} blocks of {}",
                    quote(name), dims[0], dtype_name(dtype), dtype_info(dtype)->block_values));
  CheckedSize bytes(static_cast<uint64_t>(*row));
  CheckedSize values(static_cast<uint64_t>(dims[0]));
  for (const int64_t dim : dims.subspan(1)) {
    bytes = bytes * CheckedSize(static_cast<uint64_t>(dim));
    values = values * CheckedSize(static_cast<uint64_t>(dim));
  }
  if (!bytes.ok() || !values.ok())
    return in.error(
        fmt::format("tensor {}: its shape has more values than fit 63 bits", quote(name)));
  return bytes.get_or(0);
}

Result<Entry> read_tensor(Cursor& in) {
  Entry entry;
  HADAL_TRY(const std::string_view name, in.string("a tensor's name"));
  if (name.empty() || name.size() > kMaxNameBytes)
    return in.error(
        fmt::format("a tensor's name of {} bytes, expected 1 to {}", name.size(), kMaxNameBytes));
  if (!is_printable(name))
    return in.error(fmt::format("a tensor's name with unprintable bytes: {}", quote(name)));
  entry.tensor.name = name;
  HADAL_TRY(const uint32_t dim_count, in.number<uint32_t>("a tensor's dimensions"));
  if (dim_count < 1 || dim_count > kMaxDims)
    return in.error(fmt::format("tensor {}: {} dimensions, expected 1 to {}", quote(name),
                                dim_count, kMaxDims));
  std::vector<int64_t>& shape = entry.tensor.shape;
  for (uint32_t i = 0; i < dim_count; ++i) {
    HADAL_TRY(const uint64_t dim, in.number<uint64_t>("a tensor's dimension"));
    if (dim == 0 || dim > static_cast<uint64_t>(INT64_MAX))
      return in.error(
          fmt::format("tensor {}: a dimension of {}, expected 1 to 2^63-1", quote(name), dim));
    shape.push_back(static_cast<int64_t>(dim));
  }
  HADAL_TRY(const uint32_t type, in.number<uint32_t>("a tensor's type"));
  const DTypeInfo* row = dtype_from_ggml(type);
  if (!row) return in.error(fmt::format("tensor {}: unknown tensor type {}", quote(name), type));
  entry.tensor.dtype = row->dtype;
  HADAL_TRY(entry.offset, in.number<uint64_t>("a tensor's offset"));
  HADAL_TRY(entry.bytes, tensor_bytes(in, name, row->dtype, shape));
  std::reverse(shape.begin(), shape.end());
  return entry;
}

Result<uint32_t> alignment_of(const GgufFile& file, const std::string& origin) {
  const GgufValue* value = file.find("general.alignment");
  if (!value) return kDefaultAlignment;
  const auto number = value->integer();
  if (!number || *number < kMinAlignment || *number > kMaxAlignment ||
      !std::has_single_bit(static_cast<uint64_t>(*number)))
    return failed(
        fmt::format("{}: general.alignment: expected a power of two from {} to {}, found {}",
                    origin, kMinAlignment, kMaxAlignment, value->description()));
  return static_cast<uint32_t>(*number);
}

/// Gives every tensor its bytes, `data` being what follows the padded header.
Status place_tensors(std::vector<Entry>& entries, std::span<const std::byte> data,
                     uint32_t alignment, const std::string& origin) {
  std::vector<std::pair<uint64_t, size_t>> order;
  order.reserve(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    Entry& entry = entries[i];
    const auto wrong = [&](std::string_view text) {
      return failed(fmt::format("{}: tensor {}: offset {}: {}", origin, quote(entry.tensor.name),
                                entry.offset, text));
    };
    if (entry.offset % alignment != 0)
      return wrong(fmt::format("no multiple of the alignment {}", alignment));
    const CheckedSize end =
        CheckedSize(entry.offset) + CheckedSize(static_cast<uint64_t>(entry.bytes));
    if (!end.at_most(static_cast<int64_t>(data.size())))
      return wrong(fmt::format(
          "its {} bytes end beyond the {} bytes of data in the file: truncated or damaged",
          entry.bytes, data.size()));
    entry.tensor.data = data.subspan(entry.offset, static_cast<size_t>(entry.bytes));
    order.emplace_back(entry.offset, i);
  }
  std::sort(order.begin(), order.end());
  uint64_t end = 0;
  std::string before = "the header";
  for (const auto& [offset, number] : order) {
    const Entry& entry = entries[number];
    if (end > offset)
      return failed(fmt::format("{}: {} and tensor {} overlap at offset {}", origin, before,
                                quote(entry.tensor.name), offset));
    // Bytes that belong to no tensor: the entry of one is lost, or an offset is wrong.
    const uint64_t next = (end + alignment - 1) / alignment * alignment;
    if (offset != next)
      return failed(
          fmt::format("{}: a gap between {} and tensor {}: it is at offset {}, expected {}", origin,
                      before, quote(entry.tensor.name), offset, next));
    end = offset + static_cast<uint64_t>(entry.bytes);
    before = fmt::format("tensor {}", quote(entry.tensor.name));
  }
  return {};
}

Status check_version(Cursor& in, std::string_view magic, uint32_t version,
                     const std::string& origin) {
  if (magic != "GGUF")
    return failed(fmt::format("{}: no GGUF file: it begins with {}, expected \"GGUF\"", origin,
                              quote(magic)));
  if (version == 2 || version == 3) return {};
  if (version == 1)
    return in.error("GGUF version 1 is not supported: convert the file to version 3");
  if ((version & 0xffff) == 0 && version != 0)
    return in.error("a big-endian GGUF file is not supported: convert it to little-endian");
  return in.error(fmt::format("unknown GGUF version {}, expected 2 or 3", version));
}

}  // namespace

std::string_view gguf_type_name(GgufType type) { return kTypes[static_cast<size_t>(type)].name; }

size_t GgufValue::string_length(std::string_view at) { return load<uint64_t>(at); }

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto it = by_key.find(key);
  return it == by_key.end() ? nullptr : &metadata[it->second].second;
}

Result<GgufFile> parse_gguf(std::span<const std::byte> bytes, const std::string& origin) {
  const bool cut = bytes.size() > kMaxHeaderBytes;
  const size_t header_room = cut ? kMaxHeaderBytes : bytes.size();
  Cursor in({reinterpret_cast<const char*>(bytes.data()), header_room}, cut, origin);
  GgufFile file;
  HADAL_TRY(const std::string_view magic, in.take(4, "the magic"));
  HADAL_TRY(file.version, in.number<uint32_t>("the version"));
  HADAL_TRY(check_version(in, magic, file.version, origin));
  HADAL_TRY(const uint64_t tensor_count, in.number<uint64_t>("the number of tensors"));
  HADAL_TRY(const uint64_t key_count, in.number<uint64_t>("the number of keys"));
  if (tensor_count > kMaxTensors || tensor_count > in.remaining() / kLeastTensorBytes)
    return in.error(fmt::format("{} tensors do not fit: {} bytes left, at most {} tensors allowed",
                                tensor_count, in.remaining(), kMaxTensors));
  if (key_count > kMaxKeys || key_count > in.remaining() / kLeastKeyBytes)
    return in.error(
        fmt::format("{} metadata keys do not fit: {} bytes left, at most {} keys allowed",
                    key_count, in.remaining(), kMaxKeys));
  HADAL_TRY(read_metadata(in, key_count, file));
  HADAL_TRY(const uint32_t alignment, alignment_of(file, origin));

  std::vector<Entry> entries;
  entries.reserve(tensor_count);
  std::unordered_set<std::string_view> names;
  names.reserve(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    HADAL_TRY(Entry entry, read_tensor(in));
    if (!names.insert(entry.tensor.name).second)
      return in.error(fmt::format("tensor {} is there twice", quote(entry.tensor.name)));
    entries.push_back(std::move(entry));
  }
  const int64_t start = CheckedSize(in.offset()).round_up(alignment).get_or(0);
  // A file without tensors may end with its header, unpadded.
  const size_t begin = std::min(static_cast<size_t>(start), bytes.size());
  HADAL_TRY(place_tensors(entries, bytes.subspan(begin), alignment, origin));
  file.tensors.reserve(entries.size());
  for (Entry& entry : entries) file.tensors.push_back(std::move(entry.tensor));
  return file;
}

}  // namespace hadal
