// Reading a body's fields: each with its limit, each refusal with its path.
//
// Owns how a JSON object is read: types, ranges of base/limits.h, what was asked for and what was
// not. All APIs read their bodies by it; null is the same as a field left out. Knows no API.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "base/token_id.h"

namespace hadal::server {

using Json = nlohmann::ordered_json;

/// An object of a body, and which of its keys were asked for.
class Fields {
 public:
  /// `path` is the object's own; "" for the body.
  Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  /// The value, or null where it is missing or JSON's null.
  const Json* find(const char* key);
  [[nodiscard]] std::string path_of(std::string_view key) const;
  /// Keys that nobody asked for and that are not null.
  [[nodiscard]] std::vector<std::string> unknown() const;

  Result<bool> flag(const char* key, bool missing);
  Result<std::string> text(const char* key);
  /// A text whose bytes are within the row; "" where it is missing.
  Result<std::string> text(const char* key, const Limit& bytes);
  Result<std::optional<int64_t>> whole(const char* key, const Limit& row);
  Result<std::optional<double>> real(const char* key, const Limit& row);
  /// One text or a list of them.
  Result<std::vector<std::string>> texts(const char* key, const Limit& items, const Limit& bytes);
  /// A list of token ids.
  Result<std::vector<TokenId>> ids(const char* key, const Limit& items, const Limit& id);
  /// A nested object; none where it is missing.
  Result<std::optional<Fields>> object(const char* key);

 private:
  const Json& object_;
  std::string path_;
  std::set<std::string, std::less<>> known_;
};

/// "`path`: a text is expected, number was found"
Error wrong_type(const std::string& path, std::string_view expected, const Json& found);
/// A whole number in its row.
Result<int64_t> whole_of(const Json& value, const Limit& row, const std::string& path);
Result<double> real_of(const Json& value, const Limit& row, const std::string& path);

/// A field that is not built.
struct RefusedField {
  const char* name;
  const char* harmless;  ///< JSON of the value that asks for nothing; "" if there is none
  const char* remedy;    ///< why, and what to do
};
Status refuse(Fields& fields, std::span<const RefusedField> refused);
/// Marks fields that change no answer as known.
void pass(Fields& fields, std::span<const char* const> harmless);

/// The body as an object. Errors: kUsage with the path. A body that is too large is body_too_large
/// to whoever reads it off the wire; here it is a usage error.
Result<Json> parse_body(std::string_view body);

}  // namespace hadal::server
