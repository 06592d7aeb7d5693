// PageSwap: units of the prefix cache between a device's planes and a file of pages.
//
// A unit that memory gives up is written, one that a prompt needs is read back into blocks; at the
// end all that is cached is written, so that the next process goes on from it. What goes wrong with
// the file costs nothing but the reuse: a full disk ends the writing, a broken page is computed
// again; each is said once. When another device has taken the part of one that was lost, the file
// is left alone from then on: its pages are of the device that is gone.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/model_runner.h"
#include "engine/page_file.h"
#include "engine/page_store.h"

namespace hadal {

struct SwapOptions {
  std::filesystem::path file;  ///< "": no swapping
  uint64_t max_bytes = uint64_t{8} << 30;
  /// Told what goes wrong, in a sentence for people.
  std::function<void(std::string_view line)> log = {};
};

class PageSwap final : public PageStore {
 public:
  /// The runner must be loaded and outlive the swap. Errors: of PageFile::open.
  static Result<std::unique_ptr<PageSwap>> open(ModelRunner& runner, const SwapOptions& options);

  [[nodiscard]] uint64_t groups(const Digest& key) const override {
    return is_of_runner() ? file_->parts(key) : 0;
  }
  void save(const Digest& key, const UnitBlocks& blocks) override;
  [[nodiscard]] bool load(const Digest& key, const UnitBlocks& blocks) override;
  [[nodiscard]] const PageFile& file() const { return *file_; }

 private:
  explicit PageSwap(ModelRunner& runner) : runner_(runner) {}
  void say_once(bool& said, const std::string& line) const;
  [[nodiscard]] bool is_of_runner() const { return runner_.identity() == identity_; }

  ModelRunner& runner_;
  Digest identity_{};  ///< of the runner that the file's pages are of
  std::unique_ptr<PageFile> file_;
  std::function<void(std::string_view)> log_;
  std::vector<std::byte> page_;
  bool said_unsaved_ = false, said_broken_ = false, said_foreign_ = false;
};

}  // namespace hadal
