#include "api/border.h"

#include <algorithm>

#include "text/tokenizer/utf8.h"

namespace hadal::api {

hadal_code report(hadal_failure* failure, hadal_code code, std::string_view text) noexcept {
  constexpr size_t kBefore = offsetof(hadal_failure, text);
  if (!failure || failure->size <= kBefore) return code;
  failure->code = code;
  text = fitting(text, std::min<size_t>(failure->size, sizeof *failure) - kBefore - 1);
  std::copy(text.begin(), text.end(), failure->text);
  failure->text[text.size()] = '\0';
  return code;
}

Status check_size(const void* given, uint32_t size, size_t least, size_t known, const char* name) {
  constexpr size_t kMost = 65536;  // what is larger is no size
  if (size < least || size > known + kMost)
    return usage_error(std::string(name) + ".size is " + std::to_string(size) + ", at least " +
                       std::to_string(least) + " is expected: write sizeof into it");
  const auto* bytes = static_cast<const unsigned char*>(given);
  if (size > known &&
      std::any_of(bytes + known, bytes + size, [](unsigned char b) { return b != 0; }))
    return usage_error(std::string(name) + " uses fields behind its first " +
                       std::to_string(known) +
                       " bytes, which this library does not know: a newer one is needed");
  return {};
}

std::string_view fitting(std::string_view text, size_t room) {
  if (text.size() <= room) return text;
  while (room > 0 && (text[room] & 0xc0) == 0x80) --room;
  return text.substr(0, room);
}

Result<std::string> read_text(const char* text, const char* name) {
  if (!text) return std::string();
  std::string copy(text);
  if (!utf8_valid(copy)) return usage_error(std::string(name) + " is not UTF-8");
  return copy;
}

Result<std::vector<std::string>> read_texts(const char* const* texts, size_t count,
                                            const Limit& most, const Limit& bytes,
                                            const char* name) {
  std::vector<std::string> list;
  if (count > 0 && !texts) return usage_error(std::string(name) + " is NULL, and has a count");
  HADAL_TRY(check_limit(most, static_cast<int64_t>(std::min<size_t>(count, INT64_MAX)), name));
  for (size_t i = 0; i < count; ++i) {
    const std::string entry = std::string(name) + "[" + std::to_string(i) + "]";
    if (!texts[i]) return usage_error(entry + " is NULL");
    HADAL_TRY(std::string text, read_text(texts[i], entry.c_str()));
    HADAL_TRY(check_limit(bytes, static_cast<int64_t>(text.size()), entry));
    list.push_back(std::move(text));
  }
  return list;
}

Status check_enum(uint32_t value, uint32_t most, const char* name) {
  if (value <= most) return {};
  return usage_error(std::string(name) + " is " + std::to_string(value) + ", 0 to " +
                     std::to_string(most) + " is expected");
}

}  // namespace hadal::api
