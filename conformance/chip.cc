// Opening the chip under test, built in or a plug-in, and closing it.
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/builtin_chips.h"
#include "kit.h"

namespace hadal::conformance {
namespace {

hadal_chip_query_fn built_in(const std::string& name) {
  if (name == "ref") return hadal_ref_chip_query;
#ifdef HADAL_HAS_CPU_CHIP
  if (name == "cpu") return hadal_cpu_chip_query;
#endif
  return nullptr;
}

void log_nothing(void*, uint32_t, const char*) {}

}  // namespace

hadal_error fresh_error() {
  hadal_error error{};
  error.size = sizeof error;
  return error;
}

hadal_status DeviceWishes::open(hadal_chip& chip, int32_t threads, hadal_device** out,
                                hadal_error* error) const {
  hadal_device_options options{};
  options.size = sizeof options;
  options.threads = threads;
  options.kernels = kernels.empty() ? nullptr : kernels.c_str();
  options.numerics = numerics;
  std::vector<std::string> parts;
  for (const std::string& option : chip_options) {
    const size_t at = std::min(option.find('='), option.size());
    parts.push_back(option.substr(0, at));
    parts.push_back(option.substr(std::min(at + 1, option.size())));
  }
  std::vector<const char*> names, values;
  for (size_t i = 0; i < parts.size(); i += 2) {
    names.push_back(parts[i].c_str());
    values.push_back(parts[i + 1].c_str());
  }
  options.option_count = static_cast<uint32_t>(names.size());
  options.option_names = names.data();
  options.option_values = values.data();
  return chip.device_open(&chip, device, &options, out, error);
}

std::string Chip::open(const std::string& name, const DeviceWishes& wishes) {
  query = built_in(name);
  if (!query) {
    if (name.find('/') == std::string::npos)
      return "no chip \"" + name + "\" is built in; a plug-in is given by its path (./name.so)";
    library_ = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library_) return ::dlerror();
    query = reinterpret_cast<hadal_chip_query_fn>(::dlsym(library_, "hadal_chip_query"));
    if (!query) return name + " exports no hadal_chip_query";
  }
  query_error_ = fresh_error();
  host_ = {sizeof host_, 0, nullptr, log_nothing, &query_error_};
  table.size = sizeof table;
  if (query(&host_, HADAL_ABI, &table) != HADAL_OK)
    return name + " does not speak version 1 of the contract: " + query_error_.text;
  const int32_t count = table.device_count ? table.device_count(&table) : 0;
  if (count < 1) return name + " finds no device";
  index = wishes.device;
  if (index >= count)
    return fmt::format("{}: device {} does not exist; it has {}", name, index, count);
  hadal_error error = fresh_error();
  for (int32_t i = 0; i < 3; ++i) {
    Device& d = devices[static_cast<size_t>(i)];
    if (wishes.open(table, i + 1, &d.device, &error) != HADAL_OK ||
        table.queue_create(d.device, &d.queue, &error) != HADAL_OK)
      return fmt::format("{}: device {} does not open: {}", name, index, error.text);
    d.chip = &table;
    d.threads = i + 1;
  }
  info.size = sizeof info;
  if (table.device_info(devices[0].device, &info) != HADAL_OK)
    return name + " tells nothing of its device";
  for (Device& d : devices)
    d.placement = {.alignment = std::max<uint32_t>(info.alignment, 64), .columns = is_1_1()};
  return {};
}

Chip::~Chip() {
  for (Device& d : devices) {
    if (d.queue) table.queue_destroy(d.queue);
    if (d.device) table.device_close(d.device);
  }
  if (table.close) table.close(&table);
  if (library_) ::dlclose(library_);
}

}  // namespace hadal::conformance
