// PreTokenizer: splits text into the words that the merge loop works on, step by step, each on the
// pieces of the one before.
//
// Knows what tokenizer.json calls Split, Digits, Punctuation, Whitespace, WhitespaceSplit,
// CharDelimiterSplit, ByteLevel and Sequence; all but ByteLevel are one pattern and a behaviour.
// Refuses others by name (load_json.cc).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/pattern.h"

namespace hadal {

enum class SplitBehavior : uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous
};

struct PreTokenizerStep {
  std::vector<Pattern> pattern = {};  ///< one; none for ByteLevel without its pattern
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
  bool byte_level = false;    ///< afterwards the text is spelled in the byte alphabet
  bool prefix_space = false;  ///< of ByteLevel: a piece that begins with no blank gets one
};

class PreTokenizer {
 public:
  struct Words {
    std::string text;
    std::vector<Piece> pieces;
    bool bytes = false;  ///< the pieces are bytes that the byte alphabet would spell: the last step
                         ///< was ByteLevel
  };
  std::vector<PreTokenizerStep> steps;
  /// Throws std::runtime_error where several ByteLevel steps, each spelling the last, make too much
  /// of the text.
  [[nodiscard]] Words split(std::string text, Pattern::Scratch& scratch) const;
};

/// GPT-2's pattern, which ByteLevel splits with unless use_regex is false.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace hadal
