// Normalizer: what tokenizer.json's normalizer does to the text before it is split.
//
// Knows NFC, NFD, NFKC, NFKD, Sequence, Replace, Prepend, Strip; refuses others by name. The
// Unicode forms are those of the `tokenizers` library (Unicode 9: newer characters stay as they
// are), in time linear in the text apart from a logarithm.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/pattern.h"

namespace hadal {

struct NormalizerStep {
  enum Kind : uint8_t { kNfc, kNfd, kNfkc, kNfkd, kReplace, kPrepend, kStrip };
  Kind kind = kNfc;
  std::string text = {};              ///< of kReplace: what comes in; of kPrepend
  std::vector<Pattern> pattern = {};  ///< of kReplace: one
  bool left = false, right = false;   ///< of kStrip
};

/// NFC, NFD, NFKC or NFKD of valid UTF-8.
std::string unicode_form(std::string_view text, NormalizerStep::Kind form);

/// `text`, which is valid UTF-8, without the white space at its ends.
std::string_view stripped(std::string_view text, bool left, bool right);

class Normalizer {
 public:
  std::vector<NormalizerStep> steps;
  /// Throws std::runtime_error where a step makes more than `limit` bytes.
  [[nodiscard]] std::string apply(std::string text, Pattern::Scratch& scratch, size_t limit) const;
};

}  // namespace hadal
