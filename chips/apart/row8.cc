#include "chip.h"

extern "C" __attribute__((visibility("default"))) hadal_status
hadal_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out) {
  return hadal::apart::query(hadal::apart::Kind::kRow8, host, abi, out);
}
