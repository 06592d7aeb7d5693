// Of SchemaTree: whether a value satisfies schemas, and whether two sets of schemas exclude each
// other.
#include <algorithm>

#include "text/grammar/limits.h"
#include "text/grammar/schema_shape.h"

namespace hadal {
namespace {

int64_t characters(const std::string& text) {
  return static_cast<int64_t>(code_points(text).size());
}

bool within(int64_t number, int64_t min, int64_t max) {
  return number >= min && (max < 0 || number <= max);
}

}  // namespace

Status SchemaTree::worked(int64_t steps) {
  work_ += steps;
  if (work_ <= grammar_limits::kSchemaWork) return {};
  return usage_error("schema: its enum, const, oneOf and patterns take too much work to compare");
}

Result<bool> SchemaTree::admits(const SchemaSet& set, const SchemaJson& value) {
  if (depth_ >= grammar_limits::kComparedDepth)
    return usage_error(
        "schema: its references lead round and round beside `enum`, `const` or `oneOf`");
  ++depth_;
  Result<bool> out = admits_all(set, value);
  --depth_;
  return out;
}

Result<bool> SchemaTree::admits_all(const SchemaSet& set, const SchemaJson& value) {
  HADAL_TRY(worked(1));
  HADAL_TRY(const SchemaShape all, shape(set));
  if ((all.types & schema_type_of(value)) == 0) return false;
  if (all.values && std::none_of(all.values->begin(), all.values->end(),
                                 [&](const SchemaJson* v) { return json_equal(*v, value); }))
    return false;
  if (value.is_number()) {
    HADAL_TRY(const Decimal number, Decimal::of(value));
    if (!all.number.holds(number)) return false;
  }
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (!within(characters(text), all.min_length, all.max_length)) return false;
    for (const std::string& regex : all.patterns) {
      HADAL_TRY(const Automaton* one, pattern(regex));
      if (!one->accepts(text)) return false;
    }
  }
  if (value.is_structured()) {
    HADAL_TRY(const bool structure, admits_structure(all, value));
    if (!structure) return false;
  }
  for (const SchemaMember& member : all.members) {
    HADAL_TRY(const bool choices, admits_choices(member, value));
    if (!choices) return false;
  }
  return true;
}

Result<bool> SchemaTree::admits_choices(const SchemaMember& member, const SchemaJson& value) {
  const SchemaJson& schema = *member.schema;
  for (const char* keyword : {"anyOf", "oneOf"}) {
    const bool one = keyword == std::string_view("oneOf");
    if (!schema.is_object() || !schema.contains(keyword)) continue;
    if (one ? member.one_chosen : member.any_chosen) continue;
    size_t holding = 0;
    for (const SchemaJson& option : schema[keyword]) {
      HADAL_TRY(const bool holds, admits({{.schema = &option}}, value));
      holding += holds;
    }
    if (holding == 0 || (one && holding > 1)) return false;
  }
  return true;
}

Result<bool> SchemaTree::admits_structure(const SchemaShape& shape, const SchemaJson& value) {
  const auto size = static_cast<int64_t>(value.size());
  if (value.is_array()) {
    if (!within(size, shape.min_items, shape.max_items)) return false;
    if (shape.unique_items)
      for (size_t i = 0; i < value.size(); ++i)
        for (size_t j = 0; j < i; ++j)
          if (json_equal(value[i], value[j])) return false;
    for (size_t i = 0; i < value.size(); ++i) {
      SchemaSet item;
      for (const SchemaMember& member : shape.members) {
        const auto first = first_items(*member.schema);
        const SchemaJson* schema = i < first.size() ? first[i] : further_items(*member.schema);
        if (schema) item = with(std::move(item), schema);
      }
      HADAL_TRY(const bool holds, admits(item, value[i]));
      if (!holds) return false;
    }
    return true;
  }
  if (!within(size, shape.min_properties, shape.max_properties)) return false;
  for (const std::string& name : shape.required)
    if (!value.contains(name)) return false;
  for (const auto& [name, inner] : value.items()) {
    for (const SchemaJson* names : shape.names) {
      HADAL_TRY(const bool holds, admits({{.schema = names}}, SchemaJson(name)));
      if (!holds) return false;
    }
    HADAL_TRY(const SchemaSet schemas, property(shape, name));
    HADAL_TRY(const bool holds, admits(schemas, inner));
    if (!holds) return false;
  }
  return true;
}

Result<bool> SchemaTree::disjoint(const SchemaSet& a, const SchemaSet& b, int depth) {
  HADAL_TRY(worked(1));
  HADAL_TRY(const SchemaShape mine, shape(a));
  HADAL_TRY(const SchemaShape theirs, shape(b));
  for (const auto& [values, others] :
       {std::pair(&mine.values, &b), std::pair(&theirs.values, &a)}) {
    if (!*values) continue;
    const SchemaSet& own = others == &b ? a : b;
    for (const SchemaJson* value : **values) {
      HADAL_TRY(const bool here, admits(own, *value));
      if (!here) continue;
      HADAL_TRY(const bool there, admits(*others, *value));
      if (there) return false;
    }
    return true;
  }
  unsigned common = mine.types & theirs.types;
  constexpr unsigned kNumbers = kIntegerType | kFractionType;
  if ((common & kNumbers) != 0) {
    NumberBounds both = mine.number;
    if (theirs.number.low) both.raise(*theirs.number.low);
    if (theirs.number.high) both.lower(*theirs.number.high);
    const int order = both.low && both.high ? both.low->value.compare(both.high->value) : -1;
    if (order > 0 || (order == 0 && (both.low->exclusive || both.high->exclusive)))
      common &= ~kNumbers;
  }
  if ((common & kStringType) != 0) {
    HADAL_TRY(worked(4000));
    Result<Automaton> first = strings(mine), second = strings(theirs);
    if (first && second)
      if (const auto both = first->both(*second); both && both->empty()) common &= ~kStringType;
  }
  if ((common & kArrayType) != 0) {
    const auto beyond = [](int64_t max, int64_t min) { return max >= 0 && max < min; };
    if (beyond(mine.max_items, theirs.min_items) || beyond(theirs.max_items, mine.min_items))
      common &= ~static_cast<unsigned>(kArrayType);
  }
  if (common == kObjectType && depth < 4) {
    // A property that both want, with values that exclude each other; or one that one side wants
    // and the other does not let be.
    for (const auto& [shape_a, shape_b] : {std::pair(&mine, &theirs), std::pair(&theirs, &mine)})
      for (const std::string& name : shape_a->required) {
        HADAL_TRY(const SchemaSet first, property(*shape_a, name));
        HADAL_TRY(const SchemaSet second, property(*shape_b, name));
        HADAL_TRY(const bool apart, disjoint(first, second, depth + 1));
        if (apart) return true;
      }
  }
  return common == 0;
}

}  // namespace hadal
