// A place in a text that grows, and the steps that lead on from it. Internal to text/output.
//
// Each byte is looked at a bounded number of times, however often a step has to wait for more.
#pragma once

#include <cstddef>
#include <string_view>

#include "text/output/json_reader.h"
#include "text/output/step.h"

namespace hadal {

/// Bytes at the end of `text` that may become `marker` with what follows: they must be held back.
size_t held_back(std::string_view text, std::string_view marker);

/// Bytes of `text` before a character that its end cuts off.
size_t whole_characters(std::string_view text);

/// A place in a text. A step that is not done leaves the place where it is, take_json aside.
class Cursor {
 public:
  explicit Cursor(std::string_view text = {}) : text_(text) {}
  /// `text`: the one so far, and what has come behind it.
  void grow(std::string_view text) { text_ = text; }

  /// What is skipped.
  std::string_view skip_blanks();
  /// Whether `marker` stands here.
  [[nodiscard]] Step look(std::string_view marker) const;
  /// The same, and moves behind it.
  Step take(std::string_view marker);
  /// Text up to `end`, which is taken too. Never, once `forbidden` stands before it.
  Step take_until(std::string_view end, std::string_view forbidden, std::string_view& text);
  /// A name up to `end`: at least one character, no blanks.
  Step take_name(std::string_view end, std::string_view& name);
  /// Reads `json` on; `part`: what has become certain of it.
  Step take_json(JsonReader& json, std::string_view& part);

  [[nodiscard]] std::string_view rest() const { return text_.substr(at_); }
  /// Text between an earlier place and this one.
  [[nodiscard]] std::string_view since(size_t at) const { return text_.substr(at, at_ - at); }
  [[nodiscard]] size_t at() const { return at_; }
  void move(size_t bytes);

 private:
  std::string_view text_;
  size_t at_ = 0;
  size_t searched_ = 0;  ///< of take_until and take_name: nothing of interest begins before it
};

}  // namespace hadal
