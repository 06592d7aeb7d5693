// JSON schemas as grammars: every text that the grammar lets through is JSON that satisfies the
// schema.
//
// Not the other way round: of an object's members that are named, the order is the schema's; an
// object or array that names some members has no others unless additionalProperties or items speaks
// of them; numbers have at most 18 digits and names no \u escapes. Blanks between the tokens of
// JSON are none, one, or a line's end with indentation. What is refused, with its place in the
// schema, is in schema_keywords.h. Called by grammar.cc and the tools compiler.
#pragma once

#include <map>
#include <string>

#include "text/grammar/ebnf_writer.h"
#include "text/grammar/schema_shape.h"

namespace hadal {

class SchemaWriter {
 public:
  SchemaWriter(SchemaTree& tree, EbnfWriter& out) : tree_(tree), out_(out) {}

  /// The rule for JSON values that satisfy all of `set`; "" if none does. Errors begin with
  /// "schema: ".
  Result<std::string> values(const SchemaSet& set);

  /// Rules for any JSON: `json-value`, `json-object` and what they need, once a grammar.
  static void write_basics(EbnfWriter& out);

 private:
  Result<std::string> choices(const SchemaShape& shape);
  Result<std::string> value_list(const SchemaSet& set, const SchemaShape& shape);
  Result<std::string> string(const SchemaShape& shape);
  std::string any_string(int64_t min, int64_t max);
  Result<std::string> array(const SchemaShape& shape);
  Result<std::string> array_items(const SchemaShape& shape, const std::vector<std::string>& first,
                                  const std::string& further);
  Result<std::string> object(const SchemaShape& shape);
  /// A member that the schema does not name; "" if there may be none.
  Result<std::string> other_member(const SchemaShape& shape, const std::vector<std::string>& named,
                                   bool may_open);
  /// A member whose name is in `names`, and whose value satisfies `value`; "" if none does.
  Result<std::string> member(const Automaton& names, const SchemaSet& value);
  Result<Automaton> allowed_names(const SchemaShape& shape);
  std::string place(const SchemaShape& shape) const;

  struct Known {
    std::string rule;
    bool used = false, done = false, empty = false;
  };
  SchemaTree& tree_;
  EbnfWriter& out_;
  std::map<SchemaSet, Known> known_;
  int depth_ = 0;
};

/// The whole grammar of a schema, whose first rule is `root`.
Result<std::string> json_schema_grammar(std::string_view schema);
/// That of any JSON object.
std::string json_object_grammar();

}  // namespace hadal
