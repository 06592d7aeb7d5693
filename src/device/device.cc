#include "device/device.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/builtin_chips.h"
#include "base/cpu_info.h"
#include "base/dtype.h"
#include "base/text.h"
#include "contract/mandatory.h"
#include "device/guarded.h"
#include "device/plugins.h"
#include "device/self_test.h"

namespace hadal {
namespace {

constexpr std::array<std::string_view, 2> kBuiltin = {"cpu", "ref"};

constexpr uint32_t kMostAlignment = 4096;

hadal_error empty_error() {
  hadal_error error{};
  error.size = sizeof error;
  return error;
}

std::string version_text(uint32_t abi) {
  return std::to_string(abi >> 16) + "." + std::to_string(abi & 0xffff);
}

/// Why a chip cannot be used that answered its query so; empty if it can.
std::string refusal(const std::string& chip, hadal_status answer, uint32_t abi) {
  if (answer != HADAL_OK && answer != HADAL_UNSUPPORTED)
    return "chip " + chip + ": its query failed with status " + std::to_string(answer);
  if (answer == HADAL_OK && abi == 0)
    return "chip " + chip + ": its query says that all is well and fills in no table (abi is 0)";
  if (answer != HADAL_OK || abi >> 16 != HADAL_ABI_MAJOR)
    return "chip " + chip + ": speaks another version of the contract than " +
           version_text(HADAL_ABI) + "; it needs to be built for this one";
  if (abi > HADAL_ABI)
    return "chip " + chip + ": answers with contract " + version_text(abi) +
           " to a program that speaks " + version_text(HADAL_ABI) +
           "; a chip must answer with the highest minor that both know";
  return {};
}

Result<hadal_chip_query_fn> find_chip(const DeviceOptions& options) {
  const std::string& name = options.chip;
  if (name == "ref") return &hadal_ref_chip_query;
  if (name == "cpu") return &hadal_cpu_chip_query;
  return load_plugin(name, options.plugin_folders);
}

void log(void* context, uint32_t level, const char* text) {
  if (level < HADAL_LOG_WARNING || !text) return;
  const auto& line = static_cast<const DeviceOptions*>(context)->log;
  if (line) line(text);
}

}  // namespace

Error chip_error(std::string_view chip, std::string_view what, hadal_status status,
                 const hadal_error& error) {
  ErrorCode code = ErrorCode::kFailed;
  if (status == HADAL_OUT_OF_MEMORY) code = ErrorCode::kMemory;
  if (status == HADAL_STOPPED) code = ErrorCode::kInterrupted;
  std::string text = "chip " + std::string(chip) + ": " + std::string(what);
  if (status == HADAL_STOPPED) text += ": stopped";
  if (error.text[0] != '\0')
    text += ": " + std::string(error.text);
  else if (status != HADAL_STOPPED)
    text += ": failed with status " + std::to_string(status);
  return {code, std::move(text)};
}

std::span<const std::string_view> builtin_chips() { return kBuiltin; }

namespace {

/// What a chip calls itself, fit to be printed: ended, and without control characters.
template <size_t N>
void clean(char (&text)[N]) {
  text[N - 1] = '\0';
  blank_controls(text);
}

/// Why what a device tells of itself cannot be used; empty if it can. The alignment of a chip
/// of 1.0, which did not say that it is a power of two, is rounded up.
std::string settle_info(hadal_device_info& info, bool is_1_0) {
  uint32_t& alignment = info.alignment;
  if (is_1_0) alignment = std::bit_ceil(std::clamp(alignment, 1U, 1U << 31));
  if (!std::has_single_bit(alignment) || alignment > kMostAlignment)
    return "its alignment of " + std::to_string(alignment) + " bytes is no power of two up to " +
           std::to_string(kMostAlignment);
  uint32_t* const buckets = std::begin(info.row_buckets);
  uint32_t* const end = std::find(buckets, std::end(info.row_buckets), 0U);
  return std::is_sorted(buckets, end) ? "" : "its row_buckets do not ascend";
}

}  // namespace

Result<std::unique_ptr<Device>> Device::open(const DeviceOptions& options) {
  std::unique_ptr<Device> device(new Device);
  device->options_ = options;
  HADAL_TRY(const hadal_chip_query_fn query, find_chip(options));
  device->query_ = query;
  device->query_error_ = empty_error();
  device->host_ = {.size = sizeof(hadal_host),
                   .context = &device->options_,
                   .log = log,
                   .query_error = &device->query_error_};
  Guarded<hadal_chip> table;
  const hadal_status answer = query(&device->host_, HADAL_ABI, &table.value);
  if (!table.kept())
    return failed(
        "chip " + options.chip + ": writes beyond the " + std::to_string(sizeof(hadal_chip)) +
        " bytes that its table has here, so it cannot be used; it must fill no more than the "
        "size that it is given");
  device->chip_ = table.value;
  device->chip_.size = sizeof(hadal_chip);
  clean(device->chip_.name);
  if (const std::string why = refusal(options.chip, answer, device->chip_.abi); !why.empty()) {
    device->chip_ = {};
    const char* own = device->query_error_.text;
    return failed(*own != '\0' ? why + ": " + own : why);
  }
  if (const char* name = contract::missing_function(device->chip_))
    return failed("chip " + options.chip + ": lacks the mandatory function " + name);

  hadal_chip& chip = device->chip_;
  const int32_t count = chip.device_count(&chip);
  if (count <= 0) return not_found("chip " + options.chip + ": it finds no device here");
  if (options.index < 0 || options.index >= count)
    return not_found("chip " + options.chip + ": device " + std::to_string(options.index) +
                     " does not exist; it has " + std::to_string(count));
  hadal_device_options chip_options{};
  chip_options.size = sizeof chip_options;
  chip_options.threads = options.threads;
  chip_options.kernels = options.kernels.empty() ? nullptr : options.kernels.c_str();
  chip_options.numerics = options.exact ? HADAL_NUMERICS_EXACT : HADAL_NUMERICS_UNSAID;
  std::vector<const char*> names, values;
  for (const auto& [name, value] : options.chip_options) {
    names.push_back(name.c_str());
    values.push_back(value.c_str());
  }
  chip_options.option_count = static_cast<uint32_t>(names.size());
  chip_options.option_names = names.data();
  chip_options.option_values = values.data();
  if (!names.empty() && (chip.abi & 0xffff) < 1)
    return usage_error("chip " + options.chip +
                       ": it was built for contract 1.0, which has no options");
  hadal_error error = empty_error();
  HADAL_TRY(
      device->check(chip.device_open(&chip, options.index, &chip_options, &device->device_, &error),
                    error, "cannot open the device"));
  HADAL_TRY(device->check(chip.queue_create(device->device_, &device->queue_, &error), error,
                          "cannot create a queue"));
  Guarded<hadal_device_info> info;
  HADAL_TRY(device->check(chip.device_info(device->device_, &info.value), error,
                          "cannot tell what it is"));
  if (!info.kept())
    return failed("chip " + options.chip +
                  ": its device_info writes beyond the bytes that it is given");
  device->info_ = info.value;
  clean(device->info_.name);
  clean(device->info_.kernels);
  clean(device->info_.all_kernels);
  clean(device->info_.instruction_sets);
  if (const std::string why = settle_info(device->info_, !device->copies_at_once()); !why.empty())
    return failed("chip " + options.chip + ": " + why);
  const bool from_outside =
      std::find(kBuiltin.begin(), kBuiltin.end(), options.chip) == kBuiltin.end();
  if (from_outside) HADAL_TRY(self_test(*device));
  return device;
}

Device::~Device() {
  if (queue_) chip_.queue_destroy(queue_);
  if (device_) chip_.device_close(device_);
  if (chip_.close) chip_.close(&chip_);
}

Status Device::check(hadal_status status, const hadal_error& error, std::string_view what) const {
  if (status == HADAL_OK) return {};
  lost_ = lost_ || status == HADAL_DEVICE_FAILED;
  return chip_error(chip_.name, what, status, error);
}

Status Device::check_handle(const void* handle, std::string_view what) const {
  if (handle) return {};
  return failed("chip " + std::string(chip_.name) + ": " + std::string(what) +
                ": it says that all is well and gives nothing, which is a fault of the chip");
}

template <typename Wrapper, typename Call>
Result<Wrapper> Device::given(std::string_view what, const Call& call) const {
  using Handle = decltype(Wrapper().get());
  Wrapper made;
  hadal_error error = empty_error();
  Handle handle = nullptr;
  HADAL_TRY(check(call(&handle, &error), error, what));
  HADAL_TRY(check_handle(handle, what));
  made.device_ = this;
  made.handle_ = handle;
  return made;
}

Result<DeviceMemory> Device::allocate(uint64_t bytes) const {
  return given<DeviceMemory>("cannot allocate " + std::to_string(bytes) + " bytes",
                             [&](hadal_memory** out, hadal_error* error) {
                               return chip_.mem_alloc(device_, bytes, out, error);
                             });
}

Result<DeviceMemory> Device::import(std::span<const std::byte> data) const {
  return given<DeviceMemory>("cannot import memory", [&](hadal_memory** out, hadal_error* error) {
    return chip_.mem_import(device_, data.data(), data.size(), out, error);
  });
}

Status Device::copy_in(const DeviceMemory& to, uint64_t offset,
                       std::span<const std::byte> from) const {
  hadal_error error = empty_error();
  return check(chip_.copy_in(queue_, to.get(), offset, from.data(), from.size(), &error), error,
               "copy to the device");
}

Status Device::copy_out(std::span<std::byte> to, const DeviceMemory& from, uint64_t offset) const {
  hadal_error error = empty_error();
  return check(chip_.copy_out(queue_, to.data(), from.get(), offset, to.size(), &error), error,
               "copy from the device");
}

Status Device::copy(const DeviceMemory& to, uint64_t to_offset, const DeviceMemory& from,
                    uint64_t from_offset, uint64_t bytes) const {
  hadal_error error = empty_error();
  return check(chip_.copy(queue_, to.get(), to_offset, from.get(), from_offset, bytes, &error),
               error, "copy on the device");
}

Status Device::sync() const {
  hadal_error error = empty_error();
  return check(chip_.queue_sync(queue_, &error), error, "wait for the queue");
}

Result<uint64_t> Device::weight_bytes(const hadal_weight_desc& desc) const {
  uint64_t bytes = 0;
  hadal_error error = empty_error();
  HADAL_TRY(check(chip_.weight_bytes(device_, &desc, &bytes, &error), error, "weight not taken"));
  return bytes;
}

std::vector<hadal_weight_form> Device::weight_forms(uint32_t use) const {
  const hadal_weight_form blank = {.size = sizeof(hadal_weight_form)};
  std::vector<hadal_weight_form> forms(16, blank);
  auto count = static_cast<uint32_t>(forms.size());
  hadal_error error = empty_error();
  if (!chip_.weight_forms ||
      chip_.weight_forms(device_, use, forms.data(), &count, &error) != HADAL_OK || count == 0) {
    forms.assign(1, blank);
    forms[0].dtype = HADAL_F32;
    return forms;
  }
  forms.resize(std::min<size_t>(forms.size(), count));
  return forms;
}

Result<DeviceWeight> Device::create_weight(const hadal_weight_desc& desc,
                                           std::span<const hadal_piece> pieces) const {
  const auto count = static_cast<uint32_t>(pieces.size());
  return given<DeviceWeight>("cannot make a weight", [&](hadal_weight** out, hadal_error* error) {
    return chip_.weight_create_on
               ? chip_.weight_create_on(queue_, &desc, pieces.data(), count, out, error)
               : chip_.weight_create(device_, &desc, pieces.data(), count, out, error);
  });
}

Result<uint64_t> Device::plane_block_bytes(const hadal_plane_desc& desc) const {
  const auto row = row_bytes(static_cast<DType>(desc.dtype), desc.width);
  uint64_t bytes = static_cast<uint64_t>(row.value_or(0) * desc.slots);
  if (!chip_.plane_bytes) return bytes;
  hadal_error error = empty_error();
  HADAL_TRY(check(chip_.plane_bytes(device_, &desc, &bytes, &error), error, "cache"));
  constexpr uint64_t kMost = uint64_t{1} << 32;
  if (bytes == 0 || bytes > kMost || bytes % info_.alignment != 0)
    return failed("chip " + std::string(chip_.name) + ": says that a block of the cache takes " +
                  std::to_string(bytes) +
                  " bytes, which cannot be: a multiple of its alignment of " +
                  std::to_string(info_.alignment) + " and at most 4 GiB is expected");
  return bytes;
}

int Device::host_threads() const {
  return options_.threads > 0 ? options_.threads : available_processors();
}

int64_t Device::filled_rows(int64_t rows, int64_t limit) const {
  if (rows == 0) return 0;
  for (const uint32_t bucket : info_.row_buckets)
    if (bucket >= rows) return std::min<int64_t>(bucket, limit);
  return rows;
}

uint64_t Device::alignment() const { return std::max<uint64_t>(64, info_.alignment); }

OpSupport Device::query(const hadal_op& op, std::span<const hadal_tensor> tensors,
                        const int64_t* limits) const {
  OpSupport support;
  hadal_error error = empty_error();
  std::array<hadal_tensor, HADAL_MAX_OPERANDS> all{};  // those behind the last are absent
  std::copy_n(tensors.begin(), std::min(tensors.size(), all.size()), all.begin());
  if (chip_.op_support) {
    hadal_op_answer answer = {.size = sizeof answer};
    support.supported =
        chip_.op_support(device_, &op, all.data(), limits, &answer, &error) == HADAL_OK;
    support.workspace_bytes = answer.workspace_bytes;
    support.numerics = {static_cast<hadal_numerics>(answer.numerics), answer.block};
  } else {
    support.supported = chip_.op_query(device_, &op, all.data(), limits, &support.workspace_bytes,
                                       &error) == HADAL_OK;
  }
  if (!support.supported)
    support.reason = error.text[0] != '\0' ? error.text : "the chip gives no reason";
  return support;
}

Status Device::run_ops(const hadal_tape& tape, uint32_t first, uint32_t count,
                       const hadal_step& step) const {
  hadal_error error = empty_error();
  return check(chip_.op_run(queue_, &tape, first, count, &step, &error), error, "step");
}

Result<DeviceProgram> Device::prepare(const hadal_tape& tape) const {
  return given<DeviceProgram>("cannot prepare the tape",
                              [&](hadal_program** out, hadal_error* error) {
                                return chip_.program->prepare(device_, &tape, out, error);
                              });
}

Status Device::run_program(const DeviceProgram& program, const hadal_step& step) const {
  hadal_error error = empty_error();
  return check(chip_.program->run(program.handle_, queue_, &step, &error), error, "step");
}

Result<DeviceEvent> Device::make_event() const {
  return given<DeviceEvent>("cannot make an event", [&](hadal_event** out, hadal_error* error) {
    return chip_.events->create(device_, out, error);
  });
}

Status Device::wait_for(const Device& other, const DeviceEvent& event) const {
  hadal_error error = empty_error();
  HADAL_TRY(other.check(other.chip_.events->record(event.get(), other.queue_, &error), error,
                        "record an event"));
  return check(chip_.events->wait(event.get(), queue_, &error), error, "wait for an event");
}

bool Device::is_peer(const Device& other) const {
  return query_ == other.query_ && chip_.events && chip_.events->peer_copy;
}

Status Device::copy_from_peer(const DeviceMemory& to, uint64_t to_offset, const DeviceMemory& from,
                              uint64_t from_offset, uint64_t bytes) const {
  hadal_error error = empty_error();
  return check(
      chip_.events->peer_copy(queue_, to.get(), to_offset, from.get(), from_offset, bytes, &error),
      error, "copy from another device");
}

HostBuffer Device::host_buffer(uint64_t bytes) const {
  void* pinned = nullptr;
  hadal_error error = empty_error();
  if (chip_.events && chip_.events->pinned_alloc &&
      chip_.events->pinned_alloc(device_, bytes, &pinned, &error) == HADAL_OK && pinned)
    return {static_cast<std::byte*>(pinned),
            [this](std::byte* memory) { chip_.events->pinned_free(device_, memory); }};
  return {new std::byte[bytes], std::default_delete<std::byte[]>()};
}

Result<hadal_comm_id> Device::make_comm_id() const {
  hadal_comm_id id{};
  hadal_error error = empty_error();
  HADAL_TRY(check(chip_.comm->create_id(device_, &id, &error), error, "make an id for the ranks"));
  return id;
}

Result<DeviceComm> Device::join(const hadal_comm_id& id, int64_t rank, int64_t ranks) const {
  return given<DeviceComm>("join the other ranks", [&](hadal_comm** out, hadal_error* error) {
    return chip_.comm->init(device_, &id, static_cast<int32_t>(rank), static_cast<int32_t>(ranks),
                            out, error);
  });
}

Result<Device::Peaks> Device::measure() const {
  Peaks peaks;
  hadal_error error = empty_error();
  HADAL_TRY(check(
      chip_.profile->measure(device_, &peaks.read_bytes_per_second, &peaks.int8_ops_per_second,
                             &peaks.fp32_flops_per_second, &error),
      error, "cannot measure its peaks"));
  return peaks;
}

}  // namespace hadal
