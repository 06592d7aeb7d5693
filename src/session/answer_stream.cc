#include "session/answer_stream.h"

#include <algorithm>

namespace hadal {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
}

/// The shown part of the first bytes, which leave the hold.
std::string StopStrings::take(size_t bytes) {
  std::string out;
  for (size_t i = 0; i < bytes; ++i)
    if (shown_[i]) out += held_[i];
  held_.erase(0, bytes);
  shown_.erase(shown_.begin(), shown_.begin() + static_cast<ptrdiff_t>(bytes));
  return out;
}

std::string StopStrings::push(const std::string& text, bool shown) {
  if (hit()) return "";
  if (stops_.empty()) return shown ? text : "";
  held_ += text;
  shown_.resize(held_.size(), shown);
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at >= end) continue;
    end = at;
    found_ = stop;
  }
  if (end != std::string::npos) {
    std::string out = take(end);
    held_.clear();
    return out;
  }
  // Keep the longest tail that is the beginning of a stop string.
  size_t keep = 0;
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
  return take(held_.size() - keep);
}

std::string StopStrings::finish() { return hit() ? "" : take(held_.size()); }

AnswerStream::AnswerStream(const Tokenizer& tokenizer, std::unique_ptr<OutputParser> parser,
                           AnswerStreamOptions options)
    : tokenizer_(tokenizer),
      parser_(std::move(parser)),
      options_(std::move(options)),
      decoder_(tokenizer, false),
      stops_(options_.stop) {}

OutputDelta AnswerStream::parse(const std::string& text) {
  return parser_ ? parser_->push(text) : OutputDelta{.content = text};
}

OutputDelta AnswerStream::push(TokenId token) {
  if (stops_.hit()) return {};
  const bool ends =
      std::find(options_.ending.begin(), options_.ending.end(), token) != options_.ending.end();
  const bool hidden = ends || (!options_.show_special && tokenizer_.is_special(token));
  // A special token ends whatever character was under way.
  if (hidden) {
    const std::string before = stops_.push(decoder_.finish());
    return parse(before + stops_.push(tokenizer_.token_bytes(token), false));
  }
  return parse(stops_.push(decoder_.push(token)));
}

OutputDelta AnswerStream::finish() {
  std::string text;
  if (!stops_.hit()) text = stops_.push(decoder_.finish());
  text += stops_.finish();
  OutputDelta delta = parse(text);
  if (!parser_) return delta;
  delta.append(parser_->finish());
  return delta;
}

}  // namespace hadal
