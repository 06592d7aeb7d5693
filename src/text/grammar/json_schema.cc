#include "text/grammar/json_schema.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/grammar/limits.h"
#include "text/grammar/member_list.h"
#include "text/grammar/regex.h"

namespace hadal {
namespace {

/// The names of all properties that the shape names, in the order of the schema.
std::vector<std::string> named_properties(const SchemaShape& shape) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& name) {
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  };
  for (const SchemaMember& member : shape.members)
    if (member.schema->is_object() && member.schema->contains("properties"))
      for (const auto& entry : (*member.schema)["properties"].items()) add(entry.key());
  for (const std::string& name : shape.required) add(name);
  return out;
}

bool names_members(const SchemaJson& schema) {
  return schema.is_object() &&
         (schema.contains("properties") || schema.contains("patternProperties"));
}

/// A character of a JSON string that is written as it is.
constexpr std::string_view kPlainChar = "[^\"\\\\\\u0000-\\u001f]";

std::string times(int64_t min, int64_t max) {
  return max < 0 ? fmt::format("{{{},}}", min) : fmt::format("{{{},{}}}", min, max);
}

}  // namespace

void SchemaWriter::write_basics(EbnfWriter& out) {
  out.rule("json-ws",
           fmt::format("(\" \" | \"\\n\" [ \\t]{{0,{}}})?", grammar_limits::kBlanksInRow));
  // One rule from the first character to the closing quote: where a character were a rule of its
  // own, each step of a string would cost a walk through the vocabulary. Surrogates come as the
  // characters that they stand for: half of one is no text.
  out.rule("json-escape",
           "[\"\\\\/bfnrt] | \"u\" ([0-9a-ce-fA-CE-F] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2})");
  out.rule("json-rest",
           fmt::format("\"\\\"\" | {} json-rest | \"\\\\\" json-escape json-rest", kPlainChar));
  out.rule("json-string", "\"\\\"\" json-rest");
  out.rule("json-integer", "\"-\"? (\"0\" | [1-9] [0-9]{0,17})");
  out.rule("json-number", "json-integer (\".\" [0-9]{1,17})? ([eE] [+\\-]? [0-9]{1,2})?");
  out.rule("json-member", "json-string \":\" json-ws json-value");
  out.rule("json-object",
           "\"{\" json-ws (json-member (\",\" json-ws json-member)* json-ws)? \"}\"");
  out.rule("json-array", "\"[\" json-ws (json-value (\",\" json-ws json-value)* json-ws)? \"]\"");
  out.rule(
      "json-value",
      "json-string | json-number | json-object | json-array | \"true\" | \"false\" | \"null\"");
}

std::string SchemaWriter::place(const SchemaShape& shape) const {
  const std::string found = shape.members.empty() ? "" : tree_.place(shape.members[0].schema);
  return found.empty() ? "the top" : found;
}

Result<std::string> SchemaWriter::values(const SchemaSet& set) {
  const auto [entry, added] = known_.try_emplace(set);
  Known& known = entry->second;
  if (!added) {
    known.used = known.used || !known.done;
    return known.empty ? "" : known.rule;
  }
  known.rule = out_.name("v");
  if (out_.too_large() || known_.size() > grammar_limits::kRules)
    return usage_error("schema: it makes too large a grammar");
  // Schemas refer to each other without end; the stack does not.
  if (++depth_ > 4 * grammar_limits::kNesting)
    return usage_error("schema: its parts are nested too deep, references followed");
  HADAL_TRY(const SchemaShape shape, tree_.shape(set));
  std::string body;
  if (shape.open_choice >= 0) {
    HADAL_TRY(body, choices(shape));
  } else {
    HADAL_TRY(body, value_list(set, shape));
  }
  --depth_;
  known.done = true;
  known.empty = body.empty();
  if (!known.empty) out_.rule(known.rule, body);
  if (known.empty && known.used)
    return usage_error("schema: nothing satisfies what stands at " + place(shape));
  return known.empty ? "" : known.rule;
}

/// anyOf or oneOf: each option in turn, together with all else.
Result<std::string> SchemaWriter::choices(const SchemaShape& shape) {
  const auto index = static_cast<size_t>(shape.open_choice);
  const SchemaJson& schema = *shape.members[index].schema;
  const bool any = schema.contains("anyOf") && !shape.members[index].any_chosen;
  SchemaSet rest = shape.members;
  (any ? rest[index].any_chosen : rest[index].one_chosen) = true;
  std::sort(rest.begin(), rest.end());
  const char* keyword = any ? "anyOf" : "oneOf";
  const SchemaJson& options = schema[keyword];
  if (options.size() > grammar_limits::kAlternatives)
    return schema_refused(keyword, tree_.place(&schema),
                          fmt::format("has more than {} options", grammar_limits::kAlternatives));
  for (size_t i = 0; !any && i < options.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      HADAL_TRY(const bool apart, tree_.disjoint(SchemaTree::with(rest, &options[j]),
                                                 SchemaTree::with(rest, &options[i])));
      if (!apart)
        return schema_refused(
            keyword, tree_.place(&schema),
            fmt::format("is not supported: its options {} and {} may hold at once; "
                        "anyOf would do",
                        j, i));
    }
  std::string body;
  for (const SchemaJson& option : options) {
    HADAL_TRY(const std::string rule, values(SchemaTree::with(rest, &option)));
    if (!rule.empty()) body += (body.empty() ? "" : " | ") + rule;
  }
  return body;
}

Result<std::string> SchemaWriter::value_list(const SchemaSet& set, const SchemaShape& shape) {
  std::string body;
  const auto add = [&](const std::string& choice) {
    if (!choice.empty()) body += (body.empty() ? "" : " | ") + choice;
  };
  if (shape.values) {
    std::vector<std::string> texts;
    for (const SchemaJson* value : *shape.values) {
      HADAL_TRY(const bool holds, tree_.admits(set, *value));
      if (holds) texts.push_back(value->dump());
    }
    if (texts.empty()) return std::string();
    return out_.automaton(Automaton::words(texts), Spelling::kPlain, "e");
  }
  if ((shape.types & kNullType) != 0) add("\"null\"");
  if ((shape.types & kBoolType) != 0) add("\"true\" | \"false\"");
  if ((shape.types & kIntegerType) != 0) {
    NumberBounds bounds = shape.number;
    bounds.integers = bounds.integers || (shape.types & kFractionType) == 0;
    Result<std::string> numbers = number_rule(out_, bounds);
    if (!numbers)
      return usage_error("schema: " + numbers.error().message + " (at " + place(shape) + ")");
    add(*numbers);
  } else if ((shape.types & kFractionType) != 0) {
    return schema_refused("not", place(shape), "is not supported where it leaves fractions alone");
  }
  if ((shape.types & kStringType) != 0) {
    HADAL_TRY(const std::string text, string(shape));
    add(text);
  }
  if ((shape.types & kArrayType) != 0) {
    HADAL_TRY(const std::string list, array(shape));
    add(list);
  }
  if ((shape.types & kObjectType) != 0) {
    HADAL_TRY(const std::string members, object(shape));
    add(members);
  }
  return body;
}

Result<std::string> SchemaWriter::string(const SchemaShape& shape) {
  if (shape.patterns.empty()) {
    if (shape.max_length >= 0 && shape.max_length < shape.min_length) return std::string();
    if (shape.min_length > grammar_limits::kRepeats || shape.max_length > grammar_limits::kLength)
      return usage_error(
          fmt::format("schema: minLength may be up to {} and maxLength up to {} (at {})",
                      grammar_limits::kRepeats, grammar_limits::kLength, place(shape)));
    return any_string(shape.min_length, shape.max_length);
  }
  Result<Automaton> texts = tree_.strings(shape);
  if (!texts)
    return schema_refused("pattern", place(shape),
                          "with the lengths beside it " + texts.error().message);
  if (texts->empty()) return std::string();
  return fmt::format("\"\\\"\" {} \"\\\"\"", out_.automaton(*texts, Spelling::kInJsonString, "s"));
}

std::string SchemaWriter::any_string(int64_t min, int64_t max) {
  if (max < 0) {
    // The closing quote may come behind `min` characters.
    std::string rest = "json-rest";
    const std::string name = out_.name("l");
    for (int64_t i = 1; i <= min; ++i) {
      const std::string longer = name + "r" + std::to_string(i);
      out_.rule(longer, fmt::format("{} {} | \"\\\\\" json-escape {}", kPlainChar, rest, rest));
      rest = longer;
    }
    return "\"\\\"\" " + rest;
  }
  // Escapes are left out: they would be one character by the schema and several by the count.
  if (max <= grammar_limits::kCountedLength)
    return fmt::format("\"\\\"\" {}{} \"\\\"\"", kPlainChar, times(min, max));
  const std::string name = out_.name("l");
  out_.rule(fmt::format("{}[max_chars={}]", name, max),
            fmt::format("{}{} {}*", kPlainChar, times(min, min), kPlainChar));
  return fmt::format("\"\\\"\" {} \"\\\"\"", name);
}

Result<std::string> SchemaWriter::array(const SchemaShape& shape) {
  // Items that some schema names by their place; behind them, what all say of the others.
  size_t named = 0;
  bool closed = false;
  SchemaSet rest;
  for (const SchemaMember& member : shape.members) {
    const auto first = SchemaTree::first_items(*member.schema);
    const SchemaJson* further = SchemaTree::further_items(*member.schema);
    named = std::max(named, first.size());
    if (further) rest = SchemaTree::with(std::move(rest), further);
    closed = closed || (!first.empty() && !further);
  }
  closed = closed && shape.min_items <= static_cast<int64_t>(named);
  if (std::max(shape.min_items, shape.max_items) > grammar_limits::kRepeats)
    return usage_error(fmt::format("schema: minItems and maxItems may be up to {} (at {})",
                                   grammar_limits::kRepeats, place(shape)));
  std::vector<std::string> first;
  for (size_t i = 0; i < named; ++i) {
    SchemaSet item;
    for (const SchemaMember& member : shape.members) {
      const auto own = SchemaTree::first_items(*member.schema);
      const SchemaJson* schema =
          i < own.size() ? own[i] : SchemaTree::further_items(*member.schema);
      if (schema) item = SchemaTree::with(std::move(item), schema);
    }
    HADAL_TRY(const std::string rule, values(item));
    // Where nothing fits, the array ends.
    if (rule.empty()) return array_items(shape, first, "");
    first.push_back(rule);
  }
  std::string further;
  const bool room = shape.max_items < 0 || shape.max_items > static_cast<int64_t>(named);
  if (!closed && room) {
    HADAL_TRY(further, values(rest));
  }
  return array_items(shape, first, further);
}

Result<std::string> SchemaWriter::array_items(const SchemaShape& shape,
                                              const std::vector<std::string>& first,
                                              const std::string& further) {
  const auto named = static_cast<int64_t>(first.size());
  const int64_t min = shape.min_items;
  int64_t max = shape.max_items;
  if (further.empty()) max = max < 0 ? named : std::min(max, named);
  if (max >= 0 && min > max) return std::string();
  if (shape.unique_items && max != 0 && max != 1)
    return schema_refused("uniqueItems", place(shape),
                          "is not supported for arrays of more than one item");
  if (max == 0) return std::string("\"[\" json-ws \"]\"");
  // From the back: what may follow `i` items.
  const std::string name = out_.name("items");
  std::string tail;
  if (!further.empty()) {
    const int64_t least = std::max<int64_t>(0, min - std::max<int64_t>(named, 1));
    tail = fmt::format(
        "(\",\" json-ws {}){}", further,
        times(least, max < 0 ? -1 : std::max<int64_t>(0, max - std::max<int64_t>(named, 1))));
  }
  for (int64_t i = named - 1; i >= 1; --i) {
    if (max >= 0 && i >= max) continue;
    const std::string rule = name + "t" + std::to_string(i);
    out_.rule(rule, fmt::format("{}\",\" json-ws {} {}", min <= i ? "\"\" | " : "",
                                first[static_cast<size_t>(i)], tail));
    tail = rule;
  }
  const std::string filled = (named > 0 ? first[0] : further) + " " + tail + " json-ws";
  return min == 0 ? fmt::format("\"[\" json-ws ({})? \"]\"", filled)
                  : fmt::format("\"[\" json-ws {} \"]\"", filled);
}

Result<Automaton> SchemaWriter::allowed_names(const SchemaShape& shape) {
  Automaton out = Automaton::everything();
  for (const SchemaJson* names : shape.names) {
    HADAL_TRY(const SchemaShape inner, tree_.shape({{.schema = names}}));
    if (inner.open_choice >= 0)
      return schema_refused("propertyNames", place(shape), "is not supported with a choice in it");
    Automaton one;
    if (inner.values) {
      std::vector<std::string> words;
      for (const SchemaJson* value : *inner.values) {
        HADAL_TRY(const bool holds, tree_.admits({{.schema = names}}, *value));
        if (holds && value->is_string()) words.push_back(value->get<std::string>());
      }
      one = Automaton::words(words);
      if (words.empty()) one = Automaton();
    } else if ((inner.types & kStringType) != 0) {
      Result<Automaton> texts = tree_.strings(inner);
      if (!texts) return schema_refused("propertyNames", place(shape), texts.error().message);
      one = *std::move(texts);
    }
    HADAL_TRY(out, out.both(one));
  }
  return out;
}

Result<std::string> SchemaWriter::member(const Automaton& names, const SchemaSet& value) {
  if (names.empty()) return std::string();
  HADAL_TRY(const std::string rule, values(value));
  if (rule.empty()) return std::string();
  const bool any = names.states().size() == 1 && names.states()[0].edges.size() == 2;
  const std::string name = any ? "json-string"
                               : fmt::format("\"\\\"\" {} \"\\\"\"",
                                             out_.automaton(names, Spelling::kInJsonString, "n"));
  return fmt::format("{} \":\" json-ws {}", name, rule);
}

Result<std::string> SchemaWriter::other_member(const SchemaShape& shape,
                                               const std::vector<std::string>& named,
                                               bool may_open) {
  struct Pattern {
    std::string regex;
    const SchemaJson* owner;
    const SchemaJson* value;
  };
  std::vector<Pattern> patterns;
  bool closed = false;
  SchemaSet rest;
  for (const SchemaMember& one : shape.members) {
    const SchemaJson& schema = *one.schema;
    const SchemaJson* others = SchemaTree::others(schema);
    if (others) rest = SchemaTree::with(std::move(rest), others);
    closed = closed || (names_members(schema) && !others);
    if (schema.is_object() && schema.contains("patternProperties"))
      for (const auto& [regex, value] : schema["patternProperties"].items())
        patterns.push_back({regex, &schema, &value});
  }
  const auto too_large = [&](const Error& error) {
    return usage_error("schema: the names of properties at " + place(shape) + ": " + error.message);
  };
  const auto without = [&](const Automaton& from, const Automaton& what) -> Result<Automaton> {
    HADAL_TRY(tree_.worked(2000));
    Result<Automaton> out = from.except(what);
    return out ? std::move(out) : Result<Automaton>(too_large(out.error()));
  };
  HADAL_TRY(Automaton free, allowed_names(shape));
  if (!named.empty()) {
    HADAL_TRY(free, without(free, Automaton::words(named)));
  }
  std::vector<std::string> choices;
  for (const Pattern& pattern : patterns) {
    Result<const Automaton*> names = tree_.pattern(pattern.regex);
    if (!names)
      return schema_refused("patternProperties", place(shape),
                            "is not supported: " + names.error().message);
    Result<Automaton> own = free.both(**names);
    if (!own) return too_large(own.error());
    // Names that two patterns match are left out.
    for (const Pattern& other : patterns) {
      if (&other == &pattern || other.regex == pattern.regex) continue;
      HADAL_TRY(const Automaton* theirs, tree_.pattern(other.regex));
      HADAL_TRY(own, without(*own, *theirs));
    }
    SchemaSet value;
    for (const Pattern& other : patterns)
      if (other.regex == pattern.regex) value = SchemaTree::with(std::move(value), other.value);
    for (const SchemaMember& one : shape.members) {
      const bool has = std::any_of(patterns.begin(), patterns.end(), [&](const Pattern& p) {
        return p.owner == one.schema && p.regex == pattern.regex;
      });
      const SchemaJson* others = SchemaTree::others(*one.schema);
      if (others && !has) value = SchemaTree::with(std::move(value), others);
    }
    HADAL_TRY(const std::string one, member(*own, value));
    if (!one.empty()) choices.push_back(one);
  }
  if (!closed || may_open) {
    for (const Pattern& pattern : patterns) {
      HADAL_TRY(const Automaton* theirs, tree_.pattern(pattern.regex));
      HADAL_TRY(free, without(free, *theirs));
    }
    HADAL_TRY(const std::string one, member(free, rest));
    if (!one.empty()) choices.push_back(one);
  }
  if (choices.empty()) return std::string();
  std::string body;
  for (const std::string& choice : choices) body += (body.empty() ? "" : " | ") + choice;
  const std::string rule = out_.name("other");
  out_.rule(rule, body);
  return rule;
}

Result<std::string> SchemaWriter::object(const SchemaShape& shape) {
  MemberList list{
      .separator = "\",\" json-ws", .min = shape.min_properties, .max = shape.max_properties};
  const std::vector<std::string> named = named_properties(shape);
  HADAL_TRY(const Automaton names, allowed_names(shape));
  for (const std::string& name : named) {
    const bool required =
        std::find(shape.required.begin(), shape.required.end(), name) != shape.required.end();
    std::string rule;
    if (names.accepts(name)) {
      HADAL_TRY(const SchemaSet value, tree_.property(shape, name));
      HADAL_TRY(rule, values(value));
    }
    if (rule.empty() && required) return std::string();
    if (rule.empty()) continue;
    list.members.push_back(
        {fmt::format("{} json-ws {}", EbnfWriter::literal(SchemaJson(name).dump() + ":"), rule),
         required});
  }
  if (std::max(list.min, list.max) > grammar_limits::kRepeats)
    return usage_error(
        fmt::format("schema: minProperties and maxProperties may be up to {} (at {})",
                    grammar_limits::kRepeats, place(shape)));
  const auto known = static_cast<int64_t>(list.members.size());
  // Members that must be there but have no name must be allowed to come.
  HADAL_TRY(list.others, other_member(shape, named, list.min > known));
  if (list.min > known + 1 && !list.others.empty())
    return schema_refused("minProperties", place(shape),
                          "is not supported beyond the named properties and one more: a name could "
                          "come twice");
  HADAL_TRY(const MemberRules rules, write_members(out_, list));
  if (rules.filled.empty()) return std::string(rules.may_be_empty ? "\"{\" json-ws \"}\"" : "");
  return fmt::format("\"{{\" json-ws ({} json-ws){} \"}}\"", rules.filled,
                     rules.may_be_empty ? "?" : "");
}

Result<std::string> json_schema_grammar(std::string_view schema) {
  HADAL_TRY(const std::unique_ptr<SchemaTree> tree, SchemaTree::parse(schema));
  EbnfWriter out;
  SchemaWriter writer(*tree, out);
  HADAL_TRY(const std::string values, writer.values({{.schema = &tree->root()}}));
  if (values.empty()) return usage_error("schema: nothing satisfies it");
  out.rule("root", "\"\\n\"{0,2} " + values);
  SchemaWriter::write_basics(out);
  return out.text();
}

std::string json_object_grammar() {
  EbnfWriter out;
  out.rule("root", "\"\\n\"{0,2} json-object");
  SchemaWriter::write_basics(out);
  return out.text();
}

}  // namespace hadal
