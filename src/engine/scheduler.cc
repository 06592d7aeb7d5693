#include "engine/scheduler.h"

#include <algorithm>

namespace hadal {
namespace {

/// Rows left of the chunk of the prompt that the request asked for; the whole rest where it asked
/// for none.
int64_t chunk_rows(Sequence& seq) {
  const std::vector<int64_t>& chunks = seq.request.chunks;
  if (chunks.empty()) return seq.size() - seq.computed;
  if (seq.chunk_left == 0) {
    const auto index = std::min<size_t>(static_cast<size_t>(seq.chunk_index++), chunks.size() - 1);
    seq.chunk_left = chunks[index];
  }
  return std::min(seq.chunk_left, seq.size() - seq.computed);
}

}  // namespace

std::vector<ScheduledRows> schedule(std::span<const std::unique_ptr<Sequence>> sequences,
                                    const StepLimits& limits) {
  std::vector<ScheduledRows> step;
  int64_t tokens = limits.tokens, logits = limits.logit_rows;
  for (const bool prefilling : {false, true}) {
    for (const auto& seq : sequences) {
      if (seq->waiting || seq->prefilling() != prefilling ||
          static_cast<int64_t>(step.size()) == limits.sequences || tokens == 0)
        continue;
      int64_t rows = std::min(prefilling ? chunk_rows(*seq) : seq->size() - seq->computed, tokens);
      const bool every = seq->request.on_logits || seq->request.on_draft_logits;
      const bool last = seq->computed + rows == seq->size();
      const int64_t before = std::max<int64_t>(0, seq->logits_from() - seq->computed);
      if (every) rows = std::min(rows, before + logits);
      const int64_t wanted = every ? std::max<int64_t>(0, rows - before)
                                   : (last && seq->request.max_new_tokens > 0 ? 1 : 0);
      if (wanted > logits || rows == 0) continue;
      step.push_back({seq.get(), seq->computed, rows, wanted});
      tokens -= rows;
      logits -= wanted;
    }
  }
  return step;
}

}  // namespace hadal
