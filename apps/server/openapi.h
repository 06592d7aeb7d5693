// The description of what the server answers: each operation with its fields, in one table, from
// which /openapi.json and /docs are made.
//
// Owns words and types; ranges are those of base/limits.h. Fields that several bodies have in
// common are one group (openapi_fields.h), which each of them names. Tests hold all of it against
// the routes, and against what the readers of bodies accept: every field that a reader takes is
// here. Fields that are refused, whatever they hold, are not.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "server/routes.h"

namespace hadal::server {

struct ApiField {
  std::string_view
      name;  ///< "options.num_ctx": of a nested object; "messages[].role": of each entry
  std::string_view type;        ///< as JSON Schema has it; "string|array": one of several; "any"
  std::string_view text;        ///< what it does, a line
  std::string_view limit = {};  ///< the row of base/limits.h that bounds it, "" if none does
  bool required = false;
  bool may_be_empty = false;  ///< a list, although the row begins at 1
};

/// Fields that are read together.
struct FieldGroup {
  std::string_view name;   ///< of the schema
  std::string_view title;  ///< for people
  std::span<const ApiField> fields;
};

/// A group, and the field under which it stands; "" for the body itself.
struct GroupUse {
  const FieldGroup* group = nullptr;
  std::string_view under = {};
};

struct ApiOperation {
  Endpoint endpoint;
  std::string_view name;  ///< operationId
  std::string_view title;
  std::string_view text;
  std::array<GroupUse, 6> body = {};             ///< null behind the last
  std::string_view answer = "application/json";  ///< type of a response that is no error
  std::string_view stream = {};                  ///< type of a streamed response, "" if none is

  [[nodiscard]] std::span<const GroupUse> groups() const;
};

/// One for each endpoint of routes().
std::span<const ApiOperation> api_operations();
/// Errors: an endpoint without one is our own mistake.
const ApiOperation& operation_of(Endpoint endpoint);

/// The row of base/limits.h by its name, null if there is none.
const Limit* find_limit(std::string_view name);
/// ", 0 to 20" where a row bounds the field, else "".
std::string field_range(const ApiField& field);
/// What holds where the field is left out; none if the row does not say.
std::optional<double> field_default(const ApiField& field);
/// JSON Schema of a group: an object.
nlohmann::ordered_json group_schema(const FieldGroup& group);

}  // namespace hadal::server
