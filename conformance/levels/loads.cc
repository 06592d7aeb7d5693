// The level `loads`: the table, struct sizes, devices, memories, and failures that must return.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include <fmt/format.h>

#include "contract/mandatory.h"
#include "report.h"

namespace hadal::conformance {
namespace {

constexpr const char* kName = "loads";

// AddressSanitizer keeps what was freed in quarantine, and finds leaks by itself.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kFreedIsKept = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kFreedIsKept = true;
#else
constexpr bool kFreedIsKept = false;
#endif
#else
constexpr bool kFreedIsKept = false;
#endif

/// A struct of the contract in a larger field of 0xAA: tells whether the callee wrote beyond the
/// size that it was told.
template <typename T>
struct Fenced {
  alignas(T) unsigned char bytes[sizeof(T) + 64];
  explicit Fenced(size_t size) {
    std::memset(bytes, 0xAA, sizeof bytes);
    std::memset(bytes, 0, size);
    get().size = static_cast<uint32_t>(size);
  }
  T& get() { return *reinterpret_cast<T*>(bytes); }
  bool intact(size_t size) const {
    for (size_t i = size; i < sizeof bytes; ++i)
      if (bytes[i] != 0xAA) return false;
    return true;
  }
};

void check_query(Chip& chip, Report& report) {
  const auto log = [](void*, uint32_t, const char*) {};
  const hadal_host silent{sizeof(hadal_host), 0, nullptr, log, nullptr};
  for (const size_t size : {offsetof(hadal_chip, op_query), offsetof(hadal_chip, program),
                            offsetof(hadal_chip, op_support), sizeof(hadal_chip)}) {
    Fenced<hadal_chip> fenced(size);
    const hadal_status status = chip.query(&silent, HADAL_ABI, &fenced.get());
    report.check(kName, status == HADAL_OK && fenced.intact(size),
                 fmt::format("hadal_chip_query for a host that knows {} bytes of the table: wrote "
                             "beyond them, or failed",
                             size));
    if (status == HADAL_OK && fenced.get().close) fenced.get().close(&fenced.get());
  }
  hadal_chip other{};
  other.size = sizeof other;
  hadal_error error = fresh_error();
  const hadal_host host{sizeof(hadal_host), 0, nullptr, log, &error};
  report.check(kName, chip.query(&silent, (HADAL_ABI_MAJOR + 1) << 16, &other) == HADAL_UNSUPPORTED,
               "a host of another major version must be refused with HADAL_UNSUPPORTED");
  chip.query(&host, (HADAL_ABI_MAJOR + 1) << 16, &other);
  report.check(kName, !chip.is_1_1() || error.text[0] != '\0',
               "a query that fails must say why in the host's query_error");
  other = {};
  other.size = sizeof other;
  const bool newer = chip.query(&silent, HADAL_ABI + 7, &other) == HADAL_OK;
  report.check(
      kName, newer && other.abi >> 16 == HADAL_ABI_MAJOR && other.abi <= HADAL_ABI + 7,
      "a host of a newer minor version must be answered with the highest minor that both know");
  if (newer && other.close) other.close(&other);
  const hadal_chip& t = chip.table;
  const char* missing = contract::missing_function(t);
  report.check(kName, !missing,
               fmt::format("the table lacks the mandatory function {}", missing ? missing : ""));
  report.check(kName, t.name[0] != '\0' && std::memchr(t.name, '\0', sizeof t.name),
               "the chip has no name");
  report.check(kName, !t.program || (t.program->prepare && t.program->run && t.program->destroy),
               "the program table has holes");
}

void check_devices(Chip& chip, Report& report) {
  hadal_chip& t = chip.table;
  hadal_error error = fresh_error();
  bool opened = true;
  for (int i = 0; i < 100 && opened; ++i) {
    hadal_device_options options{};
    options.size = sizeof options;
    options.threads = 2;
    hadal_device* device = nullptr;
    hadal_queue* queue = nullptr;
    opened = t.device_open(&t, chip.index, &options, &device, &error) == HADAL_OK &&
             t.queue_create(device, &queue, &error) == HADAL_OK;
    if (queue) t.queue_destroy(queue);
    if (device) t.device_close(device);
  }
  report.check(
      kName, opened,
      fmt::format("device {} does not open and close 100 times: {}", chip.index, error.text));
  hadal_device* device = nullptr;
  error = fresh_error();
  report.check(kName,
               t.device_open(&t, t.device_count(&t), nullptr, &device, &error) != HADAL_OK &&
                   error.text[0] != '\0',
               "a device that does not exist must be refused with a text");
  hadal_device_options options{};
  options.size = sizeof options;
  options.threads = 1;
  options.kernels = "no such kernels";
  error = fresh_error();
  hadal_status status = t.device_open(&t, chip.index, &options, &device, &error);
  report.check(kName, status != HADAL_OK && error.text[0] != '\0',
               "a kernel table that does not exist must be refused with a text");
  if (status == HADAL_OK) t.device_close(device);
  if (chip.is_1_1()) {
    const char *name = "no-such-option", *value = "1";
    options.kernels = nullptr;
    options.option_count = 1;
    options.option_names = &name;
    options.option_values = &value;
    error = fresh_error();
    status = t.device_open(&t, chip.index, &options, &device, &error);
    report.check(kName, status == HADAL_INVALID && error.text[0] != '\0',
                 "an option that does not exist must be refused with HADAL_INVALID and a text");
    if (status == HADAL_OK) t.device_close(device);
  }

  Fenced<hadal_device_info> fenced(offsetof(hadal_device_info, memory_total));
  report.check(
      kName,
      t.device_info(chip.device(1).device, &fenced.get()) == HADAL_OK &&
          fenced.intact(offsetof(hadal_device_info, memory_total)),
      "device_info for a host that knows less of the struct: wrote beyond its size, or failed");
  const hadal_device_info& info = chip.info;
  report.check(
      kName,
      info.alignment != 0 && (info.alignment & (info.alignment - 1)) == 0 && info.alignment <= 4096,
      fmt::format("the alignment {} is no power of two up to 4096", info.alignment));
  report.check(kName,
               info.threads >= 0 && info.memory_total > 0 && info.name[0] != '\0' &&
                   info.kernels[0] != '\0' &&
                   std::string(info.all_kernels).find(info.kernels) != std::string::npos,
               "device_info: threads, memory_total, name and kernels must be told, and all_kernels "
               "must hold kernels");
}

void check_copies(Chip& chip, Report& report) {
  const hadal_chip& t = chip.table;
  const Device& d = chip.device(1);
  hadal_error error = fresh_error();
  hadal_memory *a = nullptr, *b = nullptr;
  constexpr uint64_t kSize = 100003;
  if (!report.check(kName,
                    t.mem_alloc(d.device, kSize, &a, &error) == HADAL_OK &&
                        t.mem_alloc(d.device, kSize, &b, &error) == HADAL_OK,
                    fmt::format("mem_alloc of {} bytes: {}", kSize, error.text)))
    return;
  std::vector<unsigned char> data(kSize), back(kSize);
  for (size_t i = 0; i < kSize; ++i) data[i] = static_cast<unsigned char>(i * 7 + i / 251);
  bool good = t.fill(d.queue, a, 0, kSize, 0x5c, &error) == HADAL_OK &&
              t.copy_in(d.queue, a, 3, data.data(), 70001, &error) == HADAL_OK &&
              t.fill(d.queue, b, 0, kSize, 0x11, &error) == HADAL_OK &&
              t.copy(d.queue, b, 17, a, 1, 70004, &error) == HADAL_OK &&
              t.copy_in(d.queue, b, 9, data.data(), 0, &error) == HADAL_OK &&
              t.copy_out(d.queue, back.data(), b, 0, kSize, &error) == HADAL_OK &&
              t.queue_sync(d.queue, &error) == HADAL_OK;
  for (size_t i = 0; good && i < kSize; ++i) {
    const unsigned char want = i < 17 || i >= 17 + 70004   ? 0x11
                               : i < 19 || i >= 19 + 70001 ? 0x5c
                                                           : data[i - 19];
    good = back[i] == want;
  }
  report.check(
      kName, good,
      fmt::format("bytes that went through fill, copy_in, copy and copy_out came back changed {}",
                  error.text));
  if (void* host = t.mem_host(b))
    report.check(kName, std::memcmp(host, back.data(), kSize) == 0,
                 "mem_host shows other bytes than copy_out");
  error = fresh_error();
  report.check(kName,
               t.copy_in(d.queue, a, kSize * 2, data.data(), 64, &error) != HADAL_OK &&
                   error.text[0] != '\0',
               "copy_in beyond a memory must be refused with a text");
  report.check(kName, t.copy_out(d.queue, back.data(), a, UINT64_MAX - 8, 64, nullptr) != HADAL_OK,
               "copy_out at an offset that wraps must be refused");
  t.mem_free(a);
  t.mem_free(b);
  hadal_memory* imported = nullptr;
  good = t.mem_import(d.device, data.data() + 1, 1000, &imported, &error) == HADAL_OK &&
         t.copy_out(d.queue, back.data(), imported, 5, 900, &error) == HADAL_OK &&
         t.queue_sync(d.queue, &error) == HADAL_OK &&
         std::memcmp(back.data(), data.data() + 6, 900) == 0;
  report.check(kName, good, "imported memory, at an odd address, does not read back");
  if (imported) t.mem_free(imported);
  report.check(kName, data[500] == static_cast<unsigned char>(500 * 7 + 1),
               "mem_free of imported memory touched it");
}

void check_allocations(Chip& chip, Report& report) {
  const hadal_chip& t = chip.table;
  const Device& d = chip.device(1);
  hadal_error error = fresh_error();
  bool good = true;
  for (uint64_t i = 0; i < 1000 && good; ++i) {
    hadal_memory* m = nullptr;
    good = t.mem_alloc(d.device, i * 37, &m, &error) == HADAL_OK && m;
    if (m) t.mem_free(m);
  }
  report.check(kName, good,
               fmt::format("1000 small memories, the first of 0 bytes: {}", error.text));
  for (const uint64_t bytes : {uint64_t{1} << 60, UINT64_MAX - 100}) {
    hadal_memory* m = nullptr;
    error = fresh_error();
    const hadal_status status = t.mem_alloc(d.device, bytes, &m, &error);
    report.check(
        kName, status == HADAL_OUT_OF_MEMORY && error.text[0] != '\0',
        fmt::format(
            "mem_alloc of {} bytes must return HADAL_OUT_OF_MEMORY with a text, and returns {}",
            bytes, static_cast<int>(status)));
    if (status == HADAL_OK) t.mem_free(m);
  }
}

uint64_t resident_bytes() {
  unsigned long long size = 0, resident = 0;
  std::FILE* f = std::fopen("/proc/self/statm", "r");
  if (!f) return 0;
  if (std::fscanf(f, "%llu %llu", &size, &resident) != 2) resident = 0;
  std::fclose(f);
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// The one piece of a weight, imported; freed at its end.
class Piece {
 public:
  Piece(const Device& device, const WeightData& w) : device_(device) {
    const WeightData::Source& source = w.sources[0];
    piece_.offset = piece_.scale_offset = w.skew;
    piece_.rows = source.rows;
    piece_.row_stride = source.row_stride;
    piece_.scale_row_stride = source.scale_row_stride;
    good_ =
        import(source.bytes, &piece_.memory) && import(source.scale_bytes, &piece_.scale_memory);
  }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;
  ~Piece() {
    if (piece_.memory) device_.chip->mem_free(piece_.memory);
    if (piece_.scale_memory) device_.chip->mem_free(piece_.scale_memory);
  }
  /// Null, and a text in `error`, if the chip refuses it.
  hadal_weight* create(const hadal_weight_desc& desc, hadal_error& error) {
    const hadal_chip& t = *device_.chip;
    uint64_t bytes = 0;
    hadal_weight* w = nullptr;
    const bool made = good_ && t.weight_bytes(device_.device, &desc, &bytes, &error) == HADAL_OK &&
                      t.weight_create(device_.device, &desc, &piece_, 1, &w, &error) == HADAL_OK;
    return made ? w : nullptr;
  }

 private:
  bool import(const Bytes& bytes, hadal_memory** out) {
    return bytes.empty() || device_.chip->mem_import(device_.device, bytes.data(), bytes.size(),
                                                     out, nullptr) == HADAL_OK;
  }
  const Device& device_;
  hadal_piece piece_{};
  bool good_ = false;
};

// Creating and destroying weights of 100 MiB in all must not leave that behind.
void check_weights(Chip& chip, Report& report) {
  const hadal_chip& t = chip.table;
  const Device& d = chip.device(1);
  hadal_error error = fresh_error();
  Random random(11);
  std::string violation;
  const auto data =
      adapt_weight(make_weight(random, HADAL_F32, {.rows = 512, .cols = 512}), d, violation);
  hadal_weight_desc desc = data->desc;
  desc.keeps_source = 0;
  uint64_t bytes = 0;
  if (t.weight_bytes(d.device, &desc, &bytes, &error) == HADAL_UNSUPPORTED)
    return report.note(
        kName,
        fmt::format("no weight is taken that the kit can make, so none was tried: {}", error.text));
  Piece piece(d, *data);
  const size_t times = (size_t{100} << 20) / data->sources[0].bytes.size();
  bool good = true;
  const uint64_t before = resident_bytes();
  for (size_t i = 0; i < times && good; ++i) {
    hadal_weight* w = piece.create(desc, error);
    good = w != nullptr;
    if (w) t.weight_destroy(w);
  }
  t.queue_sync(d.queue, nullptr);
  report.check(kName, good, fmt::format("a weight of 512 x 512, {} times: {}", times, error.text));
  report.check(kName, kFreedIsKept || resident_bytes() < before + (uint64_t{32} << 20),
               "weight_destroy leaks: after weights of 100 MiB in all and queue_sync, the process "
               "is more than 32 MiB larger");
  desc.rows = 513;
  error = fresh_error();
  hadal_weight* w = piece.create(desc, error);
  report.check(kName, !w && error.text[0] != '\0',
               "a weight whose pieces hold too few rows must be refused with a text");
  if (w) t.weight_destroy(w);
}

void check_operators(Chip& chip, Report& report) {
  hadal_op op{};
  op.id = 9999;
  const hadal_tensor tensors[HADAL_MAX_OPERANDS] = {};
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  uint64_t workspace = 0;
  hadal_error error = fresh_error();
  hadal_status status =
      chip.table.op_query(chip.device(1).device, &op, tensors, limits, &workspace, &error);
  report.check(kName, status == HADAL_UNSUPPORTED && error.text[0] != '\0',
               "operator 9999 must be declined with HADAL_UNSUPPORTED and a text");
  if (!chip.table.op_support) return;
  hadal_op_answer answer{};
  answer.size = sizeof answer;
  error = fresh_error();
  status = chip.table.op_support(chip.device(1).device, &op, tensors, limits, &answer, &error);
  report.check(kName, status == HADAL_UNSUPPORTED && error.text[0] != '\0',
               "operator 9999 must be declined by op_support as by op_query");
  Fenced<hadal_op_answer> fenced(offsetof(hadal_op_answer, block));
  chip.table.op_support(chip.device(1).device, &op, tensors, limits, &fenced.get(), nullptr);
  report.check(kName, fenced.intact(offsetof(hadal_op_answer, block)),
               "op_support for a host that knows less of the answer: wrote beyond its size");
}

// Every form that is listed can be made.
void check_forms(Chip& chip, Report& report) {
  const hadal_chip& t = chip.table;
  const Device& d = chip.device(1);
  for (const uint32_t use : {HADAL_USE_MATMUL, HADAL_USE_GATHER}) {
    if (!t.weight_forms) return;
    const Forms forms = weight_forms(d, use);
    report.check(kName, forms.violation.empty(), forms.violation);
    Random random(7);
    const auto source = make_weight(random, HADAL_F32, {.rows = 128, .cols = 256, .uses = use});
    for (const hadal_weight_form& form : forms.list) {
      const auto w = in_form(*source, form);
      if (!w) continue;
      hadal_error error = fresh_error();
      Piece piece(d, *w);
      hadal_weight* made = piece.create(w->desc, error);
      report.check(kName, made != nullptr,
                   fmt::format("weight_forms lists {}, which cannot be made: {}",
                               weight_form(form).text(), error.text));
      if (made) t.weight_destroy(made);
    }
  }
}

// Blocks of planes are multiples of the alignment, and no smaller than what they must hold at one
// byte a number.
void check_planes(Chip& chip, Report& report) {
  if (!chip.table.plane_bytes) return;
  for (uint32_t role = HADAL_PLANE_KEY; role <= HADAL_PLANE_INDEX_KEY; ++role)
    for (const uint32_t dtype : {HADAL_F32, HADAL_F16, HADAL_BF16})
      for (const int64_t slots : {1, 16, 64})
        for (const int64_t width : {7, 64, 576}) {
          const hadal_plane_desc desc{sizeof(hadal_plane_desc), role, dtype, 1, slots, width};
          uint64_t bytes = 0;
          hadal_error error = fresh_error();
          const hadal_status status =
              chip.table.plane_bytes(chip.device(1).device, &desc, &bytes, &error);
          const bool good = status == HADAL_OK
                                ? bytes >= static_cast<uint64_t>(slots * width) &&
                                      bytes % std::max<uint32_t>(chip.info.alignment, 1) == 0
                                : status == HADAL_UNSUPPORTED && error.text[0] != '\0';
          report.check(kName, good,
                       fmt::format("plane_bytes of role {}, {} x {} {}: status {}, {} bytes {}",
                                   role, slots, width, dtype_name(static_cast<DType>(dtype)),
                                   static_cast<int>(status), bytes, error.text));
        }
}

}  // namespace

void level_loads(Chip& chip, Report& report) {
  using Check = void (*)(Chip&, Report&);
  const std::pair<const char*, Check> checks[] = {{"hadal_chip_query", check_query},
                                                  {"devices", check_devices},
                                                  {"memories and copies", check_copies},
                                                  {"allocations", check_allocations},
                                                  {"weights", check_weights},
                                                  {"op_query and op_support", check_operators},
                                                  {"weight_forms", check_forms},
                                                  {"plane_bytes", check_planes}};
  for (const auto& [what, check] : checks)
    if (report.begin(kName, what)) check(chip, report);
}

}  // namespace hadal::conformance
