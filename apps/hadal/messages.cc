#include "messages.h"

#include <fmt/args.h>
#include <fmt/format.h>

#include <array>

namespace hadal::app {
namespace {

struct Row {
  std::string_view english, chinese;
};

constexpr Row kRows[] = {
#define HADAL_MESSAGE(name, english, chinese) {english, chinese},
#include "messages.inc"
#undef HADAL_MESSAGE
};
static_assert(std::size(kRows) == static_cast<size_t>(Message::kCount));

/// Code points that terminals show in two columns, of the blocks that Chinese texts use.
bool is_wide(char32_t code) {
  return (code >= 0x2e80 && code <= 0x303e) || (code >= 0x3041 && code <= 0x33ff) ||
         (code >= 0x3400 && code <= 0x4dbf) || (code >= 0x4e00 && code <= 0x9fff) ||
         (code >= 0xf900 && code <= 0xfaff) || (code >= 0xff00 && code <= 0xff60);
}

}  // namespace

Language choose_language(const std::string& asked,
                         const std::function<const char*(const char* name)>& environment) {
  std::string_view chosen = asked;
  for (const char* name : {"LC_ALL", "LC_MESSAGES", "LANG"})
    if (const char* value = environment(name); chosen.empty() && value) chosen = value;
  return chosen.starts_with("zh") ? Language::kChinese : Language::kEnglish;
}

std::string_view message_text(Message message, Language language) {
  const Row& row = kRows[static_cast<size_t>(message)];
  return language == Language::kChinese ? row.chinese : row.english;
}

std::string say(Message message, Language language, const std::vector<std::string>& arguments) {
  fmt::dynamic_format_arg_store<fmt::format_context> store;
  for (const std::string& argument : arguments) store.push_back(argument);
  const std::string_view text = message_text(message, language);
  return fmt::vformat(fmt::string_view(text.data(), text.size()), store);
}

size_t columns_of(std::string_view text) {
  size_t columns = 0;
  for (size_t at = 0; at < text.size();) {
    const auto first = static_cast<unsigned char>(text[at]);
    const size_t bytes = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    char32_t code = bytes == 1 ? first : first & (0x7fU >> bytes);
    for (size_t i = 1; i < bytes && at + i < text.size(); ++i)
      code = code << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3fU);
    columns += is_wide(code) ? 2 : 1;
    at += bytes;
  }
  return columns;
}

std::string padded(std::string text, size_t columns) {
  const size_t taken = columns_of(text);
  return taken < columns ? text + std::string(columns - taken, ' ') : text;
}

}  // namespace hadal::app
