// The level `loads`: the table, struct sizes, devices, memories, and failures that must return.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include <fmt/format.h>

#include "kit.h"

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

hadal_error fresh_error() {
  hadal_error error{};
  error.size = sizeof error;
  return error;
}

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
  for (const size_t size :
       {offsetof(hadal_chip, op_query), offsetof(hadal_chip, program), sizeof(hadal_chip)}) {
    Fenced<hadal_chip> fenced(size);
    const hadal_status status = chip.query(nullptr, HADAL_ABI, &fenced.get());
    report.check(kName, status == HADAL_OK && fenced.intact(size),
                 fmt::format("hadal_chip_query for a host that knows {} bytes of the table: wrote "
                             "beyond them, or failed",
                             size));
    if (status == HADAL_OK && fenced.get().close) fenced.get().close(&fenced.get());
  }
  hadal_chip other{};
  other.size = sizeof other;
  report.check(kName, chip.query(nullptr, (HADAL_ABI_MAJOR + 1) << 16, &other) == HADAL_UNSUPPORTED,
               "a host of another major version must be refused with HADAL_UNSUPPORTED");
  other = {};
  other.size = sizeof other;
  const bool newer = chip.query(nullptr, HADAL_ABI + 7, &other) == HADAL_OK;
  report.check(
      kName, newer && other.abi >> 16 == HADAL_ABI_MAJOR && other.abi <= HADAL_ABI + 7,
      "a host of a newer minor version must be answered with the highest minor that both know");
  if (newer && other.close) other.close(&other);
  const hadal_chip& t = chip.table;
  report.check(kName,
               t.close && t.device_count && t.device_open && t.device_close && t.device_info &&
                   t.mem_alloc && t.mem_import && t.mem_free && t.mem_host && t.copy_in &&
                   t.copy_out && t.copy && t.fill && t.queue_create && t.queue_destroy &&
                   t.queue_sync && t.weight_bytes && t.weight_create && t.weight_destroy &&
                   t.op_query && t.op_run,
               "a function of the table that is not optional is missing");
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
    hadal_device_options options{sizeof(hadal_device_options), 2, nullptr};
    hadal_device* device = nullptr;
    hadal_queue* queue = nullptr;
    opened = t.device_open(&t, 0, &options, &device, &error) == HADAL_OK &&
             t.queue_create(device, &queue, &error) == HADAL_OK;
    if (queue) t.queue_destroy(queue);
    if (device) t.device_close(device);
  }
  report.check(kName, opened,
               fmt::format("device 0 does not open and close 100 times: {}", error.text));
  hadal_device* device = nullptr;
  error = fresh_error();
  report.check(kName,
               t.device_open(&t, t.device_count(&t), nullptr, &device, &error) != HADAL_OK &&
                   error.text[0] != '\0',
               "a device that does not exist must be refused with a text");
  hadal_device_options options{sizeof(hadal_device_options), 1, "no such kernels"};
  error = fresh_error();
  const hadal_status status = t.device_open(&t, 0, &options, &device, &error);
  report.check(kName, status != HADAL_OK && error.text[0] != '\0',
               "a kernel table that does not exist must be refused with a text");
  if (status == HADAL_OK) t.device_close(device);

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

// Creating and destroying a weight of 1 MiB 100 times must not leave 100 MiB behind.
void check_weights(Chip& chip, Report& report) {
  const hadal_chip& t = chip.table;
  const Device& d = chip.device(1);
  hadal_error error = fresh_error();
  const std::vector<float> data(512 * 512, 0.5f);
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = HADAL_F32;
  desc.uses = HADAL_USE_MATMUL;
  desc.batch = 1;
  desc.rows = 512;
  desc.cols = 512;
  hadal_piece piece{};
  piece.rows = 512;
  piece.row_stride = 2048;
  if (t.mem_import(d.device, data.data(), data.size() * 4, &piece.memory, &error) != HADAL_OK)
    return;
  uint64_t bytes = 0;
  bool good = t.weight_bytes(d.device, &desc, &bytes, &error) == HADAL_OK;
  const uint64_t before = resident_bytes();
  for (int i = 0; i < 100 && good; ++i) {
    hadal_weight* w = nullptr;
    good = t.weight_create(d.device, &desc, &piece, 1, &w, &error) == HADAL_OK && w;
    if (w) t.weight_destroy(w);
  }
  report.check(kName, good, fmt::format("an fp32 weight of 512 x 512, 100 times: {}", error.text));
  report.check(kName, kFreedIsKept || resident_bytes() < before + (uint64_t{32} << 20),
               "weight_destroy leaks: 100 weights of 1 MiB left more than 32 MiB behind");
  desc.rows = 513;
  error = fresh_error();
  hadal_weight* w = nullptr;
  report.check(
      kName,
      t.weight_create(d.device, &desc, &piece, 1, &w, &error) != HADAL_OK && error.text[0] != '\0',
      "a weight whose pieces hold too few rows must be refused with a text");
  t.mem_free(piece.memory);
}

void check_operators(Chip& chip, Report& report) {
  hadal_op op{};
  op.id = 9999;
  const hadal_tensor tensors[HADAL_MAX_OPERANDS] = {};
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  uint64_t workspace = 0;
  hadal_error error = fresh_error();
  const hadal_status status =
      chip.table.op_query(chip.device(1).device, &op, tensors, limits, &workspace, &error);
  report.check(kName, status == HADAL_UNSUPPORTED && error.text[0] != '\0',
               "operator 9999 must be declined with HADAL_UNSUPPORTED and a text");
}

}  // namespace

void level_loads(Chip& chip, Report& report) {
  report.line(kName);
  check_query(chip, report);
  check_devices(chip, report);
  check_copies(chip, report);
  check_allocations(chip, report);
  check_weights(chip, report);
  check_operators(chip, report);
}

}  // namespace hadal::conformance
