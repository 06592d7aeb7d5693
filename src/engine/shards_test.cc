// Tiny models of every family, divided over ranks: each rank is a thread with a device of its own
// and a communicator; a tape is run up to each all_reduce, whose numbers the host sums.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "device/thread_group.h"
#include "engine/ranks.h"
#include "engine/step_inputs.h"
#include "engine/testing.h"
#include "models/model.h"
#include "ops/sink.h"
#include "weights/loader.h"

namespace hadal {
namespace {

constexpr int64_t kPrompt = 45, kNew = 6, kPositions = 64;

/// How a model is run.
struct How {
  std::string chip;
  WeightMode weights = WeightMode::kF32;
  DType cache = HADAL_F32;
};

/// A rank's part of a model with one sequence of at most kPositions tokens.
class Part {
 public:
  static Result<std::unique_ptr<Part>> open(const Checkpoint& checkpoint, const Shard& shard,
                                            const How& how) {
    std::unique_ptr<Part> p(new Part);
    HADAL_TRY(p->model_, make_model(checkpoint.config(), {.shard = shard}));
    HADAL_TRY(p->model_->bind(checkpoint));
    if (p->model_->needs_compressed_vocabulary()) {
      HADAL_TRY(const CompressedVocabulary words, testing::any_vocabulary(checkpoint.config()));
      HADAL_TRY(p->model_->take_vocabulary(words));
    }
    HADAL_TRY(p->device_, Device::open({.chip = how.chip, .threads = 1}));
    HADAL_TRY(WeightLoader loader,
              WeightLoader::plan(*p->device_, p->model_->weights(), how.weights));
    p->loader_ = std::make_unique<WeightLoader>(std::move(loader));
    HADAL_TRY(p->loader_->load(checkpoint.files()));
    HADAL_TRY(p->allocate(how));
    return p;
  }

  [[nodiscard]] uint64_t weight_bytes() const { return loader_->bytes(); }
  [[nodiscard]] const Tape& tape() const { return tape_; }
  [[nodiscard]] int64_t vocab() const { return layout_->limits.vocab; }

  /// Logits of the rows of tokens[begin …]; sums are made by `comm`.
  Result<std::vector<float>> run(std::span<const TokenId> tokens, int64_t begin,
                                 Communicator& comm) {
    const int64_t rows = static_cast<int64_t>(tokens.size()) - begin;
    fill(tokens, begin, rows);
    for (const auto& [offset, bytes] : inputs_->changed())
      HADAL_TRY(device_->copy_in(input_memory_, offset, bytes));
    inputs_->copied();
    hadal_step step = make_step();
    uint32_t from = 0;
    for (uint32_t at = 0; at <= tape_.head.op_count; ++at) {
      const bool sum = at < tape_.head.op_count && tape_.ops[at].id == HADAL_OP_ALL_REDUCE;
      if (!sum && at < tape_.head.op_count) continue;
      HADAL_TRY(device_->run_ops(tape_.head, from, at - from, step));
      from = at + 1;
      if (sum) HADAL_TRY(all_reduce(tape_.ops[at], comm));
    }
    std::vector<float> logits(static_cast<size_t>(rows * vocab()));
    HADAL_TRY(device_->copy_out(std::as_writable_bytes(std::span(logits)), output_memory_,
                                layout_->logits.offset));
    HADAL_TRY(device_->sync());
    return logits;
  }

 private:
  Status allocate(const How& how) {
    const ModelSpec& spec = model_->spec();
    StepLimits limits{.tokens = kPositions,
                      .sequences = 1,
                      .logit_rows = kPositions,
                      .entries = 1,
                      .vocab = spec.vocab_size,
                      .tail = spec.tail_halo > 0,
                      .extra = spec.extra_width,
                      .alignment = device_->alignment()};
    for (const PlaneGroup& group : spec.groups) {
      const int64_t tokens = group.block_slots * group.ratio;
      limits.max_blocks.push_back((kPositions + tokens - 1) / tokens);
    }
    layout_ = std::make_unique<StepLayout>(limits);
    inputs_ = std::make_unique<StepInputs>(*layout_);
    std::vector<uint64_t> block_bytes;
    for (const Plane& plane : spec.planes) {
      hadal_plane_desc desc{};
      desc.size = sizeof desc;
      desc.role = static_cast<uint32_t>(plane.role);
      desc.dtype = plane_dtype(plane.role, how.cache);
      desc.heads = static_cast<uint32_t>(plane.heads);
      desc.slots = spec.groups[plane.group].block_slots;
      desc.width = plane.width;
      HADAL_TRY(const uint64_t bytes, device_->plane_block_bytes(desc));
      block_bytes.push_back(bytes);
      for (int64_t layer = 0; layer < plane.layers; ++layer) {
        const auto blocks = static_cast<uint64_t>(limits.max_blocks[plane.group]);
        HADAL_TRY(DeviceMemory memory, device_->allocate(blocks * bytes));
        plane_handles_.push_back(memory.get());
        planes_.push_back(std::move(memory));
      }
    }
    const StepPlanes planes(spec, how.cache, limits.max_blocks, block_bytes);
    TapeSink sink(tape_);
    const uint64_t scratch = record(sink, planes);
    StepCost cost;
    CostSink costs(*device_, *layout_, limits.dims(), kPositions, cost);
    record(costs, planes);
    if (!cost.declined.empty())
      return failed(cost.declined.begin()->first + ": " + cost.declined.begin()->second);
    tape_.seal(*layout_, scratch, planes.count());
    HADAL_TRY(input_memory_, device_->allocate(layout_->input_bytes));
    HADAL_TRY(output_memory_, device_->allocate(layout_->output_bytes));
    HADAL_TRY(scratch_, device_->allocate(scratch));
    HADAL_TRY(workspace_, device_->allocate(std::max<uint64_t>(1, cost.workspace_bytes)));
    return {};
  }

  uint64_t record(Sink& sink, const StepPlanes& planes) const {
    const auto takes = [&](const hadal_op& op, std::span<const Tensor> tensors) {
      return op.id != HADAL_OP_SAMPLE &&
             device_->query(op, tensors, layout_->limits.dims().data()).supported;
    };
    Ops ops(sink, *layout_, takes, {}, model_->spec().shard.ranks);
    model_->forward(ops, planes);
    return ops.scratch_bytes();
  }

  void fill(std::span<const TokenId> tokens, int64_t begin, int64_t rows) {
    inputs_->clear();
    for (int64_t i = 0; i < rows; ++i) {
      const auto put = [&](const Tensor& part, int64_t value) {
        if (part.space != HADAL_SPACE_NONE)
          inputs_->at<int32_t>(part)[i] = static_cast<int32_t>(value);
      };
      put(layout_->token, tokens[static_cast<size_t>(begin + i)]);
      put(layout_->position, begin + i);
      put(layout_->row_seq, 0);
      put(layout_->tail_row, i);
      put(layout_->tail_position, begin + i);
      put(layout_->tail_row_seq, 0);
      put(layout_->logit_row, i);
    }
    for (size_t g = 0; g < layout_->block_table.size(); ++g) {
      inputs_->at<int32_t>(layout_->write_from[g])[0] = 0;
      inputs_->at<int32_t>(layout_->first[g])[0] = 0;
      std::vector<int32_t> blocks;
      for (int32_t b = 0; b < layout_->limits.max_blocks[g]; ++b) blocks.push_back(b);
      inputs_->set_blocks(g, 0, blocks);
    }
    if (layout_->limits.extra > 0) {
      const SequenceRows all{.tokens = tokens, .begin = begin, .rows = rows};
      model_->fill_extra(std::span(&all, 1), inputs_->at<float>(layout_->extra));
    }
    inputs_->rows = {1, rows, 1, rows, rows};
  }

  hadal_step make_step() {
    hadal_step step{};
    step.size = sizeof step;
    step.plane_count = static_cast<uint32_t>(plane_handles_.size());
    std::copy(inputs_->rows.begin(), inputs_->rows.end(), step.rows);
    step.scratch = scratch_.get();
    step.inputs = input_memory_.get();
    step.outputs = output_memory_.get();
    step.workspace = workspace_.get();
    step.planes = plane_handles_.data();
    step.host_inputs = inputs_->data();
    return step;
  }

  Status all_reduce(const hadal_op& op, Communicator& comm) {
    const Tensor& x = tape_.tensors[static_cast<size_t>(op.operands[HADAL_ALL_REDUCE_X])];
    HADAL_CHECK(x.space == HADAL_SPACE_SCRATCH);
    const int64_t rows = x.extents[0] * inputs_->rows[x.row_dim];
    std::vector<float> values(static_cast<size_t>(rows * x.extents[1]));
    const auto bytes = std::as_writable_bytes(std::span(values));
    HADAL_TRY(device_->copy_out(bytes, scratch_, x.offset));
    HADAL_TRY(device_->sync());
    HADAL_TRY(comm.all_reduce(values));
    return device_->copy_in(scratch_, x.offset, bytes);
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<StepLayout> layout_;
  std::unique_ptr<StepInputs> inputs_;
  Tape tape_;
  DeviceMemory input_memory_, output_memory_, scratch_, workspace_;
  std::vector<DeviceMemory> planes_;
  std::vector<hadal_memory*> plane_handles_;
  std::unique_ptr<WeightLoader> loader_;
};

/// What a model says.
struct Said {
  std::vector<float> logits;  ///< of every position
  std::vector<TokenId> tokens;
  uint64_t weight_bytes = 0;
};

/// The prompt in one step, then greedy tokens one by one.
Result<Said> speak(const Checkpoint& checkpoint, Communicator& comm, const How& how) {
  HADAL_TRY(const std::unique_ptr<Part> part,
            Part::open(checkpoint, {.rank = comm.rank(), .ranks = comm.ranks()}, how));
  Said said;
  said.weight_bytes = part->weight_bytes();
  std::vector<TokenId> tokens = testing::random_tokens(7, kPrompt, part->vocab());
  for (int64_t begin = 0; begin < kPrompt + kNew - 1;) {
    HADAL_TRY(const std::vector<float> logits, part->run(tokens, begin, comm));
    said.logits.insert(said.logits.end(), logits.begin(), logits.end());
    begin = static_cast<int64_t>(tokens.size());
    const auto last = logits.end() - part->vocab();
    tokens.push_back(static_cast<TokenId>(std::max_element(last, logits.end()) - last));
  }
  said.tokens.assign(tokens.begin() + kPrompt, tokens.end());
  return said;
}

/// The same on so many ranks, each a thread.
std::vector<Result<Said>> speak_together(const Checkpoint& checkpoint, int64_t ranks,
                                         const How& how) {
  auto all = ThreadGroup::make(ranks);
  std::vector<Result<Said>> said(static_cast<size_t>(ranks), failed("did not run"));
  std::vector<std::thread> threads;
  for (size_t r = 0; r < said.size(); ++r)
    threads.emplace_back([&, r] {
      said[r] = speak(checkpoint, *all[r], how);
      if (!said[r])
        all[r]->abort(said[r].error().message);
      else if (const Status left = all[r]->leave(); !left)
        said[r] = left.error();
    });
  for (std::thread& t : threads) t.join();
  return said;
}

/// How many sums the passes of a draft ask for; an error if ref does not take what they record.
Result<int64_t> sums_of_drafts(const Checkpoint& checkpoint, const Shard& shard) {
  HADAL_TRY(const std::unique_ptr<Model> model,
            make_model(checkpoint.config(), {.draft = true, .shard = shard}));
  HADAL_TRY(model->bind(checkpoint));
  HADAL_TRY(const std::unique_ptr<Device> device, Device::open({.chip = "ref"}));
  const ModelSpec& spec = model->spec();
  const StepLayout layout({.tokens = kPositions,
                           .sequences = 1,
                           .logit_rows = kPositions,
                           .entries = 1,
                           .vocab = spec.vocab_size,
                           .hidden = spec.draft.hidden,
                           .blocks = spec.draft.is_dspark(),
                           .tail = spec.tail_halo > 0,
                           .extra = spec.extra_width,
                           .max_blocks = std::vector<int64_t>(spec.groups.size(), 1)});
  const StepPlanes planes(spec, HADAL_F32, layout.limits.max_blocks,
                          std::vector<uint64_t>(spec.planes.size(), 64));
  StepCost cost;
  CostSink sink(*device, layout, layout.limits.dims(), kPositions, cost);
  Ops ops(
      sink, layout, [](const hadal_op&, std::span<const Tensor>) { return false; }, {},
      shard.ranks);
  model->draft(ops, planes);
  if (spec.draft.is_dspark()) {
    model->draft_block(ops, planes);
    model->draft_next(ops, planes);
  }
  for (const auto& [what, why] : cost.declined) return failed(what + ": " + why);
  return cost.ops["all_reduce"].count;
}

/// The Kullback-Leibler divergence of each position's distribution.
std::vector<double> divergences(std::span<const float> p, std::span<const float> q, size_t vocab) {
  const auto log_softmax = [&](std::span<const float> row) {
    const double top = static_cast<double>(*std::max_element(row.begin(), row.end()));
    double sum = 0;
    for (const float v : row) sum += std::exp(static_cast<double>(v) - top);
    std::vector<double> out;
    for (const float v : row) out.push_back(static_cast<double>(v) - top - std::log(sum));
    return out;
  };
  std::vector<double> all;
  for (size_t at = 0; at + vocab <= p.size(); at += vocab) {
    const auto a = log_softmax(p.subspan(at, vocab)), b = log_softmax(q.subspan(at, vocab));
    double kl = 0;
    for (size_t i = 0; i < vocab; ++i) kl += std::exp(a[i]) * (a[i] - b[i]);
    all.push_back(kl);
  }
  return all;
}

/// A model of tests/golden, and which numbers of ranks it is divided over.
struct Divided {
  const char* model;
  std::vector<int64_t> ranks;
};
const std::vector<Divided> kDivided = {
    {"llama", {2, 4}},        {"llama-bias", {2}},
    {"llama-llama3", {3}},    {"llama-tied-head-dim", {2, 4}},
    {"qwen2", {2}},           {"qwen2-tied-sharded", {3}},
    {"qwen3", {2, 4}},        {"deepseek-moe", {3}},
    {"deepseek-v2", {2, 4}},  {"deepseek-v2-lite", {3}},
    {"deepseek-v3", {2, 4}},  {"deepseek-v3-plain", {2}},
    {"deepseek-v32", {2, 4}}, {"deepseek-v4", {2}},
    {"deepseek-v41", {2}},
};

std::filesystem::path file_of(const std::string& model) {
  const auto folder = testing::golden(model);
  return std::filesystem::exists(folder / "model.gguf") ? folder / "model.gguf" : folder;
}

// The bound that tests/golden holds against other implementations, which sum in other orders.
constexpr double kExact = 1e-6;

void compare(const std::string& model, int64_t ranks, const How& how, double worst, double mean) {
  SCOPED_TRACE(model + " over " + std::to_string(ranks) + " ranks on " + how.chip);
  const auto checkpoint = Checkpoint::open(file_of(model));
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  const auto whole = speak_together(**checkpoint, 1, how);
  ASSERT_TRUE(whole[0]) << whole[0].error().message;
  const auto parts = speak_together(**checkpoint, ranks, how);
  const size_t vocab = whole[0]->logits.size() / (kPrompt + kNew - 1);
  for (const Result<Said>& part : parts) {
    ASSERT_TRUE(part) << part.error().message;
    // Every rank has the same bits, or they would choose other tokens.
    EXPECT_EQ(part->logits, parts[0]->logits);
    EXPECT_LT(part->weight_bytes, whole[0]->weight_bytes);
  }
  const std::vector<double> kl = divergences(whole[0]->logits, parts[0]->logits, vocab);
  double sum = 0;
  for (const double v : kl) sum += v;
  EXPECT_LT(*std::max_element(kl.begin(), kl.end()), worst);
  EXPECT_LT(sum / static_cast<double>(kl.size()), mean);
  if (worst == kExact) {
    EXPECT_EQ(parts[0]->tokens, whole[0]->tokens);
  }
}

TEST(Shards, SayWhatTheWholeSaysOnRef) {
  for (const Divided& d : kDivided)
    for (const int64_t ranks : d.ranks) compare(d.model, ranks, {.chip = "ref"}, kExact, kExact);
}

TEST(Shards, SayWhatTheWholeSaysOnCpu) {
  for (const Divided& d : kDivided) compare(d.model, d.ranks[0], {.chip = "cpu"}, kExact, kExact);
}

// What a chip that rounds may differ by, on the average of all positions (tests/golden).
constexpr double kNative = 5e-3, kAny = 1;

TEST(Shards, FilesWithBlocksAreCutAtBlocks) {
  using Model = std::pair<const char*, int64_t>;
  for (const char* chip : {"ref", "cpu"})
    for (const auto& [model, ranks] :
         {Model{"q8_0", 3}, Model{"quant-32", 2}, Model{"quant-32", 4}, Model{"qwen3-gguf", 4},
          Model{"deepseek-v2-gguf", 4}, Model{"deepseek-v41-fp4-gguf", 2}}) {
      const bool exact = std::string_view(chip) == "ref";
      compare(model, ranks, {.chip = chip, .weights = WeightMode::kNative, .cache = HADAL_F16},
              exact ? kExact : kAny, exact ? kExact : kNative);
    }
}

TEST(Shards, SayWhatTheWholeSaysOnAChipApart) {
  for (const char* model : {"qwen3", "deepseek-v3", "deepseek-v4", "deepseek-v41"})
    compare(model, 2,
            {.chip = HADAL_APART_HALF_FILE, .weights = WeightMode::kNative, .cache = HADAL_F16},
            kAny, kNative);
}

TEST(Shards, DraftsAreSummedAsWell) {
  for (const auto& [model, sums] :
       std::initializer_list<std::pair<const char*, int64_t>>{{"deepseek-v3", 2},
                                                              {"deepseek-v32", 2},
                                                              {"deepseek-v4", 2},
                                                              {"deepseek-v4-dspark", 4}}) {
    SCOPED_TRACE(model);
    const auto checkpoint = Checkpoint::open(file_of(model));
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    for (int64_t ranks = 1; ranks <= 2; ++ranks) {
      const auto found = sums_of_drafts(**checkpoint, {.rank = ranks - 1, .ranks = ranks});
      ASSERT_TRUE(found) << found.error().message;
      EXPECT_EQ(*found, ranks == 1 ? 0 : sums);
    }
  }
}

TEST(Shards, AChipThatFailsEndsAllRanks) {
  const auto checkpoint = Checkpoint::open(file_of("qwen3"));
  ASSERT_TRUE(checkpoint);
  auto all = ThreadGroup::make(2);
  std::vector<Status> ended(2);
  std::vector<std::thread> threads;
  for (size_t r = 0; r < 2; ++r)
    threads.emplace_back([&, r] {
      const auto said = speak(**checkpoint, *all[r], {.chip = r == 1 ? "no-such-chip" : "ref"});
      ended[r] = said ? Status() : Status(said.error());
      if (!said) all[r]->abort(said.error().message);
    });
  for (std::thread& t : threads) t.join();
  ASSERT_FALSE(ended[0]);
  EXPECT_TRUE(ended[0].error().message.starts_with("rank 1 ended the run: chip 'no-such-chip'"))
      << ended[0].error().message;
}

TEST(Shards, OfSeveralRanksThatFailTheLowestSaysWhy) {
  auto all = ThreadGroup::make(4);
  std::vector<Status> ended(4);
  std::vector<std::thread> threads;
  for (size_t r = 0; r < 4; ++r)
    threads.emplace_back([&, r] {
      Status own = r == 1 || r == 3 ? failed("no memory at " + std::to_string(r)) : Status();
      EXPECT_TRUE(agree(*all[r], {}));
      ended[r] = agree(*all[r], std::move(own));
      if (!ended[r]) all[r]->abort(ended[r].error().message);
    });
  for (std::thread& t : threads) t.join();
  for (size_t r = 0; r < 4; ++r) {
    ASSERT_FALSE(ended[r]);
    EXPECT_EQ(ended[r].error().message,
              r == 1 ? "no memory at 1" : "rank 1 ended the run: no memory at 1");
  }
}

}  // namespace
}  // namespace hadal
