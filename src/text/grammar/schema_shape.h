// What several JSON schemas that must all hold at one place say together.
//
// Follows $ref and allOf, and adds up types, bounds and lists; anyOf and oneOf are left to the
// compiler, which tries their options one by one. Refuses references that lead back to themselves
// with nothing in between. Called by the JSON schema compiler and the tools compiler.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/grammar/automaton.h"
#include "text/grammar/number_range.h"
#include "text/grammar/schema_keywords.h"

namespace hadal {

/// One schema that must hold, of which the choices that were made already no longer count.
struct SchemaMember {
  const SchemaJson* schema = nullptr;
  bool any_chosen = false, one_chosen = false;
  auto operator<=>(const SchemaMember&) const = default;
};
/// Schemas that must all hold; sorted, none twice.
using SchemaSet = std::vector<SchemaMember>;

enum SchemaType : unsigned {
  kNullType = 1,
  kBoolType = 2,
  kIntegerType = 4,
  kFractionType = 8,  ///< numbers that are no integers
  kStringType = 16,
  kArrayType = 32,
  kObjectType = 64,
  kAllTypes = 127
};

struct SchemaShape {
  SchemaSet members;  ///< all that hold, references followed
  unsigned types = kAllTypes;
  std::optional<std::vector<const SchemaJson*>> values;  ///< of enum and const
  NumberBounds number;
  int64_t min_length = 0, max_length = -1;
  std::vector<std::string> patterns;
  int64_t min_items = 0, max_items = -1;
  int64_t min_properties = 0, max_properties = -1;
  std::vector<std::string> required;
  std::vector<const SchemaJson*> names;  ///< propertyNames
  bool unique_items = false;
  /// A member whose anyOf or oneOf is still open; -1 if none.
  int64_t open_choice = -1;
};

/// A whole schema, and where its parts lie.
class SchemaTree {
 public:
  /// Errors begin with "schema: ": no JSON, too large or too deep.
  static Result<std::unique_ptr<SchemaTree>> parse(std::string_view text);
  /// `root` is kept.
  explicit SchemaTree(SchemaJson root);

  [[nodiscard]] const SchemaJson& root() const { return root_; }
  [[nodiscard]] std::string place(const SchemaJson* schema) const;
  Result<SchemaShape> shape(const SchemaSet& set);
  /// Whether `value` satisfies all of `set`.
  Result<bool> admits(const SchemaSet& set, const SchemaJson& value);
  /// Whether nothing satisfies both; false where that is not plain to see.
  Result<bool> disjoint(const SchemaSet& a, const SchemaSet& b, int depth = 0);
  /// Texts that the shape's patterns and lengths admit.
  Result<Automaton> strings(const SchemaShape& shape);
  Result<const Automaton*> pattern(const std::string& regex);
  /// The schemas that the property `name` must satisfy.
  Result<SchemaSet> property(const SchemaShape& shape, const std::string& name);
  /// What `schema` says of properties that it does not name: null if it says nothing.
  static const SchemaJson* others(const SchemaJson& schema);
  /// The schemas of an array's first items, and of those behind them (null: nothing is said).
  static std::vector<const SchemaJson*> first_items(const SchemaJson& schema);
  static const SchemaJson* further_items(const SchemaJson& schema);

  static SchemaSet with(SchemaSet set, const SchemaJson* schema);
  /// Counts `steps` of work; an error once a schema has taken too many.
  Status worked(int64_t steps);

 private:
  Result<const SchemaJson*> target(const SchemaJson& schema);
  Status add(const SchemaJson& schema, SchemaShape& shape);
  Status add_numbers(const SchemaJson& schema, SchemaShape& shape);
  Result<bool> admits_all(const SchemaSet& set, const SchemaJson& value);
  Result<bool> admits_structure(const SchemaShape& shape, const SchemaJson& value);
  Result<bool> admits_choices(const SchemaMember& member, const SchemaJson& value);
  void find_places(const SchemaJson& value, const std::string& place);

  SchemaJson root_;
  std::map<const SchemaJson*, std::string> places_;
  std::map<std::string, Automaton> patterns_;
  int64_t work_ = 0;
  int depth_ = 0;  ///< of admits, which references may lead round for ever
};

unsigned schema_type_of(const SchemaJson& value);
/// Equal as JSON Schema has it: 1 and 1.0 are, 1 and true are not.
bool json_equal(const SchemaJson& a, const SchemaJson& b);

}  // namespace hadal
