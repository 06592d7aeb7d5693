// All limits of what a grammar's source may ask for, in one table. What exceeds one is refused with
// the construct's name before anything is built from it, so that no source can crash, hang or fill
// the memory of who serves it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hadal::grammar_limits {

inline constexpr size_t kSourceBytes = size_t{1} << 18;  ///< of a schema, regex, EBNF or tools list
inline constexpr int kNesting = 64;          ///< levels in a schema, groups in a regex or in EBNF
inline constexpr size_t kSchemaKeys = 8192;  ///< keys in the whole schema
/// Of one object: compiling takes time by their square, 0.4 s for so many.
inline constexpr size_t kOptionalMembers = 512;
inline constexpr size_t kEnumValues = 2000;  ///< of one enum
inline constexpr size_t kPatterns = 64;      ///< different regexes of one schema
/// Steps of comparing schemas and values with each other; of automata, a thousand each.
inline constexpr int64_t kSchemaWork = 200000;
inline constexpr int kComparedDepth = 128;    ///< of schemas within each other while comparing
inline constexpr size_t kAlternatives = 256;  ///< that the anyOf and oneOf of one place multiply to
inline constexpr int64_t kRepeats =
    128;  ///< the largest bound of a repetition, of items, of minLength; xgrammar errs beyond
inline constexpr int64_t kRegexRepeats = 4096;  ///< the same of a regex
inline constexpr size_t kNumberDigits = 40;     ///< of a bound of numbers
inline constexpr int64_t kMultipleOf = 256;     ///< the largest multipleOf
inline constexpr int64_t kLength = 1000000;     ///< the largest maxLength
inline constexpr int64_t kCountedLength = 16;   ///< the largest that is counted by states
inline constexpr size_t kRegexBytes = 4096;     ///< of one regex, in a schema or alone
inline constexpr size_t kRegexPlaces = 8192;    ///< of a regex with its repetitions written out
inline constexpr size_t kRegexStates = 1024;    ///< of the automaton of one regex or string
inline constexpr size_t kRegexWork = 4000000;   ///< places looked at while it is built
inline constexpr size_t kRules = 8192;          ///< rules of a grammar
inline constexpr size_t kGrammarBytes = size_t{1} << 20;  ///< of the EBNF that a source becomes
inline constexpr size_t kTools = 128;                     ///< tools of a request
/// Tokens that the places of a grammar admit by their first byte, summed over the places: what
/// compiling takes follows it, 2 s at most on the machine of docs/grammars.md.
inline constexpr int64_t kTokenVisits = 5000000;
inline constexpr size_t kStackBytes = size_t{256} << 20;       ///< of the thread that compiles
inline constexpr size_t kCachedGrammars = 128;                 ///< of one compiler
inline constexpr size_t kCachedBytes = size_t{40} << 20;       ///< of those
inline constexpr int64_t kCoreCacheBytes = int64_t{24} << 20;  ///< of masks that grammars share
inline constexpr int kBlanksInRow = 16;  ///< the deepest indentation between JSON's tokens

}  // namespace hadal::grammar_limits
