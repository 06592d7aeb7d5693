#include "server/fields.h"

#include <cmath>

#include "checkpoint/printable.h"
#include "server/api_error.h"
#include "text/chat/json_reader.h"

namespace hadal::server {

Error wrong_type(const std::string& path, std::string_view expected, const Json& found) {
  return usage_error((path.empty() ? "request" : path) + ": " + std::string(expected) +
                     " is expected, " + found.type_name() + " was found");
}

Result<int64_t> whole_of(const Json& value, const Limit& row, const std::string& path) {
  if (!value.is_number()) return wrong_type(path, "a whole number", value);
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX)
    return usage_error(path + ": " + value.dump() + " was found, " + detail::expected(row));
  if (value.is_number_float()) {
    // 3.0 is as whole as 3: some languages write no other numbers.
    const double number = value.get<double>();
    if (number != std::floor(number) || std::fabs(number) >= 9.0e15)
      return usage_error(path + ": " + value.dump() + " was found, " + detail::expected(row));
    HADAL_TRY(check_limit(row, static_cast<int64_t>(number), path));
    return static_cast<int64_t>(number);
  }
  HADAL_TRY(check_limit(row, value.get<int64_t>(), path));
  return value.get<int64_t>();
}

Result<double> real_of(const Json& value, const Limit& row, const std::string& path) {
  if (!value.is_number()) return wrong_type(path, "a number", value);
  HADAL_TRY(check_limit(row, value.get<double>(), path));
  return value.get<double>();
}

const Json* Fields::find(const char* key) {
  known_.insert(key);
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::string Fields::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_.items())
    if (!value.is_null() && !known_.contains(key)) names.push_back(path_of(printable(key, 60)));
  return names;
}

Result<bool> Fields::flag(const char* key, bool missing) {
  const Json* value = find(key);
  if (!value) return missing;
  if (!value->is_boolean()) return wrong_type(path_of(key), "true or false", *value);
  return value->get<bool>();
}

Result<std::string> Fields::text(const char* key) {
  const Json* value = find(key);
  if (!value) return std::string();
  if (!value->is_string()) return wrong_type(path_of(key), "a text", *value);
  return value->get<std::string>();
}

Result<std::string> Fields::text(const char* key, const Limit& bytes) {
  HADAL_TRY(std::string value, text(key));
  if (find(key)) HADAL_TRY(check_limit(bytes, static_cast<int64_t>(value.size()), path_of(key)));
  return value;
}

Result<std::optional<int64_t>> Fields::whole(const char* key, const Limit& row) {
  const Json* value = find(key);
  if (!value) return std::optional<int64_t>();
  HADAL_TRY(const int64_t number, whole_of(*value, row, path_of(key)));
  return std::optional<int64_t>(number);
}

Result<std::optional<double>> Fields::real(const char* key, const Limit& row) {
  const Json* value = find(key);
  if (!value) return std::optional<double>();
  HADAL_TRY(const double number, real_of(*value, row, path_of(key)));
  return std::optional<double>(number);
}

Result<std::vector<std::string>> Fields::texts(const char* key, const Limit& items,
                                               const Limit& bytes) {
  std::vector<std::string> all;
  const Json* value = find(key);
  if (!value) return all;
  const std::string path = path_of(key);
  if (value->is_string()) {
    all.push_back(value->get<std::string>());
    HADAL_TRY(check_limit(bytes, static_cast<int64_t>(all[0].size()), path));
    return all;
  }
  if (!value->is_array()) return wrong_type(path, "a text or a list of texts", *value);
  HADAL_TRY(check_limit(items, static_cast<int64_t>(value->size()), path));
  for (size_t i = 0; i < value->size(); ++i) {
    const Json& entry = (*value)[i];
    const std::string where = path + "[" + std::to_string(i) + "]";
    if (!entry.is_string()) return wrong_type(where, "a text", entry);
    all.push_back(entry.get<std::string>());
    HADAL_TRY(check_limit(bytes, static_cast<int64_t>(all.back().size()), where));
  }
  return all;
}

Result<std::vector<TokenId>> Fields::ids(const char* key, const Limit& items, const Limit& id) {
  std::vector<TokenId> all;
  const Json* value = find(key);
  if (!value) return all;
  const std::string path = path_of(key);
  if (!value->is_array()) return wrong_type(path, "a list of token ids", *value);
  HADAL_TRY(check_limit(items, static_cast<int64_t>(value->size()), path));
  for (size_t i = 0; i < value->size(); ++i) {
    HADAL_TRY(const int64_t number,
              whole_of((*value)[i], id, path + "[" + std::to_string(i) + "]"));
    all.push_back(static_cast<TokenId>(number));
  }
  return all;
}

Result<std::optional<Fields>> Fields::object(const char* key) {
  const Json* value = find(key);
  if (!value) return std::optional<Fields>();
  if (!value->is_object()) return wrong_type(path_of(key), "an object", *value);
  return std::optional<Fields>(Fields(*value, path_of(key)));
}

Status refuse(Fields& fields, std::span<const RefusedField> refused) {
  for (const RefusedField& field : refused) {
    const Json* value = fields.find(field.name);
    if (!value || (*field.harmless && *value == Json::parse(field.harmless))) continue;
    return usage_error(fields.path_of(field.name) + ": is not supported: " + field.remedy);
  }
  return {};
}

void pass(Fields& fields, std::span<const char* const> harmless) {
  for (const char* name : harmless) fields.find(name);
}

Result<Json> parse_body(std::string_view body) {
  if (static_cast<int64_t>(body.size()) > limit("body").most)
    return usage_error(body_too_large(static_cast<int64_t>(body.size())).message);
  HADAL_TRY(Json root, chat::read_json(body, "request", chat::JsonKeys::kUnique));
  if (!root.is_object()) return wrong_type("", "an object", root);
  return root;
}

}  // namespace hadal::server
