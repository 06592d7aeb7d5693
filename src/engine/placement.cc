#include "engine/placement.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace hadal {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// What a word would have to look like.
constexpr const char* kParts =
    "expected layers A-B (A not above B), experts, experts of layers A-B, embedding, head or all";

struct Range {
  int64_t first = 0, last = INT64_MAX;
};

/// "layers 3-7", "layers 3-", "layer 3".
std::optional<Range> layers_of(std::string_view text) {
  const bool many = text.starts_with("layers ");
  if (!many && !text.starts_with("layer ")) return std::nullopt;
  text = trimmed(text.substr(many ? 7 : 6));
  const size_t dash = text.find('-');
  const auto first = number(text.substr(0, dash));
  if (!first) return std::nullopt;
  if (dash == std::string_view::npos) return Range{*first, *first};
  if (dash + 1 == text.size()) return Range{*first, INT64_MAX};
  const auto last = number(text.substr(dash + 1));
  if (!last || *last < *first) return std::nullopt;
  return Range{*first, *last};
}

}  // namespace

std::string DeviceName::text() const {
  return chip + ":" + std::to_string(index) + (instance > 1 ? "#" + std::to_string(instance) : "");
}

Result<DeviceName> parse_device_name(std::string_view text) {
  DeviceName name;
  std::string_view rest = trimmed(text);
  const auto take = [&](char mark, int32_t low, int32_t& value) {
    const size_t at = rest.rfind(mark);
    if (at == std::string_view::npos || rest.find('/', at) != std::string_view::npos) return true;
    const auto given = number(rest.substr(at + 1));
    if (!given || *given < low || *given > 9999) return false;
    value = static_cast<int32_t>(*given);
    rest = rest.substr(0, at);
    return true;
  };
  if (!take('#', 1, name.instance) || !take(':', 0, name.index) || rest.empty())
    return usage_error("'" + std::string(text) +
                       "' is no device: expected CHIP or CHIP:NUMBER, such as opencl:0");
  name.chip = std::string(rest);
  return name;
}

size_t Placement::add(const DeviceName& device) {
  const auto found = std::find(devices_.begin(), devices_.end(), device);
  if (found != devices_.end()) return static_cast<size_t>(found - devices_.begin());
  devices_.push_back(device);
  return devices_.size() - 1;
}

bool Placement::drop_last_unless_named() {
  const size_t last = devices_.size() - 1;
  if (last == 0 || std::any_of(rules_.begin(), rules_.end(),
                               [&](const Rule& rule) { return rule.device == last; }))
    return false;
  devices_.pop_back();
  return true;
}

Result<std::vector<Placement::Rule>> Placement::parse_rule(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos)
    return usage_error("--place: '" + std::string(text) +
                       "' names no device; expected PART: DEVICE");
  const std::string_view part = trimmed(text.substr(0, colon));
  HADAL_TRY(const DeviceName device, parse_device_name(text.substr(colon + 1)));
  Rule rule;
  rule.device = add(device);
  rule.text = std::string(part);
  using Part = Region::Part;
  if (part == "all") {
    std::vector<Rule> all;
    for (const Part p : {Part::kEmbedding, Part::kLayer, Part::kExperts, Part::kHead}) {
      rule.part = p;
      all.push_back(rule);
    }
    return all;
  }
  if (part == "embedding" || part == "head") {
    rule.part = part == "head" ? Part::kHead : Part::kEmbedding;
    return std::vector{rule};
  }
  std::string_view layers = part;
  constexpr std::string_view kExpertsOf = "experts of ";
  if (part == "experts" || part.starts_with(kExpertsOf)) {
    rule.part = Part::kExperts;
    if (part == "experts") return std::vector{rule};
    layers = trimmed(part.substr(kExpertsOf.size()));
  }
  const std::optional<Range> range = layers_of(layers);
  if (!range) return usage_error("--place: '" + std::string(part) + "': " + kParts);
  rule.first = range->first;
  rule.last = range->last;
  return std::vector{rule};
}

Result<Placement> Placement::parse(std::string_view text, DeviceName home) {
  Placement placement(std::move(home));
  while (!text.empty()) {
    const size_t end = std::min(text.find(';'), text.size());
    const std::string_view rule = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (rule.empty()) continue;
    HADAL_TRY(const std::vector<Rule> rules, placement.parse_rule(rule));
    placement.rules_.insert(placement.rules_.end(), rules.begin(), rules.end());
  }
  return placement;
}

size_t Placement::of(const Region& region) const {
  for (auto rule = rules_.rbegin(); rule != rules_.rend(); ++rule) {
    if (rule->part != region.part) continue;
    const bool everywhere = region.layer < 0 && rule->first == 0 && rule->last == INT64_MAX;
    if (everywhere || (region.layer >= rule->first && region.layer <= rule->last))
      return rule->device;
  }
  using Part = Region::Part;
  if (region.part == Part::kExperts)
    return of({.part = region.layer < 0 ? Part::kHead : Part::kLayer, .layer = region.layer});
  return 0;
}

std::string Placement::text(const std::function<std::string(size_t device)>& name) const {
  std::string text;
  for (const Rule& rule : rules_)
    text += (text.empty() ? "" : "; ") + rule.text + ": " + name(rule.device);
  return text;
}

std::string Placement::experts_rule() const {
  for (const Rule& rule : rules_)
    if (rule.part == Region::Part::kExperts && rule.text != "all") return rule.text;
  return "";
}

Status Placement::check(int64_t layers) const {
  for (const Rule& rule : rules_) {
    const int64_t last = rule.last == INT64_MAX ? rule.first : rule.last;
    if (last >= layers)
      return usage_error("--place: '" + rule.text + "' names layer " + std::to_string(last) +
                         "; the model has layers 0 to " + std::to_string(layers - 1));
  }
  return {};
}

}  // namespace hadal
