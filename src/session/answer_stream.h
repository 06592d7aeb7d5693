// AnswerStream: the tokens of one answer in, deltas out: endings left out, characters whole, stop
// strings found, reasoning and tool calls taken apart.
//
// Knows no engine: whoever drives one hands its events in, one stream a request.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "text/output/output.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {

/// Holds back text that may turn into one of the stop strings, and ends at the first that is
/// complete. Hidden text (special tokens) counts for the search and is not given out.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops);
  /// The shown text that is certain now.
  std::string push(const std::string& text, bool shown = true);
  /// What was held back; the stream is over.
  std::string finish();
  [[nodiscard]] bool hit() const { return !found_.empty(); }
  /// The one that was found, "" if none was.
  [[nodiscard]] const std::string& found() const { return found_; }

 private:
  std::string take(size_t bytes);
  std::vector<std::string> stops_;
  std::string held_;
  std::vector<bool> shown_;  // a byte of held_
  std::string found_;
};

struct AnswerStreamOptions {
  std::vector<std::string> stop;
  std::vector<TokenId> ending;  ///< ids that are not part of the text
  bool show_special = false;  ///< text keeps special tokens, which a parser needs, but not endings
};

class AnswerStream {
 public:
  /// Without a parser all text is content. The tokenizer must outlive the stream.
  AnswerStream(const Tokenizer& tokenizer, std::unique_ptr<OutputParser> parser,
               AnswerStreamOptions options);

  /// What the token makes certain.
  OutputDelta push(TokenId token);
  /// What was held back; the answer is over.
  OutputDelta finish();
  /// A stop string is complete: nothing that follows belongs to the answer.
  [[nodiscard]] bool stopped() const { return stops_.hit(); }
  [[nodiscard]] const std::string& stop() const { return stops_.found(); }
  /// What comes next belongs to a thought, as far as is known.
  [[nodiscard]] bool in_thought() const { return parser_ && parser_->in_thought(); }

 private:
  OutputDelta parse(const std::string& text);

  const Tokenizer& tokenizer_;
  std::unique_ptr<OutputParser> parser_;
  AnswerStreamOptions options_;
  StreamDecoder decoder_;
  StopStrings stops_;
};

}  // namespace hadal
