#include "text/output/cursor.h"

#include <algorithm>

#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

}  // namespace

size_t held_back(std::string_view text, std::string_view marker) {
  if (marker.empty()) return 0;
  for (size_t n = std::min(text.size(), marker.size() - 1); n > 0; --n)
    if (marker.starts_with(text.substr(text.size() - n))) return n;
  return 0;
}

size_t whole_characters(std::string_view text) {
  for (size_t n = 1; n <= std::min<size_t>(text.size(), 3); ++n) {
    const size_t lead = text.size() - n;
    if ((static_cast<unsigned char>(text[lead]) & 0xC0) == 0x80) continue;
    return utf8_step(text.substr(lead)).kind == Utf8Step::kIncomplete ? lead : text.size();
  }
  return text.size();
}

void Cursor::move(size_t bytes) {
  at_ += bytes;
  searched_ = at_;
}

std::string_view Cursor::skip_blanks() {
  const size_t from = at_;
  move(std::min(rest().find_first_not_of(kBlanks), rest().size()));
  return since(from);
}

Step Cursor::look(std::string_view marker) const {
  if (rest().starts_with(marker)) return Step::kDone;
  return marker.starts_with(rest()) ? Step::kShort : Step::kNever;
}

Step Cursor::take(std::string_view marker) {
  const Step step = look(marker);
  if (step == Step::kDone) move(marker.size());
  return step;
}

Step Cursor::take_until(std::string_view end, std::string_view forbidden, std::string_view& text) {
  const size_t at = text_.find(end, searched_);
  if (text_.substr(0, at).find(forbidden, searched_) != std::string_view::npos) return Step::kNever;
  if (at == std::string_view::npos) {
    searched_ = text_.size() - std::max(held_back(rest(), end), held_back(rest(), forbidden));
    return Step::kShort;
  }
  text = text_.substr(at_, at - at_);
  move(text.size() + end.size());
  return Step::kDone;
}

Step Cursor::take_name(std::string_view end, std::string_view& name) {
  const size_t at = text_.find(end, searched_);
  const bool there = at != std::string_view::npos;
  // What may be the beginning of `end` is no part of the name yet.
  const size_t sure = there ? at : text_.size() - held_back(rest(), end);
  const size_t blank = text_.substr(0, sure).find_first_of(kBlanks, searched_);
  if (blank != std::string_view::npos || (there && at == at_)) return Step::kNever;
  searched_ = sure;
  if (!there) return Step::kShort;
  name = text_.substr(at_, at - at_);
  move(name.size() + end.size());
  return Step::kDone;
}

Step Cursor::take_json(JsonReader& json, std::string_view& part) {
  const size_t from = at_;
  const Step step = json.read(text_, at_);
  searched_ = at_;
  part = since(from);
  return step;
}

}  // namespace hadal
