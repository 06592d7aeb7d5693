#include "runtime/options.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <system_error>

namespace hadal::opencl {
namespace {

struct Row {
  const char* name;
  int64_t least, most;
  int64_t Options::* field;
};
constexpr int64_t kMostBytes = int64_t{1} << 30;  // of KiB and of MiB
constexpr Row kRows[] = {{"largest-mib", 1, kMostBytes, &Options::largest_mib},
                         {"split-kib", 1, kMostBytes, &Options::split_kib},
                         {"sub-groups", 0, 1, &Options::sub_groups},
                         {"stats", 0, 1, &Options::stats}};

std::string range_of(const Row& row) {
  return std::to_string(row.least) + " to " + std::to_string(row.most);
}

}  // namespace

std::string Options::set(const std::string& name, const std::string& value) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows),
                                 [&](const Row& r) { return name == r.name; });
  if (row == std::end(kRows)) {
    std::string names;
    for (const Row& r : kRows)
      names += (names.empty() ? "" : ", ") + std::string(r.name) + " (" + range_of(r) + ")";
    return "opencl has the options " + names + ", not \"" + name + "\"";
  }
  int64_t number = 0;
  const char* last = value.data() + value.size();
  const auto [end, code] = std::from_chars(value.data(), last, number);
  if (code != std::errc() || end != last || number < row->least || number > row->most)
    return "the option " + name + " of opencl is a number from " + range_of(*row) + ", not \"" +
           value + "\"";
  this->*(row->field) = number;
  return {};
}

}  // namespace hadal::opencl
