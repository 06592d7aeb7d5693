// The parsers that output.cc puts together, and what they share. Internal to text/output.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/output/output.h"

namespace hadal {

/// Thoughts apart from the rest, which goes through `content`. See think.cc.
std::unique_ptr<OutputParser> make_think_parser(bool in_thought,
                                                std::unique_ptr<OutputParser> content);
/// Tool calls of DeepSeek-V2.5 to R1-0528 apart from the content. See deepseek_tools.cc.
std::unique_ptr<OutputParser> make_deepseek_tools_parser();

/// Bytes at the end of `text` that may become `marker` with what follows: they must be held back.
size_t held_back(std::string_view text, std::string_view marker);
/// Adds `more` to `delta`.
void append(OutputDelta& delta, OutputDelta more);

}  // namespace hadal
