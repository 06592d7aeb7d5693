// Of the level `queues`: the optional table comm, over three devices of the chip in a thread each.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <thread>

#include "levels/queue_bench.h"

namespace hadal::conformance::queues {
namespace {

constexpr int32_t kRanks = 3;
constexpr size_t kNumbers = 4096;
using Numbers = std::vector<float>;

/// Of rank r; added in another order than 0, 1, 2 they give other sums.
Numbers numbers_of(int32_t rank, size_t count = kNumbers) {
  constexpr float kLarge = 1e8f;
  Numbers numbers(count);
  for (size_t i = 0; i < count; ++i) {
    const auto small = static_cast<float>(i % 31);
    numbers[i] = rank == 0 ? kLarge + small : rank == 1 ? -kLarge : small + 0.25f;
  }
  return numbers;
}

/// Numbers [first, first + count) of what all bring, `of` each.
Numbers sums(size_t first, size_t count, size_t of) {
  Numbers sums(count);
  std::array<Numbers, kRanks> parts;
  for (int32_t rank = 0; rank < kRanks; ++rank)
    parts[static_cast<size_t>(rank)] = numbers_of(rank, of);
  for (size_t i = 0; i < count; ++i) {
    sums[i] = parts[0][first + i];
    for (size_t rank = 1; rank < kRanks; ++rank) sums[i] += parts[rank][first + i];
  }
  return sums;
}

/// What one rank found; each in a thread of its own.
struct Found {
  std::string why;  ///< a call failed
  std::vector<std::string> wrong;
  hadal_status alone = HADAL_OK;  ///< of a sum that rank 0 does not join
};

class Rank {
 public:
  Rank(const Device& device, int32_t rank, Found& found)
      : bench_(device), table_(*device.chip->comm), rank_(rank), found_(found) {}

  bool join(const hadal_comm_id& id) {
    return good(table_.init(bench_.device_.device, &id, rank_, kRanks, &comm_, &bench_.error_));
  }
  void exchange() {
    hadal_queue* queue = bench_.device_.queue;
    hadal_memory* x = bench_.hold(numbers_of(rank_));
    good(table_.all_reduce(comm_, queue, x, 0, kNumbers, &bench_.error_));
    expect("all_reduce", x, sums(0, kNumbers, kNumbers));

    constexpr size_t kPart = kNumbers / 4, kAll = kPart * kRanks;
    hadal_memory* from = bench_.hold(numbers_of(rank_, kAll));
    hadal_memory* to = bench_.make(kAll * sizeof(float));
    Numbers gathered, exchanged;
    for (int32_t r = 0; r < kRanks; ++r) {
      const Numbers part = numbers_of(r, kAll);
      gathered.insert(gathered.end(), part.begin(), part.begin() + kPart);
      const auto own = part.begin() + static_cast<int64_t>(kPart) * rank_;
      exchanged.insert(exchanged.end(), own, own + kPart);
    }
    good(table_.all_gather(comm_, queue, to, 0, from, 0, kPart, &bench_.error_));
    expect("all_gather", to, gathered);
    good(table_.reduce_scatter(comm_, queue, to, 0, from, 0, kPart, &bench_.error_));
    expect("reduce_scatter", to, sums(kPart * static_cast<size_t>(rank_), kPart, kAll));
    good(table_.all_to_all(comm_, queue, to, 0, from, 0, kPart, &bench_.error_));
    expect("all_to_all", to, exchanged);
    if (rank_ == 2) return;
    const Numbers sent = numbers_of(0, kAll);
    if (rank_ == 0) good(table_.send(comm_, queue, 1, from, 0, kAll * 4, &bench_.error_));
    if (rank_ == 1) good(table_.recv(comm_, queue, 0, to, 0, kAll * 4, &bench_.error_));
    if (rank_ == 1) expect("recv", to, sent);
    bench_.sync();
  }
  /// all_reduce as an operator of a tape.
  void reduce_in_a_tape() {
    Call call;
    call.tensors = {tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, kWidth}, 0)};
    call.add(HADAL_OP_ALL_REDUCE, {{HADAL_ALL_REDUCE_X, 0}});
    call.finish(kBytes, 64, 64);
    const Support support =
        ask_support(bench_.device_, call.ops[0], call.tensors, call.tape.limits);
    if (!good(support.status)) return;
    constexpr size_t kUsed = kStepRows * kWidth;
    call.step.scratch = bench_.hold(numbers_of(rank_, kCount));
    call.step.inputs = bench_.make(64);
    call.step.outputs = bench_.make(64);
    if (support.workspace_bytes != 0) call.step.workspace = bench_.make(support.workspace_bytes);
    good(call.run(bench_));
    expect("the operator all_reduce", call.step.scratch, sums(0, kUsed, kCount));
  }
  /// Rank 0 leaves; the others wait for it, and must not do so for ever.
  void leave() {
    if (rank_ == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      table_.destroy(comm_);
      return;
    }
    hadal_memory* x = bench_.hold(numbers_of(rank_));
    hadal_error error = fresh_error();
    found_.alone = table_.all_reduce(comm_, bench_.device_.queue, x, 0, kNumbers, &error);
    if (found_.alone == HADAL_OK)
      found_.alone = bench_.chip_.queue_sync(bench_.device_.queue, &error);
    table_.destroy(comm_);
  }
  void finish() {
    if (!bench_.why().empty()) found_.why = bench_.why();
  }

 private:
  bool good(hadal_status status) { return bench_.good(status); }
  void expect(const char* what, hadal_memory* memory, const Numbers& expected) {
    if (bench_.read(memory, expected.size()) != expected) found_.wrong.emplace_back(what);
  }

  Bench bench_;
  const hadal_comm_table& table_;
  int32_t rank_;
  Found& found_;
  hadal_comm* comm_ = nullptr;
};

}  // namespace

void check_comm(Chip& chip, Report& report) {
  const hadal_comm_table* table = chip.is_1_1() ? chip.table.comm : nullptr;
  if (!table) return;
  if (!report.check(kName,
                    table->create_id && table->init && table->destroy && table->all_reduce &&
                        table->all_gather && table->reduce_scatter && table->all_to_all &&
                        table->send && table->recv,
                    "the table comm has holes"))
    return;
  hadal_comm_id id{};
  hadal_error error = fresh_error();
  if (!report.check(kName, table->create_id(chip.device(1).device, &id, &error) == HADAL_OK,
                    fmt::format("comm: no id is made: {}", error.text)))
    return;
  std::array<Found, kRanks> found;
  std::vector<std::thread> ranks;
  for (int32_t r = 0; r < kRanks; ++r)
    ranks.emplace_back([&, r] {
      Rank rank(chip.device(r + 1), r, found[static_cast<size_t>(r)]);
      if (rank.join(id)) {
        rank.exchange();
        rank.reduce_in_a_tape();
        rank.finish();
        rank.leave();
      } else {
        rank.finish();
      }
    });
  for (std::thread& rank : ranks) rank.join();
  for (int32_t r = 0; r < kRanks; ++r) {
    const Found& f = found[static_cast<size_t>(r)];
    report.check(kName, f.why.empty(), fmt::format("comm: rank {} of {}: {}", r, kRanks, f.why));
    for (const std::string& what : f.wrong)
      report.check(
          kName, false,
          fmt::format("comm: {} on rank {} of {} gives other numbers; sums are made in the "
                      "ascending order of the ranks",
                      what, r, kRanks));
    report.check(kName, r == 0 || !f.why.empty() || f.alone != HADAL_OK,
                 fmt::format("comm: rank 0 has left, and a sum of rank {} succeeds", r));
  }
}

}  // namespace hadal::conformance::queues
