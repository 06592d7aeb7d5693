// The names that tokenizer.ggml.pre of a GGUF may have: each stands for patterns in load_gguf.cc.
#pragma once

#include <string_view>
#include <vector>

namespace hadal {

std::vector<std::string_view> gguf_pre_tokenizers();

}  // namespace hadal
