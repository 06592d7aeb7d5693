#include "device/thread_group.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace hadal {

Status ThreadGroup::wait(std::unique_lock<std::mutex>& lock, bool whatever_happens) {
  const auto gives_up = [&] { return over_ && !whatever_happens; };
  if (gives_up()) return failed(*over_);
  const uint64_t round = round_;
  if (++arrived_ == offers_.size()) {
    arrived_ = 0;
    ++round_;
    changed_.notify_all();
    return {};
  }
  changed_.wait(lock, [&] { return round_ != round || gives_up(); });
  // A round that was complete counts, whatever happened behind it.
  if (round_ != round) return {};
  return failed(*over_);
}

std::string ThreadGroup::misfit() const {
  static constexpr const char* kNames[] = {"nothing", "all_reduce", "broadcast", "barrier",
                                           "leave"};
  const auto text = [&](size_t rank) {
    const Offer& o = offers_[rank];
    return "rank " + std::to_string(rank) + " calls " + kNames[static_cast<size_t>(o.call)] +
           " of " + std::to_string(o.bytes) + " bytes";
  };
  for (size_t r = 1; r < offers_.size(); ++r)
    if (offers_[r].call != offers_[0].call || offers_[r].bytes != offers_[0].bytes)
      return text(0) + ", " + text(r);
  return {};
}

Status ThreadGroup::meet(int64_t rank, const Offer& offer) {
  std::unique_lock lock(mutex_);
  offers_[static_cast<size_t>(rank)] = offer;
  HADAL_TRY(wait(lock, false));
  // All find the same: an offer changes only when its rank has parted from the others.
  if (const std::string why = misfit(); !why.empty()) {
    if (!over_) over_ = why;
    changed_.notify_all();
    return failed(why);
  }
  return {};
}

Status ThreadGroup::part() {
  // Who has met the others is on its way here: until then its memory is read.
  std::unique_lock lock(mutex_);
  return wait(lock, true);
}

void ThreadGroup::end(int64_t rank, std::string_view why) {
  const std::scoped_lock lock(mutex_);
  if (!over_) over_ = "rank " + std::to_string(rank) + " ended the run: " + std::string(why);
  changed_.notify_all();
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int64_t rank, int64_t ranks)
      : group_(std::move(group)), rank_(rank), ranks_(ranks) {}
  ~ThreadCommunicator() override {
    if (!left_) group_->end(rank_, "it is gone");
  }

  [[nodiscard]] int64_t rank() const override { return rank_; }
  [[nodiscard]] int64_t ranks() const override { return ranks_; }

  Status all_reduce(std::span<float> values) override {
    const auto bytes = std::as_writable_bytes(values);
    HADAL_TRY(group_->meet(rank_, {ThreadGroup::Call::kAllReduce, bytes.data(), bytes.size()}));
    // No rank but this one reads or writes this share.
    const auto n = static_cast<int64_t>(values.size());
    const int64_t end = n * (rank_ + 1) / ranks_;
    for (int64_t i = n * rank_ / ranks_; i < end; i += kRun) add(i, std::min(kRun, end - i));
    return group_->part();
  }

  Status broadcast(std::span<std::byte> bytes) override {
    HADAL_TRY(group_->meet(rank_, {ThreadGroup::Call::kBroadcast, bytes.data(), bytes.size()}));
    if (rank_ != 0 && !bytes.empty())
      std::memcpy(bytes.data(), group_->offers_[0].data, bytes.size());
    return group_->part();
  }

  Status barrier() override {
    HADAL_TRY(group_->meet(rank_, {ThreadGroup::Call::kBarrier, nullptr, 0}));
    return group_->part();
  }

  void abort(std::string_view why) override { group_->end(rank_, why); }

  Status leave() override {
    left_ = true;
    return group_->meet(rank_, {ThreadGroup::Call::kLeave, nullptr, 0});
  }

 private:
  static constexpr int64_t kRun = 1024;  ///< numbers that are summed at a time

  [[nodiscard]] float* numbers(int64_t rank) const {
    return reinterpret_cast<float*>(group_->offers_[static_cast<size_t>(rank)].data);
  }
  /// Numbers [first, first + count) of all ranks become their sum.
  void add(int64_t first, int64_t count) const {
    float sum[kRun];
    std::copy_n(numbers(0) + first, count, sum);
    for (int64_t r = 1; r < ranks_; ++r) {
      const float* from = numbers(r) + first;
      for (int64_t i = 0; i < count; ++i) sum[i] += from[i];
    }
    for (int64_t r = 0; r < ranks_; ++r) std::copy_n(sum, count, numbers(r) + first);
  }

  std::shared_ptr<ThreadGroup> group_;
  int64_t rank_, ranks_;
  bool left_ = false;
};

std::vector<std::unique_ptr<Communicator>> ThreadGroup::make(int64_t ranks) {
  HADAL_CHECK(ranks >= 1);
  const std::shared_ptr<ThreadGroup> group(new ThreadGroup(ranks));
  std::vector<std::unique_ptr<Communicator>> all;
  for (int64_t r = 0; r < ranks; ++r)
    all.push_back(std::make_unique<ThreadCommunicator>(group, r, ranks));
  return all;
}

}  // namespace hadal
