// The words of `hadal chips` and `hadal doctor` in the languages that they speak. messages.inc
// holds each message in all of them, side by side. What a program reads (JSON) and what other parts
// of the program say (reasons of a chip, errors of a file) is English always.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal::app {

enum class Language : uint8_t { kEnglish, kChinese };

enum class Message : uint8_t {
#define HADAL_MESSAGE(name, english, chinese) name,
#include "messages.inc"
#undef HADAL_MESSAGE
  kCount
};

/// The language of the user's messages: that of `asked` ("en", "zh", or "" for none), else of the
/// first of LC_ALL, LC_MESSAGES and LANG that is set. English unless that begins with zh.
Language choose_language(const std::string& asked,
                         const std::function<const char*(const char* name)>& environment);

/// The message with its places ({0}, {1}, …) as they stand.
std::string_view message_text(Message message, Language language);

/// The message with its places filled.
std::string say(Message message, Language language, const std::vector<std::string>& arguments = {});

/// Columns that a text takes on a terminal: two for each wide character, as those of Chinese are.
size_t columns_of(std::string_view text);

/// `text` with blanks behind it up to `columns`.
std::string padded(std::string text, size_t columns);

}  // namespace hadal::app
