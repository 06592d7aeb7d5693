#include "checkpoint/config.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/json_scan.h"
#include "checkpoint/printable.h"

namespace hadal {

using Json = nlohmann::ordered_json;

/// Largest config.json that is read. Published ones have a few KB; a parsed tree takes up to 24
/// times its text.
constexpr size_t kMaxConfigBytes = size_t{4} << 20;

struct Config::Tree {
  Json root = Json::object();
  /// Of a watched one: the keys of `root` that were asked for. Shared with its copies.
  std::shared_ptr<std::set<std::string, std::less<>>> asked;

  /// The value of a key, whatever it is; nullptr if there is no such key.
  [[nodiscard]] const Json* find(std::string_view key) const {
    if (asked) asked->emplace(key);
    const auto it = root.find(key);
    return it == root.end() ? nullptr : &*it;
  }
  /// The same, and nullptr if it is null.
  [[nodiscard]] const Json* find_value(std::string_view key) const {
    const Json* value = find(key);
    return value && value->is_null() ? nullptr : value;
  }
};

namespace {

/// What was found, for a message: "the string \"abc\"", "a list of 3".
std::string found(const Json& value) {
  switch (value.type()) {
    case Json::value_t::string:
      return "the string " + quote(value.get_ref<const std::string&>(), 60);
    case Json::value_t::array:
      return fmt::format("a list of {}", value.size());
    case Json::value_t::object:
      return "an object";
    default:
      return printable(value.dump(), 60);
  }
}

Error wrong(const std::string& origin, std::string_view key, std::string_view expected,
            std::string_view got) {
  return failed(fmt::format("{}: {}: expected {}, found {}", origin, quote(key), expected, got));
}

/// A whole number; 3.0 counts as 3, 1e300 and true do not.
std::optional<int64_t> whole(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  // Up to 2^53 a double holds every whole number, beyond that the file's number may not be the one
  // we see.
  if (!(std::abs(number) <= 9007199254740992.0) || std::trunc(number) != number)
    return std::nullopt;
  return static_cast<int64_t>(number);
}

std::optional<double> finite(const Json& value) {
  if (!value.is_number()) return std::nullopt;
  const auto number = value.get<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

/// A list through `convert`; a single value counts as a list of one if `single`.
template <typename T, typename Convert>
Result<std::vector<T>> list(const Json* value, const std::string& origin, std::string_view key,
                            std::string_view expected, Convert convert) {
  std::vector<T> out;
  if (!value) return out;
  if (!value->is_array()) {
    auto one = convert(*value);
    if (!one) return wrong(origin, key, fmt::format("a list of {}", expected), found(*value));
    out.push_back(*std::move(one));
    return out;
  }
  out.reserve(value->size());
  for (const Json& entry : *value) {
    auto one = convert(entry);
    if (!one)
      return wrong(origin, fmt::format("{}[{}]", key, out.size()),
                   fmt::format("a list of {}", expected), found(entry));
    out.push_back(*std::move(one));
  }
  return out;
}

}  // namespace

Config::Config() : tree_(std::make_shared<Tree>()) {}

Result<Config> Config::parse(std::string_view json, std::string origin) {
  if (json.size() > kMaxConfigBytes)
    return failed(fmt::format("{}: {} bytes, more than the {} that a configuration may have",
                              origin, json.size(), kMaxConfigBytes));
  HADAL_TRY(scan_json(json, origin, JsonLimits{}));
  Config config;
  config.origin_ = std::move(origin);
  try {
    config.tree_->root = Json::parse(json);
  } catch (const Json::parse_error& error) {
    return failed(fmt::format("{}: byte {}: no valid JSON", config.origin_,
                              error.byte > 0 ? error.byte - 1 : 0));
  } catch (const Json::exception&) {  // a number beyond the range of double is no parse_error
    return failed(fmt::format("{}: a number in it is out of range", config.origin_));
  }
  if (!config.tree_->root.is_object())
    return failed(fmt::format("{}: expected a JSON object, found {}", config.origin_,
                              found(config.tree_->root)));
  return config;
}

bool Config::has(std::string_view key) const { return tree_->find_value(key) != nullptr; }

Result<int64_t> Config::integer(std::string_view key, int64_t low, int64_t high,
                                std::optional<int64_t> otherwise) const {
  const auto expected = [&] { return fmt::format("a whole number from {} to {}", low, high); };
  const Json* value = tree_->find_value(key);
  if (!value) {
    if (otherwise) return *otherwise;
    return wrong(origin_, key, expected(), "no such key");
  }
  const auto number = whole(*value);
  if (!number || *number < low || *number > high)
    return wrong(origin_, key, expected(), found(*value));
  return *number;
}

Result<double> Config::real(std::string_view key, std::optional<double> otherwise) const {
  const Json* value = tree_->find_value(key);
  if (!value) {
    if (otherwise) return *otherwise;
    return wrong(origin_, key, "a number", "no such key");
  }
  const auto number = finite(*value);
  if (!number) return wrong(origin_, key, "a finite number", found(*value));
  return *number;
}

Result<bool> Config::boolean(std::string_view key, std::optional<bool> otherwise) const {
  const Json* value = tree_->find_value(key);
  if (!value) {
    if (otherwise) return *otherwise;
    return wrong(origin_, key, "true or false", "no such key");
  }
  if (!value->is_boolean()) return wrong(origin_, key, "true or false", found(*value));
  return value->get<bool>();
}

Result<std::string> Config::text(std::string_view key, std::optional<std::string> otherwise) const {
  const Json* value = tree_->find_value(key);
  if (!value) {
    if (otherwise) return *std::move(otherwise);
    return wrong(origin_, key, "a string", "no such key");
  }
  if (!value->is_string()) return wrong(origin_, key, "a string", found(*value));
  return value->get<std::string>();
}

Result<std::vector<int64_t>> Config::integers(std::string_view key) const {
  return list<int64_t>(tree_->find_value(key), origin_, key, "whole numbers", whole);
}

Result<std::vector<double>> Config::reals(std::string_view key) const {
  return list<double>(tree_->find_value(key), origin_, key, "finite numbers", finite);
}

Result<std::vector<std::string>> Config::texts(std::string_view key) const {
  return list<std::string>(tree_->find_value(key), origin_, key, "strings", [](const Json& entry) {
    return entry.is_string() ? std::optional(entry.get<std::string>()) : std::nullopt;
  });
}

Result<Config> Config::object(std::string_view key) const {
  Config config;
  config.origin_ = origin_.empty() ? std::string(key) : fmt::format("{}: {}", origin_, quote(key));
  const Json* value = tree_->find_value(key);
  if (!value) return config;
  if (!value->is_object()) return wrong(origin_, key, "an object", found(*value));
  config.tree_->root = *value;
  return config;
}

void Config::put(std::string_view key, Tree value) {
  if (tree_.use_count() > 1)
    tree_ = std::make_shared<Tree>(*tree_);  // a copy of this Config keeps what it had
  tree_->root[std::string(key)] = std::move(value.root);
}

void Config::set(std::string_view key, std::string_view json_value) {
  Json value = Json::parse(json_value, nullptr, false);
  HADAL_CHECK(!value.is_discarded());
  put(key, Tree{std::move(value), {}});
}

void Config::copy(const Config& from, std::string_view key, std::string_view as) {
  if (const Json* value = from.tree_->find(key)) put(as, Tree{*value, {}});
}

void Config::set_text(std::string_view key, std::string_view text) {
  set(key, Json(printable(text, text.size() * 4 + 1)).dump());
}

Config Config::watched() const {
  Config copy = *this;
  copy.tree_ = std::make_shared<Tree>(*tree_);
  copy.tree_->asked = std::make_shared<std::set<std::string, std::less<>>>();
  return copy;
}

std::vector<std::string> Config::unasked() const {
  std::vector<std::string> out;
  for (const auto& entry : tree_->root.items())
    if (!entry.value().is_null() && (!tree_->asked || !tree_->asked->contains(entry.key())))
      out.push_back(entry.key());
  return out;
}

bool Config::contains(std::string_view key) const { return tree_->find(key) != nullptr; }

std::vector<std::string> Config::keys() const {
  std::vector<std::string> out;
  for (const auto& entry : tree_->root.items()) out.push_back(entry.key());
  return out;
}

std::string Config::value_text(std::string_view key, size_t limit) const {
  const auto it = tree_->root.find(key);
  if (it == tree_->root.end()) return "";
  return printable(it->is_string() ? it->get_ref<const std::string&>() : it->dump(), limit);
}

std::string Config::dump() const {
  return tree_->root.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace hadal
