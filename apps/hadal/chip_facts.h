// What a chip says of itself, as `hadal chips --json` prints it (docs/doctor.md has the fields).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"

namespace hadal::app {

/// Opens every device of a chip. `path` of a plug-in, "" of one that is built in; `measure`: the
/// first device's peaks too.
Result<nlohmann::ordered_json> chip_facts(const std::string& name, const std::string& path,
                                          bool measure);

}  // namespace hadal::app
