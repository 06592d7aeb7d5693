// What a chip says of itself, as `hadal chips --json` prints it (docs/doctor.md has the fields).
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal::app {

struct ChipQuestion {
  std::string name;
  std::string path;      ///< of a plug-in, where it is known; else it is found by its name
  bool measure = false;  ///< the first device's peaks too
  std::function<void(std::string_view line)> log;  ///< what the chip logs
};

/// Opens every device of a chip. A plug-in is asked in a child process: a driver that crashes or
/// hangs is an error here.
Result<nlohmann::ordered_json> chip_facts(const ChipQuestion& question);

}  // namespace hadal::app
