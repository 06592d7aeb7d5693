// What a model with Engram tables needs of the tokenizer: its vocabulary with tokens that normalise
// to the same text under one id. Models know no text, so who opens one supplies it.
#pragma once

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "models/model.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {

CompressedVocabulary compressed_vocabulary(const Tokenizer& tokenizer);
/// Errors: a checkpoint without a tokenizer, or with a broken one.
Result<CompressedVocabulary> compressed_vocabulary(const Checkpoint& checkpoint);

}  // namespace hadal
