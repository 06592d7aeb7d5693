#include "text/grammar/schema_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "checkpoint/json_scan.h"
#include "checkpoint/printable.h"
#include "text/grammar/limits.h"
#include "text/grammar/regex.h"

namespace hadal {
namespace {

int64_t count(const SchemaJson& number) {
  return static_cast<int64_t>(std::min(number.get<double>(), 1e9));
}

std::optional<unsigned> type_named(const std::string& name) {
  if (name == "null") return kNullType;
  if (name == "boolean") return kBoolType;
  if (name == "integer") return kIntegerType;
  if (name == "number") return kIntegerType | kFractionType;
  if (name == "string") return kStringType;
  if (name == "array") return kArrayType;
  if (name == "object") return kObjectType;
  return std::nullopt;
}

Result<unsigned> types_of(const SchemaJson& value, const std::string& place) {
  unsigned out = 0;
  for (const SchemaJson& name : value.is_array() ? value : SchemaJson::array({value})) {
    const auto type = type_named(name.get<std::string>());
    if (!type)
      return schema_refused("type", place,
                            "has the unknown type " + quote(name.get<std::string>()));
    out |= *type;
  }
  return out;
}

}  // namespace

unsigned schema_type_of(const SchemaJson& value) {
  if (value.is_null()) return kNullType;
  if (value.is_boolean()) return kBoolType;
  if (value.is_string()) return kStringType;
  if (value.is_array()) return kArrayType;
  if (value.is_object()) return kObjectType;
  const double number = value.get<double>();
  return !value.is_number_float() || number == std::floor(number) ? kIntegerType : kFractionType;
}

bool json_equal(const SchemaJson& a, const SchemaJson& b) {
  if (a.is_number() && b.is_number())
    return a.is_number_float() || b.is_number_float() ? a.get<double>() == b.get<double>() : a == b;
  if (a.type() != b.type() || (a.is_structured() && a.size() != b.size())) return false;
  if (a.is_array()) return std::equal(a.begin(), a.end(), b.begin(), json_equal);
  if (!a.is_object()) return a == b;
  for (const auto& [key, value] : a.items())
    if (!b.contains(key) || !json_equal(value, b.at(key))) return false;
  return true;
}

Result<std::unique_ptr<SchemaTree>> SchemaTree::parse(std::string_view text) {
  if (text.size() > grammar_limits::kSourceBytes)
    return usage_error(
        fmt::format("schema: it is longer than {} bytes", grammar_limits::kSourceBytes));
  const JsonLimits limits{.depth = grammar_limits::kNesting,
                          .string_bytes = grammar_limits::kSourceBytes,
                          .keys = grammar_limits::kSchemaKeys};
  if (auto scanned = scan_json(text, "schema", limits); !scanned)
    return usage_error(scanned.error().message);
  try {
    SchemaJson root = SchemaJson::parse(text);
    if (!root.is_object() && !root.is_boolean())
      return usage_error("schema: expected an object, true or false");
    return std::make_unique<SchemaTree>(std::move(root));
  } catch (const SchemaJson::exception& e) {
    return usage_error("schema: no valid JSON: " + printable(e.what(), 200));
  }
}

SchemaTree::SchemaTree(SchemaJson root) : root_(std::move(root)) { find_places(root_, ""); }

void SchemaTree::find_places(const SchemaJson& value, const std::string& place) {
  if (value.is_object() || value.is_boolean()) places_.emplace(&value, place);
  if (value.is_object())
    for (const auto& [key, inner] : value.items()) find_places(inner, place + pointer_step(key));
  if (value.is_array())
    for (size_t i = 0; i < value.size(); ++i)
      if (value[i].is_structured() || value[i].is_boolean())
        find_places(value[i], place + "/" + std::to_string(i));
}

std::string SchemaTree::place(const SchemaJson* schema) const {
  const auto found = places_.find(schema);
  return found == places_.end() ? "" : found->second;
}

SchemaSet SchemaTree::with(SchemaSet set, const SchemaJson* schema) {
  const SchemaMember member{.schema = schema};
  const auto at = std::lower_bound(set.begin(), set.end(), member);
  if (at == set.end() || *at != member) set.insert(at, member);
  return set;
}

Result<const SchemaJson*> SchemaTree::target(const SchemaJson& schema) {
  const auto& reference = schema.at("$ref").get_ref<const std::string&>();
  std::string pointer = reference.substr(1);
  for (size_t at = 0; (at = pointer.find('%', at)) != pointer.npos; ++at) {
    unsigned byte = 0;
    if (at + 2 < pointer.size() && std::sscanf(pointer.c_str() + at + 1, "%2x", &byte) == 1)
      pointer.replace(at, 3, 1, static_cast<char>(byte));
  }
  try {
    const SchemaJson& found = root_.at(SchemaJson::json_pointer(pointer));
    if (found.is_object() || found.is_boolean()) return &found;
  } catch (const SchemaJson::exception&) {
  }
  return schema_refused("$ref", place(&schema),
                        "leads to " + quote(reference) + ", where no schema is");
}

Result<SchemaShape> SchemaTree::shape(const SchemaSet& set) {
  struct Todo {
    SchemaMember member;
    std::vector<const SchemaJson*> through;  ///< references and allOfs that led here
  };
  std::vector<Todo> todo;
  for (auto it = set.rbegin(); it != set.rend(); ++it) todo.push_back({*it, {}});
  SchemaShape out;
  while (!todo.empty()) {
    const Todo now = std::move(todo.back());
    todo.pop_back();
    const SchemaJson& schema = *now.member.schema;
    if (std::find(now.through.begin(), now.through.end(), &schema) != now.through.end())
      return schema_refused("$ref", place(&schema), "leads back to itself with nothing in between");
    if (std::find(out.members.begin(), out.members.end(), now.member) != out.members.end())
      continue;
    HADAL_TRY(check_schema_keywords(schema, place(&schema)));
    HADAL_TRY(add(schema, out));
    out.members.push_back(now.member);
    if (!schema.is_object()) continue;
    auto through = now.through;
    through.push_back(&schema);
    if (schema.contains("allOf"))
      for (auto it = schema["allOf"].rbegin(); it != schema["allOf"].rend(); ++it)
        todo.push_back({{.schema = &*it}, through});
    if (schema.contains("$ref")) {
      HADAL_TRY(const SchemaJson* found, target(schema));
      todo.push_back({{.schema = found}, through});
    }
  }
  for (size_t i = 0; i < out.members.size() && out.open_choice < 0; ++i) {
    const SchemaMember& member = out.members[i];
    if (!member.schema->is_object()) continue;
    if ((member.schema->contains("anyOf") && !member.any_chosen) ||
        (member.schema->contains("oneOf") && !member.one_chosen))
      out.open_choice = static_cast<int64_t>(i);
  }
  return out;
}

Status SchemaTree::add(const SchemaJson& schema, SchemaShape& shape) {
  if (schema.is_boolean()) {
    if (!schema.get<bool>()) shape.types = 0;
    return {};
  }
  const auto has = [&](const char* name) { return schema.contains(name); };
  if (has("type")) {
    HADAL_TRY(const unsigned types, types_of(schema["type"], place(&schema)));
    shape.types &= types;
  }
  if (has("not")) {
    const SchemaJson& inner = schema["not"];
    HADAL_TRY(check_schema_keywords(inner, place(&inner)));
    unsigned types = inner == false ? 0u : static_cast<unsigned>(kAllTypes);
    if (inner.is_object() && inner.contains("type")) {
      HADAL_TRY(types, types_of(inner["type"], place(&inner)));
    }
    shape.types &= ~types;
  }
  for (const char* keyword : {"enum", "const"}) {
    if (!has(keyword)) continue;
    std::vector<const SchemaJson*> values;
    if (keyword == std::string_view("const"))
      values.push_back(&schema["const"]);
    else
      for (const SchemaJson& value : schema["enum"]) values.push_back(&value);
    const size_t pairs = values.size() * (shape.values ? shape.values->size() : 1);
    HADAL_TRY(worked(static_cast<int64_t>(pairs / 64)));
    if (shape.values)
      std::erase_if(values, [&](const SchemaJson* value) {
        return std::none_of(shape.values->begin(), shape.values->end(),
                            [&](const SchemaJson* other) { return json_equal(*value, *other); });
      });
    shape.values = std::move(values);
  }
  HADAL_TRY(add_numbers(schema, shape));
  const auto raise = [&](const char* name, int64_t& bound) {
    if (has(name)) bound = std::max(bound, count(schema[name]));
  };
  const auto lower = [&](const char* name, int64_t& bound) {
    if (has(name)) bound = bound < 0 ? count(schema[name]) : std::min(bound, count(schema[name]));
  };
  raise("minLength", shape.min_length);
  lower("maxLength", shape.max_length);
  raise("minItems", shape.min_items);
  lower("maxItems", shape.max_items);
  raise("minProperties", shape.min_properties);
  lower("maxProperties", shape.max_properties);
  if (has("pattern")) {
    if (auto known = pattern(schema["pattern"].get<std::string>()); !known)
      return schema_refused("pattern", place(&schema),
                            "is not supported: " + known.error().message);
    shape.patterns.push_back(schema["pattern"].get<std::string>());
  }
  if (has("required"))
    for (const SchemaJson& name : schema["required"])
      if (std::find(shape.required.begin(), shape.required.end(), name) == shape.required.end())
        shape.required.push_back(name.get<std::string>());
  if (has("propertyNames")) shape.names.push_back(&schema["propertyNames"]);
  if (has("uniqueItems") && schema["uniqueItems"].get<bool>()) shape.unique_items = true;
  return {};
}

Status SchemaTree::add_numbers(const SchemaJson& schema, SchemaShape& shape) {
  const auto bound = [&](const char* name) -> Result<Decimal> {
    Result<Decimal> number = Decimal::of(schema[name]);
    if (!number) return schema_refused(name, place(&schema), number.error().message);
    return number;
  };
  const auto is_number = [&](const char* name) {
    return schema.contains(name) && schema[name].is_number();
  };
  // Draft 4 has true and false here, which speak of the bound beside them.
  const auto excludes = [&](const char* name) {
    return schema.contains(name) && schema[name] == true;
  };
  if (is_number("minimum")) {
    HADAL_TRY(Decimal value, bound("minimum"));
    shape.number.raise({std::move(value), excludes("exclusiveMinimum")});
  }
  if (is_number("maximum")) {
    HADAL_TRY(Decimal value, bound("maximum"));
    shape.number.lower({std::move(value), excludes("exclusiveMaximum")});
  }
  if (is_number("exclusiveMinimum")) {
    HADAL_TRY(Decimal value, bound("exclusiveMinimum"));
    shape.number.raise({std::move(value), true});
  }
  if (is_number("exclusiveMaximum")) {
    HADAL_TRY(Decimal value, bound("exclusiveMaximum"));
    shape.number.lower({std::move(value), true});
  }
  if (is_number("multipleOf")) {
    const int64_t both = std::lcm(shape.number.multiple_of, count(schema["multipleOf"]));
    if (both > grammar_limits::kMultipleOf)
      return schema_refused("multipleOf", place(&schema),
                            "with others asks for multiples of more than 256");
    shape.number.multiple_of = both;
    // Every integer is a multiple of one; a fraction is not.
    shape.number.integers = true;
  }
  return {};
}

Result<const Automaton*> SchemaTree::pattern(const std::string& regex) {
  if (const auto found = patterns_.find(regex); found != patterns_.end()) return &found->second;
  if (patterns_.size() >= grammar_limits::kPatterns)
    return usage_error(
        fmt::format("there are more than {} different regexes", grammar_limits::kPatterns));
  HADAL_TRY(Automaton automaton, read_regex(regex, RegexScope::kSomewhere));
  return &patterns_.emplace(regex, std::move(automaton)).first->second;
}

Result<Automaton> SchemaTree::strings(const SchemaShape& shape) {
  Automaton out = Automaton::everything();
  if (shape.min_length > 0 || shape.max_length >= 0) {
    HADAL_TRY(out, Automaton::length(shape.min_length, shape.max_length));
  }
  for (const std::string& regex : shape.patterns) {
    HADAL_TRY(const Automaton* one, pattern(regex));
    HADAL_TRY(out, out.both(*one));
  }
  return out;
}

const SchemaJson* SchemaTree::others(const SchemaJson& schema) {
  for (const char* name : {"additionalProperties", "unevaluatedProperties"})
    if (schema.is_object() && schema.contains(name)) return &schema[name];
  return nullptr;
}

std::vector<const SchemaJson*> SchemaTree::first_items(const SchemaJson& schema) {
  std::vector<const SchemaJson*> out;
  if (!schema.is_object()) return out;
  const bool old_form = schema.contains("items") && schema["items"].is_array();
  if (const char* name = old_form ? "items" : "prefixItems"; schema.contains(name))
    for (const SchemaJson& item : schema[name]) out.push_back(&item);
  return out;
}

const SchemaJson* SchemaTree::further_items(const SchemaJson& schema) {
  if (!schema.is_object()) return nullptr;
  const bool old_form = schema.contains("items") && schema["items"].is_array();
  if (const char* name = old_form ? "additionalItems" : "items"; schema.contains(name))
    return &schema[name];
  return schema.contains("unevaluatedItems") ? &schema["unevaluatedItems"] : nullptr;
}

Result<SchemaSet> SchemaTree::property(const SchemaShape& shape, const std::string& name) {
  SchemaSet out;
  for (const SchemaMember& member : shape.members) {
    const SchemaJson& schema = *member.schema;
    if (!schema.is_object()) continue;
    bool named = false;
    if (schema.contains("properties") && schema["properties"].contains(name)) {
      named = true;
      out = with(std::move(out), &schema["properties"][name]);
    }
    if (schema.contains("patternProperties"))
      for (const auto& [regex, inner] : schema["patternProperties"].items()) {
        HADAL_TRY(worked(1));
        HADAL_TRY(const Automaton* names, pattern(regex));
        if (!names->accepts(name)) continue;
        named = true;
        out = with(std::move(out), &inner);
      }
    if (const SchemaJson* rest = others(schema); rest && !named) out = with(std::move(out), rest);
  }
  return out;
}

}  // namespace hadal
