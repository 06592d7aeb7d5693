// A config.json from any bytes: every getter on every key, normalised and checked, written and read
// again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/config.h"
#include "checkpoint/names.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto config = hadal::Config::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!config) return 0;
  for (const auto& key : config->keys()) {
    (void)config->integer(key, INT64_MIN, INT64_MAX).has_value();
    (void)config->real(key).has_value();
    (void)config->boolean(key).has_value();
    (void)config->text(key).has_value();
    (void)config->integers(key).has_value();
    (void)config->reals(key).has_value();
    (void)config->texts(key).has_value();
    (void)config->object(key).has_value();
    (void)config->value_text(key);
  }
  if (!hadal::normalise_config(*config)) return 0;
  (void)hadal::check_config(*config).has_value();
  // What we write, we read: unless indentation brought it beyond the size or a limit.
  const std::string text = config->dump();
  if (text.size() < (1u << 20)) HADAL_CHECK(hadal::Config::parse(text, "again").has_value());
  return 0;
}
