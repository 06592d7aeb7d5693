#include "runtime/device.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/cpu_info.h"
#include "contract/report.h"

namespace hadal::cpu {
namespace {

template <size_t kSize>
void copy_text(char (&to)[kSize], const std::string& from) {
  const size_t n = std::min(kSize - 1, from.size());
  std::memcpy(to, from.data(), n);
  to[n] = '\0';
}

}  // namespace

bool Device::reserve(uint64_t temp, uint64_t own) {
  if (temp <= temp_bytes && own <= own_bytes && memory[0].data()) return true;
  temp = (std::max(temp, temp_bytes) + 4095) / 4096 * 4096;
  own = (std::max(own, own_bytes) + 4095) / 4096 * 4096;
  for (size_t i = 0; i < workers.size(); ++i) {
    Mapping fresh;
    if (!fresh.allocate(std::max<uint64_t>(temp + own, 4096))) return false;
    workers[i] = {static_cast<int>(i), fresh.data(), fresh.data() + temp, -1};
    memory[i] = std::move(fresh);
  }
  temp_bytes = temp;
  own_bytes = own;
  return true;
}

hadal_status device_info(const Device& device, hadal_device_info* out) {
  hadal_device_info info{};
  info.threads = device.pool->size();
  copy_text(info.name, processor_name());
  copy_text(info.kernels, device.kernels.name);
  std::string all;
  for (const KernelTable* table : runnable_tables())
    all += (all.empty() ? "" : " ") + std::string(table->name);
  copy_text(info.all_kernels, all);
  copy_text(info.instruction_sets, instruction_sets());
  info.memory_total = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                      static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  info.memory_free = available_memory();
  info.host_memory = 1;
  info.row_invariant = 1;
  info.alignment = 64;
  info.kernels_version = 1;
  contract::copy_sized(out, info);
  return HADAL_OK;
}

}  // namespace hadal::cpu
