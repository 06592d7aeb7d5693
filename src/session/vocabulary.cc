#include "session/vocabulary.h"

#include "text/tokenizer/compressed_ids.h"

namespace hadal {

CompressedVocabulary compressed_vocabulary(const Tokenizer& tokenizer) {
  CompressedIds ids = compressed_ids(tokenizer);
  return {.id_of_token = std::move(ids.by_id), .count = ids.count};
}

Result<CompressedVocabulary> compressed_vocabulary(const Checkpoint& checkpoint) {
  const std::string origin = checkpoint.path().string();
  if (checkpoint.tokenizer().empty())
    return failed(origin +
                  ": no tokenizer, and the model's Engram tables are addressed by its vocabulary");
  HADAL_TRY(const auto tokenizer, Tokenizer::create(checkpoint.tokenizer(), origin));
  return compressed_vocabulary(*tokenizer);
}

}  // namespace hadal
