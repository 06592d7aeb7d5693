#include "contract/mandatory.h"

#include <utility>

namespace hadal::contract {

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

}  // namespace hadal::contract
