// What all of DeepSeek's formats from V2.5 to V4.1 write: their marks and hoisted system messages.
#pragma once

#include "text/chat/format.h"

namespace hadal::chat {

inline constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kThink = "<think>";
inline constexpr std::string_view kEndThink = "</think>";

/// All system messages, a blank line between two; `skips_empty`: those without text do not count.
std::string joined_systems(const std::vector<ChatMessage>& messages, bool skips_empty = false);

}  // namespace hadal::chat
