#include "text/grammar/schema_keywords.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "checkpoint/printable.h"
#include "text/grammar/limits.h"

namespace hadal {
namespace {

using Use = KeywordUse;

constexpr auto kKeywords = std::to_array<SchemaKeyword>({
    {"type", Use::kHonoured},
    {"enum", Use::kHonoured},
    {"const", Use::kHonoured},
    {"$ref", Use::kConditional, "within the schema: # or #/…; all keywords beside it count too"},
    {"$defs", Use::kHonoured},
    {"definitions", Use::kHonoured},
    {"allOf", Use::kHonoured},
    {"anyOf", Use::kHonoured},
    {"oneOf", Use::kConditional, "where no two options can hold at once"},
    {"not", Use::kConditional, "of a schema that has nothing but `type`"},
    {"minimum", Use::kHonoured},
    {"maximum", Use::kHonoured},
    {"exclusiveMinimum", Use::kHonoured},
    {"exclusiveMaximum", Use::kHonoured},
    {"multipleOf", Use::kConditional, "a whole number; with bounds only if few multiples fit"},
    {"minLength", Use::kHonoured},
    {"maxLength", Use::kHonoured},
    {"pattern", Use::kConditional, "the regexes of regex.h"},
    {"properties", Use::kHonoured},
    {"required", Use::kHonoured},
    {"additionalProperties", Use::kHonoured},
    {"patternProperties", Use::kHonoured},
    {"propertyNames", Use::kHonoured},
    {"minProperties", Use::kConditional, "up to the named properties and one more"},
    {"maxProperties", Use::kHonoured},
    {"items", Use::kHonoured},
    {"prefixItems", Use::kHonoured},
    {"additionalItems", Use::kHonoured},
    {"minItems", Use::kHonoured},
    {"maxItems", Use::kHonoured},
    {"uniqueItems", Use::kConditional, "false, or with at most one item"},
    {"unevaluatedProperties", Use::kConditional,
     "as additionalProperties, without applicators beside it"},
    {"unevaluatedItems", Use::kConditional, "as items, without applicators beside it"},
    {"contains", Use::kRefused},
    {"minContains", Use::kAnnotation, "without `contains` it means nothing"},
    {"maxContains", Use::kAnnotation, "without `contains` it means nothing"},
    {"if", Use::kConditional, "without `then` and `else` it means nothing"},
    {"then", Use::kConditional, "without `if` it means nothing"},
    {"else", Use::kConditional, "without `if` it means nothing"},
    {"dependentRequired", Use::kRefused},
    {"dependentSchemas", Use::kRefused},
    {"dependencies", Use::kRefused},
    {"$dynamicRef", Use::kRefused},
    {"$recursiveRef", Use::kRefused},
    {"$id", Use::kConditional, "of the whole schema"},
    {"id", Use::kConditional, "of the whole schema"},
    {"nullable", Use::kConditional, "false; write `type: [..., \"null\"]`"},
    {"format", Use::kAnnotation, "not checked, as the standard has it by default"},
    {"$schema", Use::kAnnotation},
    {"$comment", Use::kAnnotation},
    {"$anchor", Use::kAnnotation},
    {"$dynamicAnchor", Use::kAnnotation},
    {"$recursiveAnchor", Use::kAnnotation},
    {"$vocabulary", Use::kAnnotation},
    {"title", Use::kAnnotation},
    {"description", Use::kAnnotation},
    {"default", Use::kAnnotation},
    {"examples", Use::kAnnotation},
    {"example", Use::kAnnotation},
    {"deprecated", Use::kAnnotation},
    {"readOnly", Use::kAnnotation},
    {"writeOnly", Use::kAnnotation},
    {"contentEncoding", Use::kAnnotation},
    {"contentMediaType", Use::kAnnotation},
    {"contentSchema", Use::kAnnotation},
    {"discriminator", Use::kAnnotation, "OpenAPI's hint beside oneOf"},
    {"externalDocs", Use::kAnnotation},
    {"xml", Use::kAnnotation},
    {"strict", Use::kAnnotation},
});

enum class Kind {
  kAnything,
  kSchema,
  kSchemaList,
  kSchemaMap,
  kItems,
  kNumber,
  kBound,
  kCount,
  kString,
  kStrings,
  kBool,
  kList,
  kTypes
};
struct ValueKind {
  std::string_view name;
  Kind kind;
};
constexpr auto kValues = std::to_array<ValueKind>({
    {"type", Kind::kTypes},
    {"enum", Kind::kList},
    {"$ref", Kind::kString},
    {"$defs", Kind::kSchemaMap},
    {"definitions", Kind::kSchemaMap},
    {"allOf", Kind::kSchemaList},
    {"anyOf", Kind::kSchemaList},
    {"oneOf", Kind::kSchemaList},
    {"not", Kind::kSchema},
    {"minimum", Kind::kNumber},
    {"maximum", Kind::kNumber},
    {"exclusiveMinimum", Kind::kBound},
    {"exclusiveMaximum", Kind::kBound},
    {"multipleOf", Kind::kNumber},
    {"minLength", Kind::kCount},
    {"maxLength", Kind::kCount},
    {"pattern", Kind::kString},
    {"properties", Kind::kSchemaMap},
    {"required", Kind::kStrings},
    {"additionalProperties", Kind::kSchema},
    {"patternProperties", Kind::kSchemaMap},
    {"propertyNames", Kind::kSchema},
    {"minProperties", Kind::kCount},
    {"maxProperties", Kind::kCount},
    {"items", Kind::kItems},
    {"prefixItems", Kind::kSchemaList},
    {"additionalItems", Kind::kSchema},
    {"minItems", Kind::kCount},
    {"maxItems", Kind::kCount},
    {"uniqueItems", Kind::kBool},
    {"unevaluatedProperties", Kind::kSchema},
    {"unevaluatedItems", Kind::kSchema},
    {"nullable", Kind::kBool},
    {"$id", Kind::kString},
    {"id", Kind::kString},
});

bool is_schema(const SchemaJson& value) { return value.is_object() || value.is_boolean(); }

/// What the value should be; "" if it is that.
std::string_view wanted(const SchemaJson& value, Kind kind) {
  const auto each = [&](auto test) { return std::all_of(value.begin(), value.end(), test); };
  const auto text = [](const SchemaJson& item) { return item.is_string(); };
  switch (kind) {
    case Kind::kAnything:
      return "";
    case Kind::kSchema:
      return is_schema(value) ? "" : "must be a schema";
    case Kind::kSchemaList:
      return value.is_array() && each(is_schema) ? "" : "must be a list of schemas";
    case Kind::kItems:
      return is_schema(value) || (value.is_array() && each(is_schema))
                 ? ""
                 : "must be a schema or a list of schemas";
    case Kind::kSchemaMap:
      return value.is_object() && each(is_schema) ? "" : "must be an object of schemas";
    case Kind::kNumber:
      return value.is_number() ? "" : "must be a number";
    case Kind::kBound:
      return value.is_number() || value.is_boolean() ? "" : "must be a number";
    case Kind::kCount: {
      const double count = value.is_number() ? value.get<double>() : -1;
      return count >= 0 && count == std::floor(count) ? "" : "must be a whole number from 0 on";
    }
    case Kind::kString:
      return value.is_string() ? "" : "must be a string";
    case Kind::kStrings:
      return value.is_array() && each(text) ? "" : "must be a list of strings";
    case Kind::kBool:
      return value.is_boolean() ? "" : "must be true or false";
    case Kind::kList:
      return value.is_array() ? "" : "must be a list";
    case Kind::kTypes:
      return value.is_string() || (value.is_array() && each(text))
                 ? ""
                 : "must be a type or a list of types";
  }
  return "";
}

bool has_any(const SchemaJson& schema, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view name) { return schema.contains(name); });
}

/// What is not supported about a keyword that is supported in some forms; "" if nothing.
std::string_view fault(const SchemaJson& schema, std::string_view name, const SchemaJson& value,
                       bool is_root) {
  if (name == "$ref") {
    const auto& target = value.get_ref<const std::string&>();
    return target == "#" || target.starts_with("#/")
               ? ""
               : "leads out of the schema: only # and #/… are supported";
  }
  if (name == "multipleOf") {
    const double of = value.get<double>();
    return of == std::floor(of) && of >= 1 && of <= static_cast<double>(grammar_limits::kMultipleOf)
               ? ""
               : "is not supported with this value: a whole number up to 256 is";
  }
  if ((name == "$id" || name == "id") && !is_root) return "is not supported within a schema";
  if (name == "if") return has_any(schema, {"then", "else"}) ? "is not supported" : "";
  if (name == "nullable" && value.get<bool>())
    return "is not supported: write `type` as a list with \"null\"";
  if (name == "unevaluatedProperties" || name == "unevaluatedItems")
    return value != true && has_any(schema, {"$ref", "allOf", "anyOf", "oneOf", "not", "if"})
               ? "is not supported beside `allOf`, `anyOf`, `oneOf`, `$ref` and their like"
               : "";
  if (name == "not") {
    const bool only_type =
        value.is_boolean() || value.empty() || (value.size() == 1 && value.contains("type"));
    return only_type ? "" : "is not supported but for schemas with nothing but `type`";
  }
  return "";
}

}  // namespace

std::span<const SchemaKeyword> schema_keywords() { return kKeywords; }

Error schema_refused(std::string_view keyword, const std::string& place, std::string_view what) {
  return usage_error(fmt::format("schema: `{}` at {} {}", printable(keyword, 60),
                                 place.empty() ? "the top" : printable(place, 200), what));
}

std::string pointer_step(std::string_view key) {
  std::string out = "/";
  for (const char c : key) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

Status check_schema_keywords(const SchemaJson& schema, const std::string& place) {
  if (!schema.is_object()) return {};
  for (const auto& [name, value] : schema.items()) {
    if (name.starts_with("x-")) continue;
    const auto known = std::find_if(kKeywords.begin(), kKeywords.end(),
                                    [&](const SchemaKeyword& k) { return k.name == name; });
    if (known == kKeywords.end())
      return schema_refused(name, place, "is no keyword that is known (x-… may be added)");
    if (known->use == Use::kRefused) return schema_refused(name, place, "is not supported");
    for (const ValueKind& kind : kValues)
      if (kind.name == name)
        if (const std::string_view want = wanted(value, kind.kind); !want.empty())
          return schema_refused(name, place, want);
    if (const std::string_view what = fault(schema, name, value, place.empty()); !what.empty())
      return schema_refused(name, place, what);
    if (name == "enum" && value.size() > grammar_limits::kEnumValues)
      return schema_refused(
          name, place,
          fmt::format("has {} values, {} are allowed", value.size(), grammar_limits::kEnumValues));
  }
  return {};
}

}  // namespace hadal
