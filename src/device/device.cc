#include "device/device.h"

#include <dlfcn.h>

#include <array>
#include <filesystem>
#include <utility>

#include "base/builtin_chips.h"

namespace hadal {
namespace {

constexpr std::array<std::string_view, 2> kBuiltin = {"cpu", "ref"};

hadal_error empty_error() {
  hadal_error error{};
  error.size = sizeof error;
  return error;
}

/// The first mandatory function that the table lacks, or nullptr.
const char* missing_function(const hadal_chip& c) {
  const std::pair<const char*, bool> functions[] = {
      {"close", c.close != nullptr},
      {"device_count", c.device_count != nullptr},
      {"device_open", c.device_open != nullptr},
      {"device_close", c.device_close != nullptr},
      {"device_info", c.device_info != nullptr},
      {"mem_alloc", c.mem_alloc != nullptr},
      {"mem_import", c.mem_import != nullptr},
      {"mem_free", c.mem_free != nullptr},
      {"mem_host", c.mem_host != nullptr},
      {"copy_in", c.copy_in != nullptr},
      {"copy_out", c.copy_out != nullptr},
      {"copy", c.copy != nullptr},
      {"fill", c.fill != nullptr},
      {"queue_create", c.queue_create != nullptr},
      {"queue_destroy", c.queue_destroy != nullptr},
      {"queue_sync", c.queue_sync != nullptr},
      {"weight_bytes", c.weight_bytes != nullptr},
      {"weight_create", c.weight_create != nullptr},
      {"weight_destroy", c.weight_destroy != nullptr},
      {"op_query", c.op_query != nullptr},
      {"op_run", c.op_run != nullptr},
  };
  for (const auto& [name, present] : functions)
    if (!present) return name;
  return nullptr;
}

Result<hadal_chip_query_fn> find_chip(const std::string& name, void*& library) {
  if (name == "ref") return &hadal_ref_chip_query;
  if (name == "cpu") return &hadal_cpu_chip_query;
  if (name.find('/') == std::string::npos)
    return usage_error(
        "chip '" + name +
        "' is unknown; built in are cpu and ref, a plug-in is given by its path (./libname.so)");
  if (std::error_code unused; !std::filesystem::exists(name, unused))
    return not_found(name + ": no such file; expected a chip's plug-in");
  library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return failed(name + ": cannot load the chip: " + ::dlerror());
  auto query = reinterpret_cast<hadal_chip_query_fn>(::dlsym(library, "hadal_chip_query"));
  if (!query) return failed(name + ": exports no hadal_chip_query, so it is no chip");
  return query;
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

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  if (this != &other) {
    reset();
    device_ = std::exchange(other.device_, nullptr);
    handle_ = std::exchange(other.handle_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void DeviceMemory::reset() {
  if (handle_) device_->chip_.mem_free(handle_);
  handle_ = nullptr;
  bytes_ = 0;
}

DeviceWeight& DeviceWeight::operator=(DeviceWeight&& other) noexcept {
  if (this != &other) {
    reset();
    device_ = std::exchange(other.device_, nullptr);
    handle_ = std::exchange(other.handle_, nullptr);
  }
  return *this;
}

void DeviceWeight::reset() {
  if (handle_) device_->chip_.weight_destroy(handle_);
  handle_ = nullptr;
}

DeviceProgram& DeviceProgram::operator=(DeviceProgram&& other) noexcept {
  if (this != &other) {
    reset();
    device_ = std::exchange(other.device_, nullptr);
    handle_ = std::exchange(other.handle_, nullptr);
  }
  return *this;
}

void DeviceProgram::reset() {
  if (handle_) device_->chip_.program->destroy(handle_);
  handle_ = nullptr;
}

Result<std::unique_ptr<Device>> Device::open(const DeviceOptions& options) {
  std::unique_ptr<Device> device(new Device);
  HADAL_TRY(const hadal_chip_query_fn query, find_chip(options.chip, device->library_));
  static constexpr hadal_host kHost = {sizeof(hadal_host), 0, nullptr,
                                       [](void*, uint32_t, const char*) {}};
  device->chip_.size = sizeof(hadal_chip);
  if (query(&kHost, HADAL_ABI, &device->chip_) != HADAL_OK ||
      device->chip_.abi >> 16 != HADAL_ABI_MAJOR) {
    device->chip_ = {};
    return failed("chip " + options.chip + ": speaks another version of the contract than " +
                  std::to_string(HADAL_ABI_MAJOR) + "." + std::to_string(HADAL_ABI_MINOR));
  }
  if (const char* name = missing_function(device->chip_))
    return failed("chip " + options.chip + ": lacks the mandatory function " + name);

  hadal_chip& chip = device->chip_;
  const int32_t count = chip.device_count(&chip);
  if (options.index < 0 || options.index >= count)
    return not_found("chip " + options.chip + ": device " + std::to_string(options.index) +
                     " does not exist; it has " + std::to_string(count));
  hadal_device_options chip_options{};
  chip_options.size = sizeof chip_options;
  chip_options.threads = options.threads;
  chip_options.kernels = options.kernels.empty() ? nullptr : options.kernels.c_str();
  hadal_error error = empty_error();
  HADAL_TRY(
      device->check(chip.device_open(&chip, options.index, &chip_options, &device->device_, &error),
                    error, "cannot open the device"));
  HADAL_TRY(device->check(chip.queue_create(device->device_, &device->queue_, &error), error,
                          "cannot create a queue"));
  device->info_.size = sizeof device->info_;
  HADAL_TRY(device->check(chip.device_info(device->device_, &device->info_), error,
                          "cannot tell what it is"));
  return device;
}

Device::~Device() {
  if (queue_) chip_.queue_destroy(queue_);
  if (device_) chip_.device_close(device_);
  if (chip_.close) chip_.close(&chip_);
  if (library_) ::dlclose(library_);
}

Status Device::check(hadal_status status, const hadal_error& error, std::string_view what) const {
  if (status == HADAL_OK) return {};
  return chip_error(chip_.name, what, status, error);
}

Result<DeviceMemory> Device::allocate(uint64_t bytes) const {
  DeviceMemory memory;
  hadal_error error = empty_error();
  HADAL_TRY(check(chip_.mem_alloc(device_, bytes, &memory.handle_, &error), error,
                  "cannot allocate " + std::to_string(bytes) + " bytes"));
  memory.device_ = this;
  memory.bytes_ = bytes;
  return memory;
}

Result<DeviceMemory> Device::import(std::span<const std::byte> data) const {
  DeviceMemory memory;
  hadal_error error = empty_error();
  HADAL_TRY(check(chip_.mem_import(device_, data.data(), data.size(), &memory.handle_, &error),
                  error, "cannot import memory"));
  memory.device_ = this;
  memory.bytes_ = data.size();
  return memory;
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
  HADAL_TRY(check(chip_.weight_bytes(device_, &desc, &bytes, &error), error, "weight"));
  return bytes;
}

Result<DeviceWeight> Device::create_weight(const hadal_weight_desc& desc,
                                           std::span<const hadal_piece> pieces) const {
  DeviceWeight weight;
  hadal_error error = empty_error();
  HADAL_TRY(
      check(chip_.weight_create(device_, &desc, pieces.data(), static_cast<uint32_t>(pieces.size()),
                                &weight.handle_, &error),
            error, "weight"));
  weight.device_ = this;
  return weight;
}

OpSupport Device::query(const hadal_op& op, std::span<const hadal_tensor> tensors,
                        const int64_t* limits) const {
  OpSupport support;
  hadal_error error = empty_error();
  support.supported = chip_.op_query(device_, &op, tensors.data(), limits, &support.workspace_bytes,
                                     &error) == HADAL_OK;
  if (!support.supported) support.reason = error.text;
  return support;
}

Status Device::run_ops(const hadal_tape& tape, uint32_t first, uint32_t count,
                       const hadal_step& step) const {
  hadal_error error = empty_error();
  return check(chip_.op_run(queue_, &tape, first, count, &step, &error), error, "step");
}

Result<DeviceProgram> Device::prepare(const hadal_tape& tape) const {
  DeviceProgram program;
  hadal_error error = empty_error();
  HADAL_TRY(check(chip_.program->prepare(device_, &tape, &program.handle_, &error), error,
                  "cannot prepare the tape"));
  program.device_ = this;
  return program;
}

Status Device::run_program(const DeviceProgram& program, const hadal_step& step) const {
  hadal_error error = empty_error();
  return check(chip_.program->run(program.handle_, queue_, &step, &error), error, "step");
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
