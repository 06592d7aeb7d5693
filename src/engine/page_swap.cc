#include "engine/page_swap.h"

namespace hadal {

Result<std::unique_ptr<PageSwap>> PageSwap::open(ModelRunner& runner, const SwapOptions& options) {
  std::unique_ptr<PageSwap> swap(new PageSwap(runner));
  swap->log_ = options.log;
  const size_t groups = runner.spec().groups.size();
  HADAL_CHECK(groups < 64);
  swap->identity_ = runner.identity();
  const uint64_t largest = runner.unit_bytes((uint64_t{1} << groups) - 1);
  HADAL_TRY(swap->file_, PageFile::open({.path = options.file,
                                         .max_bytes = options.max_bytes,
                                         .page_bytes = largest,
                                         .identity = swap->identity_}));
  if (swap->file_->was_foreign() && swap->log_)
    swap->log_(options.file.string() +
               ": held pages of another model, version or setting; it is begun anew");
  return swap;
}

void PageSwap::say_once(bool& said, const std::string& line) const {
  if (log_ && !std::exchange(said, true)) log_(line);
}

void PageSwap::save(const Digest& key, const UnitBlocks& blocks) {
  if (!is_of_runner())
    return say_once(said_foreign_,
                    "the cache on disk is of the device that is gone: it is left as it is");
  uint64_t mask = 0;
  for (size_t g = 0; g < blocks.size(); ++g)
    if (!blocks[g].empty()) mask |= uint64_t{1} << g;
  // What the file has of it is the same bits: the rule of bits.
  if (file_->off() || mask == 0 || (file_->parts(key) & mask) == mask) return;
  page_.resize(runner_.unit_bytes(mask));
  Status saved = runner_.read_unit(blocks, mask, page_);
  if (saved) saved = file_->write(key, mask, page_);
  if (!saved) say_once(said_unsaved_, saved.error().message);
}

bool PageSwap::load(const Digest& key, const UnitBlocks& blocks) {
  const uint64_t mask = file_->parts(key);
  page_.resize(runner_.unit_bytes(mask));
  if (!file_->read(key, page_)) {
    say_once(said_broken_, "a page of the cache on disk was broken; it is computed again");
    return false;
  }
  const Status loaded = runner_.write_unit(blocks, mask, page_);
  if (!loaded) say_once(said_broken_, loaded.error().message);
  return loaded.has_value();
}

}  // namespace hadal
