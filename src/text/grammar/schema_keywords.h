// The keywords of JSON Schema, and what is done with each: the policy by which a schema that is
// accepted is honoured in full.
//
// Drafts 4 to 2020-12 are read as one. Refuses, with the keyword and its place in the schema, what
// cannot be honoured, what has a value of the wrong kind, and keywords that nobody knows (a slip of
// the pen in `minimum` must not let every number through). Called by the JSON schema compiler.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal {

using SchemaJson = nlohmann::ordered_json;

enum class KeywordUse {
  kHonoured,     ///< what the grammar lets through satisfies it
  kConditional,  ///< honoured in the forms that `note` names, refused in others
  kAnnotation,   ///< says nothing of what is valid, by the standard or by custom
  kRefused       ///< cannot be honoured
};

struct SchemaKeyword {
  std::string_view name;
  KeywordUse use;
  std::string_view note = {};  ///< for docs and messages
};

/// The whole policy; docs/grammars.md shows it.
std::span<const SchemaKeyword> schema_keywords();

/// Looks at the keywords of one schema, which lies at `place` (a JSON pointer), not at those of the
/// schemas within it.
Status check_schema_keywords(const SchemaJson& schema, const std::string& place);

/// "schema: `KEYWORD` at PLACE WHAT"
Error schema_refused(std::string_view keyword, const std::string& place, std::string_view what);

/// One step of a JSON pointer, with ~ and / as they must be written.
std::string pointer_step(std::string_view key);

}  // namespace hadal
