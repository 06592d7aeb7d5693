// What an asynchronous queue with memory of its own must keep: order, lifetimes, errors told late.
#include "queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "chip.h"

namespace hadal::apart {
namespace {

using Numbers = std::vector<float>;

class Apart : public testing::Test {
 protected:
  explicit Apart(Kind kind = Kind::kHalf) {
    chip.size = sizeof chip;
    EXPECT_EQ(query(kind, nullptr, HADAL_ABI, &chip), HADAL_OK);
    EXPECT_EQ(chip.device_open(&chip, 0, nullptr, &device, &error), HADAL_OK);
    EXPECT_EQ(chip.queue_create(device, &queue, &error), HADAL_OK);
    tape.size = sizeof tape;
    step.size = sizeof step;
    for (int d = 0; d < HADAL_DIM_COUNT; ++d) tape.limits[d] = step.rows[d] = 1;
  }
  ~Apart() override {
    chip.queue_destroy(queue);
    chip.device_close(device);
    chip.close(&chip);
  }

  /// Work that holds the worker up until open() was called.
  void close_gate() {
    queue_of(queue)->push([ready = gate.get_future().share()](hadal_error*) {
      ready.wait();
      return HADAL_OK;
    });
  }
  void open_gate() {
    gate.set_value();
    gate = {};
  }

  hadal_memory* allocate(uint64_t bytes = 4096) {
    hadal_memory* m = nullptr;
    EXPECT_EQ(chip.mem_alloc(device, bytes, &m, &error), HADAL_OK) << error.text;
    return m;
  }
  template <typename T>
  void in(hadal_memory* to, uint64_t offset, const std::vector<T>& values) {
    EXPECT_EQ(chip.copy_in(queue, to, offset, values.data(), values.size() * sizeof(T), &error),
              HADAL_OK);
  }
  void out(Numbers& to, hadal_memory* from, uint64_t offset = 0) {
    EXPECT_EQ(chip.copy_out(queue, to.data(), from, offset, to.size() * sizeof(float), &error),
              HADAL_OK);
  }
  hadal_status sync() { return chip.queue_sync(queue, &error); }

  /// A tensor [rows, columns] of the scratch memory; appended to the tape.
  int32_t tensor(std::initializer_list<int64_t> shape, uint32_t dtype, uint64_t offset) {
    hadal_tensor t{};
    t.dtype = dtype;
    t.space = HADAL_SPACE_SCRATCH;
    t.offset = offset;
    for (int64_t& e : t.extents) e = 1;
    for (const int64_t e : shape) t.extents[t.rank++] = e;
    int64_t stride = 4;
    for (uint32_t d = t.rank; d-- > 0; stride *= t.extents[d]) t.strides[d] = stride;
    tensors.push_back(t);
    return static_cast<int32_t>(tensors.size() - 1);
  }
  void add_op(uint32_t id, std::initializer_list<int32_t> operands) {
    hadal_op op{};
    op.id = id;
    std::fill(std::begin(op.operands), std::end(op.operands), -1);
    std::copy(operands.begin(), operands.end(), op.operands);
    ops.push_back(op);
  }
  hadal_status run() {
    tape.tensors = tensors.data();
    tape.tensor_count = static_cast<uint32_t>(tensors.size());
    tape.ops = ops.data();
    tape.op_count = static_cast<uint32_t>(ops.size());
    return chip.op_run(queue, &tape, 0, tape.op_count, &step, &error);
  }
  /// x[2] at 0 += y[2] at 256
  void make_addition() {
    const int32_t x = tensor({1, 2}, HADAL_F32, 0), y = tensor({1, 2}, HADAL_F32, 256);
    add_op(HADAL_OP_ADD, {x, y});
  }
  /// out[2] at 512 = x[index], index at 0, x[3, 2] at 256
  void make_gather() {
    const int32_t x = tensor({3, 2}, HADAL_F32, 256), i = tensor({1}, HADAL_I32, 0),
                  to = tensor({1, 2}, HADAL_F32, 512);
    add_op(HADAL_OP_GATHER_ROWS, {x, i, to});
  }

  hadal_chip chip{};
  hadal_device* device = nullptr;
  hadal_queue* queue = nullptr;
  hadal_error error{.size = sizeof(hadal_error), .text = {}};
  std::promise<void> gate;
  std::vector<hadal_tensor> tensors;
  std::vector<hadal_op> ops;
  hadal_tape tape{};
  hadal_step step{};
};

TEST_F(Apart, CopiesAreDoneInOrderAndReadTheirSourceAtOnce) {
  hadal_memory *a = allocate(), *b = allocate();
  EXPECT_EQ(chip.mem_host(a), nullptr);
  Numbers source = {1, 2}, first(2), second(2), third(2);
  close_gate();
  in(a, 8, source);
  source = {3, 4};
  EXPECT_EQ(chip.copy(queue, b, 0, a, 8, 8, &error), HADAL_OK);
  in(a, 8, source);
  source = {5, 6};
  out(first, b);
  out(second, a, 8);
  EXPECT_EQ(chip.fill(queue, a, 8, 8, 0, &error), HADAL_OK);
  out(third, a, 8);
  open_gate();
  ASSERT_EQ(sync(), HADAL_OK);
  EXPECT_EQ(first, (Numbers{1, 2}));
  EXPECT_EQ(second, (Numbers{3, 4}));
  EXPECT_EQ(third, (Numbers{0, 0}));
  EXPECT_EQ(chip.copy_in(queue, a, 4090, source.data(), 8, &error), HADAL_INVALID);
  chip.mem_free(a);
  chip.mem_free(b);
}

TEST_F(Apart, CopyOutWaitsForTheQueue) {
  hadal_memory* a = allocate();
  Numbers got = {7};
  in(a, 0, Numbers{1});
  close_gate();
  out(got, a);
  EXPECT_EQ(got, Numbers{7});
  open_gate();
  ASSERT_EQ(sync(), HADAL_OK);
  EXPECT_EQ(got, Numbers{1});
  chip.mem_free(a);
}

TEST_F(Apart, ArgumentsMayBeOverwrittenWhenTheCallReturns) {
  make_addition();
  step.scratch = allocate();
  hadal_memory* const memory = step.scratch;
  in(memory, 0, Numbers{1, 2});
  in(memory, 256, Numbers{10, 20});
  close_gate();
  ASSERT_EQ(run(), HADAL_OK) << error.text;
  std::memset(tensors.data(), 0xff, tensors.size() * sizeof(hadal_tensor));
  std::memset(ops.data(), 0xff, ops.size() * sizeof(hadal_op));
  std::memset(&tape, 0xff, sizeof tape);
  std::memset(&step, 0xff, sizeof step);
  Numbers got(2);
  out(got, memory);
  open_gate();
  ASSERT_EQ(sync(), HADAL_OK) << error.text;
  EXPECT_EQ(got, (Numbers{11, 22}));
  chip.mem_free(memory);
}

TEST_F(Apart, FreesAndDestroysStandBehindTheWork) {
  const std::vector<uint16_t> table = {0x3f80, 0x4000, 0x4040, 0x4080};  // 1, 2, 3, 4 in bf16
  hadal_memory* source = nullptr;
  ASSERT_EQ(chip.mem_import(device, table.data(), 8, &source, &error), HADAL_OK);
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = HADAL_BF16;
  desc.uses = HADAL_USE_GATHER;
  desc.batch = 1;
  desc.rows = desc.cols = 2;
  const hadal_piece piece = {source, 0, 2, 4, nullptr, 0, 0};
  hadal_weight* weight = nullptr;
  close_gate();
  ASSERT_EQ(chip.weight_create_on(queue, &desc, &piece, 1, &weight, &error), HADAL_OK);
  const int32_t token = tensor({1}, HADAL_I32, 0), w = tensor({2, 2}, HADAL_BF16, 0),
                to = tensor({1, 2}, HADAL_F32, 256);
  tensors[static_cast<size_t>(w)].space = HADAL_SPACE_WEIGHT;
  tensors[static_cast<size_t>(w)].weight = weight;
  std::fill_n(tensors[static_cast<size_t>(w)].strides, 2, 0);
  add_op(HADAL_OP_EMBED, {token, w, to});
  step.scratch = allocate();
  in(step.scratch, 0, std::vector<int32_t>{1});
  ASSERT_EQ(run(), HADAL_OK) << error.text;
  Numbers got(2);
  out(got, step.scratch, 256);
  chip.weight_destroy(weight);
  chip.mem_free(step.scratch);
  open_gate();
  ASSERT_EQ(sync(), HADAL_OK) << error.text;
  EXPECT_EQ(got, (Numbers{3, 4}));
  chip.mem_free(source);
}

TEST_F(Apart, AnImportIsReadBeforeItsFreeReturns) {
  Numbers source = {1, 2}, got(2);
  hadal_memory *import = nullptr, *a = allocate();
  ASSERT_EQ(chip.mem_import(device, source.data(), 8, &import, &error), HADAL_OK);
  EXPECT_EQ(chip.fill(queue, import, 0, 8, 0, &error), HADAL_INVALID);
  close_gate();
  ASSERT_EQ(chip.copy(queue, a, 0, import, 0, 8, &error), HADAL_OK);
  std::thread later([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    gate.set_value();
  });
  chip.mem_free(import);
  source = {3, 4};
  out(got, a);
  later.join();
  ASSERT_EQ(sync(), HADAL_OK);
  EXPECT_EQ(got, (Numbers{1, 2}));
  chip.mem_free(a);
}

TEST_F(Apart, AnErrorIsToldAtSyncAndThenTheQueueWorks) {
  make_gather();
  step.scratch = allocate();
  in(step.scratch, 256, Numbers{1, 2, 3, 4, 5, 6});
  in(step.scratch, 0, std::vector<int32_t>{3});
  ASSERT_EQ(run(), HADAL_OK) << error.text;
  Numbers got = {7, 7};
  out(got, step.scratch, 512);
  ASSERT_EQ(sync(), HADAL_INVALID);
  EXPECT_STREQ(error.text, "gather_rows: index[0] = 3 is outside [0, 3)");
  EXPECT_EQ(got, (Numbers{7, 7})) << "what stood behind the error was done";
  ASSERT_EQ(sync(), HADAL_OK) << "an error is told once";
  in(step.scratch, 0, std::vector<int32_t>{2});
  ASSERT_EQ(run(), HADAL_OK);
  out(got, step.scratch, 512);
  ASSERT_EQ(sync(), HADAL_OK);
  EXPECT_EQ(got, (Numbers{5, 6}));
  chip.mem_free(step.scratch);
}

TEST_F(Apart, TheStopFlagIsReadByTheWorker) {
  make_addition();
  step.scratch = allocate();
  in(step.scratch, 0, Numbers{1, 2});
  in(step.scratch, 256, Numbers{10, 20});
  int32_t stop = 0;
  step.stop = &stop;
  close_gate();
  ASSERT_EQ(run(), HADAL_OK);
  std::thread([&stop] { __atomic_store_n(&stop, 1, __ATOMIC_RELAXED); }).join();
  open_gate();
  EXPECT_EQ(sync(), HADAL_STOPPED);
  __atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
  ASSERT_EQ(run(), HADAL_OK);
  Numbers got(2);
  out(got, step.scratch);
  EXPECT_EQ(sync(), HADAL_OK);
  EXPECT_EQ(got, (Numbers{11, 22})) << "the stopped step added, or the second did not";
  chip.mem_free(step.scratch);
}

TEST_F(Apart, ManyStepsMayBeQueued) {
  make_addition();
  step.scratch = allocate();
  in(step.scratch, 0, Numbers{0, 0});
  in(step.scratch, 256, Numbers{1, 2});
  std::vector<Numbers> got(500, Numbers(2));
  for (Numbers& numbers : got) {
    ASSERT_EQ(run(), HADAL_OK);
    out(numbers, step.scratch);
  }
  ASSERT_EQ(sync(), HADAL_OK);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(got[i], (Numbers{static_cast<float>(i + 1), static_cast<float>(2 * i + 2)}));
  chip.mem_free(step.scratch);
}

TEST_F(Apart, DestroyingAQueueDrainsIt) {
  hadal_queue* other = nullptr;
  ASSERT_EQ(chip.queue_create(device, &other, &error), HADAL_OK);
  hadal_memory* a = allocate();
  Numbers got(1);
  const Numbers one = {1};
  ASSERT_EQ(chip.copy_in(other, a, 0, one.data(), 4, &error), HADAL_OK);
  ASSERT_EQ(chip.copy_out(other, got.data(), a, 0, 4, &error), HADAL_OK);
  chip.mem_free(a);
  chip.queue_destroy(other);
  EXPECT_EQ(got, one);
}

TEST_F(Apart, OffsetsThatAreNotAlignedAreRefused) {
  make_addition();
  step.scratch = allocate();
  tensors[1].offset = 260;
  EXPECT_EQ(run(), HADAL_INVALID);
  EXPECT_STREQ(error.text,
               "add(x [1, 2] F32, y [1, 2] F32): y has offset 260, which is no multiple of 256");
  tensors[1].flags = HADAL_TENSOR_COLUMNS;
  EXPECT_EQ(run(), HADAL_OK);
  EXPECT_EQ(sync(), HADAL_OK);
  chip.mem_free(step.scratch);
}

TEST_F(Apart, OtherMajorVersionsAndOptionsAreRefused) {
  hadal_host host{};
  host.size = sizeof host;
  host.query_error = &error;
  hadal_chip other{};
  other.size = sizeof other;
  EXPECT_EQ(query(Kind::kRow8, &host, (HADAL_ABI_MAJOR + 1) << 16, &other), HADAL_UNSUPPORTED);
  EXPECT_STREQ(error.text, "apart-row8 was built for contract 1.1, the host speaks 2.0");
  const char* name = "speed";
  hadal_device_options options{};
  options.size = sizeof options;
  options.option_count = 1;
  options.option_names = options.option_values = &name;
  hadal_device* unopened = nullptr;
  EXPECT_EQ(chip.device_open(&chip, 0, &options, &unopened, &error), HADAL_INVALID);
}

TEST_F(Apart, WeightsInOtherFormsAreRefusedWithWhatIsTaken) {
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = HADAL_Q4_K;
  desc.uses = HADAL_USE_MATMUL;
  desc.batch = desc.rows = 1;
  desc.cols = 256;
  uint64_t bytes = 0;
  EXPECT_EQ(chip.weight_bytes(device, &desc, &bytes, &error), HADAL_UNSUPPORTED);
  EXPECT_STREQ(error.text, "weight: apart-half takes matmul weights as BF16, F16, not Q4_K");
  desc.dtype = HADAL_BF16;
  EXPECT_EQ(chip.weight_bytes(device, &desc, &bytes, &error), HADAL_OK);
  EXPECT_EQ(bytes, 512u);
  hadal_weight_form forms[2] = {{.size = sizeof(hadal_weight_form)},
                                {.size = sizeof(hadal_weight_form)}};
  uint32_t count = 2;
  EXPECT_EQ(chip.weight_forms(device, HADAL_USE_GATHER, forms, &count, &error), HADAL_OK);
  EXPECT_EQ(count, 3u);
  EXPECT_EQ(forms[1].dtype, uint32_t{HADAL_F16});
}

}  // namespace
}  // namespace hadal::apart
