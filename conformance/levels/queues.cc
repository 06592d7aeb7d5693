// The level `queues`: completion and lifetime. Each rule is tried by its number in hadal/chip.h:
// the caller does at once what a rule allows it to do, and only then waits. What is put where a
// chip must no longer look is valid and wrong, so that a chip that does look answers wrongly
// instead of crashing.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "report.h"

namespace hadal::conformance {
namespace {

constexpr const char* kName = "queues";
constexpr int64_t kRows = 24, kLimit = 32, kWidth = 256;
constexpr uint32_t kRepeats = 12;  // operators of a tape: work that may still go on

/// Memories, weights and one tape on one device; whatever is left is freed at its end.
class Bench {
 public:
  explicit Bench(const Device& device) : device_(device), chip_(*device.chip) {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    chip_.queue_sync(device_.queue, nullptr);
    for (hadal_weight* w : weights_) chip_.weight_destroy(w);
    for (hadal_memory* m : memories_) chip_.mem_free(m);
  }

  /// A memory that holds `values`; null, and failed(), if that cannot be had.
  hadal_memory* hold(const std::vector<float>& values) {
    hadal_memory* m = make(values.size() * sizeof(float));
    if (m) put(m, values);
    return m;
  }
  hadal_memory* make(uint64_t bytes) {
    hadal_memory* m = nullptr;
    if (good(chip_.mem_alloc(device_.device, bytes, &m, &error_))) memories_.push_back(m);
    return m;
  }
  void put(hadal_memory* m, const std::vector<float>& values) {
    good(chip_.copy_in(device_.queue, m, 0, values.data(), values.size() * sizeof(float), &error_));
  }
  /// Queues a copy of `to`'s size; it is there after sync().
  void get(std::vector<float>& to, hadal_memory* from) {
    good(chip_.copy_out(device_.queue, to.data(), from, 0, to.size() * sizeof(float), &error_));
  }
  void fill(hadal_memory* m, uint64_t bytes, uint8_t with) {
    good(chip_.fill(device_.queue, m, 0, bytes, with, &error_));
  }
  void sync() { good(chip_.queue_sync(device_.queue, &error_)); }
  std::vector<float> read(hadal_memory* from, size_t count) {
    std::vector<float> values(count);
    get(values, from);
    sync();
    return values;
  }
  void free(hadal_memory* m) {
    std::erase(memories_, m);
    chip_.mem_free(m);
  }
  void destroy(hadal_weight* w) {
    std::erase(weights_, w);
    chip_.weight_destroy(w);
  }

  bool good(hadal_status status) {
    if (status != HADAL_OK && why_.empty())
      why_ = fmt::format("status {}: {}", static_cast<int>(status), error_.text);
    return status == HADAL_OK;
  }
  /// The first thing that failed, or nothing.
  [[nodiscard]] const std::string& why() const { return why_; }
  void forget() { why_.clear(); }

  const Device& device_;
  hadal_chip& chip_;
  hadal_error error_ = fresh_error();
  std::vector<hadal_weight*> weights_;

 private:
  std::vector<hadal_memory*> memories_;
  std::string why_;
};

hadal_tensor tensor(uint32_t dtype, uint32_t space, uint32_t row_dim, std::vector<int64_t> extents,
                    uint64_t offset) {
  hadal_tensor t{};
  t.dtype = dtype;
  t.space = space;
  t.row_dim = row_dim;
  t.rank = static_cast<uint32_t>(extents.size());
  std::fill(std::begin(t.extents), std::end(t.extents), 1);
  std::copy(extents.begin(), extents.end(), t.extents);
  t.offset = offset;
  int64_t stride = dtype_info(static_cast<DType>(dtype))->block_bytes;
  for (uint32_t d = t.rank; space != HADAL_SPACE_WEIGHT && d-- > 0;) {
    t.strides[d] = stride;
    stride *= t.extents[d];
  }
  return t;
}

/// A tape that the caller may spoil after op_run: tensors, operators and the step in memory of its
/// own.
struct Call {
  std::vector<hadal_tensor> tensors;
  std::vector<hadal_op> ops;
  std::vector<hadal_memory*> planes;
  std::vector<float> host_inputs;
  hadal_tape tape{};
  hadal_step step{};

  void add(uint32_t id, const std::vector<std::pair<uint32_t, int32_t>>& operands) {
    hadal_op op{};
    op.id = id;
    std::fill(std::begin(op.operands), std::end(op.operands), -1);
    for (const auto& [operand, index] : operands) op.operands[operand] = index;
    ops.push_back(op);
  }
  void finish(uint64_t scratch, uint64_t inputs, uint64_t outputs) {
    tape.size = sizeof tape;
    tape.tensors = tensors.data();
    tape.tensor_count = static_cast<uint32_t>(tensors.size());
    tape.ops = ops.data();
    tape.op_count = static_cast<uint32_t>(ops.size());
    for (int64_t& limit : tape.limits) limit = kLimit;
    tape.limits[HADAL_DIM_CONST] = 1;
    tape.scratch_bytes = scratch;
    tape.input_bytes = inputs;
    tape.output_bytes = outputs;
    tape.plane_count = static_cast<uint32_t>(planes.size());
    step.size = sizeof step;
    step.rows[HADAL_DIM_CONST] = 1;
    step.rows[HADAL_DIM_T] = kRows;
    step.rows[HADAL_DIM_S] = 1;
    step.planes = planes.data();
    step.plane_count = tape.plane_count;
  }
  hadal_status run(Bench& bench) {
    return bench.chip_.op_run(bench.device_.queue, &tape, 0, tape.op_count, &step, &bench.error_);
  }
};

std::vector<float> ramp(size_t count, float scale) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = scale * static_cast<float>(i % 97) + 0.5f;
  return values;
}

constexpr size_t kCount = kLimit * kWidth;
constexpr size_t kBytes = kCount * sizeof(float);

/// X += Y, kRepeats times: scratch holds X, the inputs Y, and behind it other numbers.
struct Sums {
  Bench bench;
  Call call;
  hadal_memory *scratch, *inputs, *outputs, *other;
  std::vector<float> x = ramp(kCount, 1), y = ramp(2 * kCount, 0.25f), wrong = ramp(kCount, 3);

  explicit Sums(const Device& device) : bench(device) {
    for (size_t i = kCount; i < y.size(); ++i) y[i] += 100;
    scratch = bench.hold(x);
    inputs = bench.hold(y);
    outputs = bench.make(kBytes);
    other = bench.hold(wrong);
    call.tensors = {tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, kWidth}, 0),
                    tensor(HADAL_F32, HADAL_SPACE_INPUT, HADAL_DIM_T, {1, kWidth}, 0)};
    for (uint32_t i = 0; i < kRepeats; ++i)
      call.add(HADAL_OP_ADD, {{HADAL_ADD_X, 0}, {HADAL_ADD_Y, 1}});
    call.finish(kBytes, 2 * kBytes, kBytes);
    call.step.scratch = scratch;
    call.step.inputs = inputs;
    call.step.outputs = outputs;
    make_workspace();
    bench.sync();
  }
  void make_workspace() {
    const Support support = ask_support(bench.device_, call.ops[0], call.tensors, call.tape.limits);
    bench.good(support.status);
    if (support.workspace_bytes != 0) call.step.workspace = bench.make(support.workspace_bytes);
  }
  hadal_status run() { return call.run(bench); }
  [[nodiscard]] std::vector<float> expected() const {
    std::vector<float> sum(x.begin(), x.begin() + kRows * kWidth);
    for (uint32_t i = 0; i < kRepeats; ++i)
      for (size_t j = 0; j < sum.size(); ++j) sum[j] += y[j];
    return sum;
  }
  /// Whether X is what it must be; rows above the count may be anything.
  void check(const std::string& what, Report& report) {
    const std::vector<float> found = bench.read(scratch, kRows * kWidth);
    report.check(kName, bench.why().empty() && found == expected(),
                 what + (bench.why().empty() ? ": other numbers" : ": " + bench.why()));
  }
};

// 1. Arguments of op_run.
void check_arguments(const Device& device, Report& report) {
  using Spoil = std::function<void(Sums&)>;
  const std::vector<std::pair<std::string, Spoil>> ways = {
      {"the step is overwritten after op_run",
       [](Sums& s) {
         s.call.step.rows[HADAL_DIM_T] = 1;
         s.call.step.scratch = s.other;
         s.call.step.inputs = s.other;
       }},
      {"the tape's operators are overwritten after op_run",
       [](Sums& s) {
         for (hadal_op& op : s.call.ops) op.operands[HADAL_ADD_Y] = 0;
       }},
      {"the tape's tensors are overwritten after op_run",
       [](Sums& s) { s.call.tensors[1].offset = kBytes; }},
      {"the tape is overwritten after op_run", [](Sums& s) { s.call.tape.op_count = 0; }},
      {"the error is overwritten after op_run",
       [](Sums& s) { std::memset(s.bench.error_.text, 'x', 8); }},
      {"host_inputs are given, and overwritten after op_run",
       [](Sums& s) { s.call.host_inputs.assign(s.call.host_inputs.size(), -1.0f); }}};
  for (const auto& [what, spoil] : ways) {
    Sums sums(device);
    sums.call.host_inputs = sums.y;
    sums.call.step.host_inputs = sums.call.host_inputs.data();
    sums.bench.good(sums.run());
    spoil(sums);
    sums.bench.sync();
    sums.bench.error_ = fresh_error();
    sums.check("1: " + what, report);
  }
  Sums sums(device);
  sums.bench.good(sums.run());
  sums.check("1: host_inputs is NULL", report);
}

// 1. A program's step; its tape stays. And 4: it is destroyed while its work may go on.
void check_program(const Device& device, Report& report) {
  const hadal_program_table* table = device.chip->program;
  if (!table) return;
  Sums sums(device);
  Bench& bench = sums.bench;
  hadal_program* program = nullptr;
  sums.call.step.workspace = nullptr;
  if (!bench.good(table->prepare(device.device, &sums.call.tape, &program, &bench.error_))) {
    report.check(kName, false, "a program of additions cannot be prepared: " + bench.why());
    return;
  }
  sums.call.host_inputs = sums.y;
  sums.call.step.host_inputs = sums.call.host_inputs.data();
  bench.good(table->run(program, device.queue, &sums.call.step, &bench.error_));
  sums.call.step.rows[HADAL_DIM_T] = 1;
  sums.call.step.scratch = sums.call.step.inputs = sums.other;
  sums.call.host_inputs.assign(sums.y.size(), -1.0f);
  table->destroy(program);
  sums.check("1, 4: the step is overwritten and the program destroyed after its run", report);
}

// 1. The array of planes: a plane is written that is then named no more.
void check_plane_array(const Device& device, Report& report) {
  Operand plane = output(HADAL_F32, {2, 8, 32}, HADAL_DIM_CONST);
  plane.plane = true;
  plane.data = encode(ramp(2 * 8 * 32, 1), HADAL_F32);
  const Case write = fill_case(plane);
  const Layout layout = lay_out(write, device.placement);
  Bench bench(device);
  Call call;
  call.tensors = layout.tensors;
  hadal_tensor& t = call.tensors[static_cast<size_t>(layout.op.operands[HADAL_KV_WRITE_PLANE])];
  uint64_t block = static_cast<uint64_t>(t.strides[0]);
  const hadal_plane_desc desc = plane_desc(write, HADAL_KV_WRITE_PLANE);
  if (device.opaque_planes()) {
    const hadal_status status =
        bench.chip_.plane_bytes(device.device, &desc, &block, &bench.error_);
    if (status == HADAL_UNSUPPORTED) return;
    bench.good(status);
    t.strides[0] = static_cast<int64_t>(block);
  }
  t.offset = 0;
  hadal_memory *right = bench.make(2 * block), *wrong = bench.make(2 * block);
  bench.fill(right, 2 * block, 0x11);
  bench.fill(wrong, 2 * block, 0x22);
  call.ops = {layout.op};
  call.planes = {right};
  call.finish(layout.before.scratch.size(), layout.before.inputs.size(),
              std::max<size_t>(layout.before.outputs.size(), 64));
  std::copy(layout.limits.begin(), layout.limits.end(), call.tape.limits);
  std::copy(layout.rows.begin(), layout.rows.end(), call.step.rows);
  const auto upload = [&](const Bytes& bytes) {
    hadal_memory* m = bench.make(std::max<size_t>(bytes.size(), 64));
    if (!bytes.empty())
      bench.good(
          bench.chip_.copy_in(device.queue, m, 0, bytes.data(), bytes.size(), &bench.error_));
    return m;
  };
  call.step.scratch = upload(layout.before.scratch);
  call.step.inputs = upload(layout.before.inputs);
  call.step.outputs = upload(layout.before.outputs);
  const Support support = ask_support(device, layout.op, call.tensors, call.tape.limits);
  if (support.workspace_bytes != 0) call.step.workspace = bench.make(support.workspace_bytes);
  bench.sync();
  bench.good(call.run(bench));
  call.planes[0] = wrong;
  bench.sync();
  // Whatever the layout within a block is: this plane must not have been touched.
  Bytes untouched(2 * block);
  bench.good(bench.chip_.copy_out(device.queue, untouched.data(), wrong, 0, untouched.size(),
                                  &bench.error_));
  bench.sync();
  report.check(kName,
               bench.why().empty() && std::all_of(untouched.begin(), untouched.end(),
                                                  [](std::byte b) { return b == std::byte{0x22}; }),
               "1: the array of planes is overwritten after op_run: another plane is written " +
                   bench.why());
}

// 2, 3, 4. Copies.
void check_copies(const Device& device, Report& report) {
  Sums sums(device);
  Bench& bench = sums.bench;
  std::vector<float> source = sums.y;
  bench.fill(sums.inputs, 2 * kBytes, 0);
  bench.put(sums.inputs, source);
  std::fill(source.begin(), source.end(), -7.0f);
  bench.good(sums.run());
  sums.check("2: the source of copy_in is overwritten after the call", report);

  // What is read lies between two writes.
  std::vector<float> before(kCount, -1), middle(kCount, -1), after(kCount, -1);
  bench.put(sums.scratch, sums.x);
  bench.get(before, sums.scratch);
  bench.good(sums.run());
  bench.get(middle, sums.scratch);
  bench.fill(sums.scratch, kBytes, 0);
  bench.get(after, sums.scratch);
  bench.sync();
  middle.resize(static_cast<size_t>(kRows * kWidth));
  report.check(kName, bench.why().empty() && before == sums.x,
               "3: copy_out gives other numbers than lay there when it was called, before an "
               "operator wrote " +
                   bench.why());
  report.check(kName, middle == sums.expected(),
               "3, 4: copy_out behind op_run and before a fill gives other numbers");
  report.check(kName, after == std::vector<float>(kCount, 0.0f),
               "4: copy_out behind a fill gives other numbers than zeros");

  // fill, copy, operator and copy in one go.
  bench.fill(sums.scratch, kBytes, 0xff);
  bench.put(sums.other, sums.x);
  bench.good(bench.chip_.copy(device.queue, sums.scratch, 0, sums.other, 0, kBytes, &bench.error_));
  bench.fill(sums.other, kBytes, 0xff);
  bench.good(sums.run());
  bench.good(bench.chip_.copy(device.queue, sums.other, 0, sums.scratch, 0, kBytes, &bench.error_));
  bench.fill(sums.scratch, kBytes, 0);
  std::swap(sums.scratch, sums.other);
  sums.check("4: fill, copy, operators and copy one behind the other", report);
}

// 4. Memories that are freed while work on them may go on, and whose place others take.
void check_frees(const Device& device, Report& report) {
  Sums sums(device);
  Bench& bench = sums.bench;
  std::vector<float> out(static_cast<size_t>(kRows * kWidth));
  bench.good(sums.run());
  bench.get(out, sums.scratch);
  bench.free(sums.scratch);
  bench.free(sums.inputs);
  if (sums.call.step.workspace) bench.free(sums.call.step.workspace);
  for (int i = 0; i < 4; ++i)
    if (hadal_memory* m = bench.make(kBytes)) bench.fill(m, kBytes, 0x7f);
  bench.sync();
  report.check(
      kName, bench.why().empty() && out == sums.expected(),
      "4: mem_free behind op_run and copy_out, before queue_sync: other numbers " + bench.why());
}

/// OUT = X W, with a weight whose life is what is tried.
struct Products {
  Bench bench;
  Call call;
  std::shared_ptr<const WeightData> data;
  std::vector<Bytes> bytes;  // the pieces, which may be spoilt
  std::vector<hadal_memory*> imported;
  hadal_weight* weight = nullptr;
  hadal_memory* outputs = nullptr;
  std::vector<float> x = ramp(kCount, 0.01f);

  Products(const Device& device, bool keeps) : bench(device) {
    Random random(4242);
    auto made = std::make_shared<WeightData>(
        *make_weight(random, HADAL_BF16, {.rows = kWidth, .cols = kWidth, .pieces = 2}));
    made->desc.keeps_source = keeps ? 1 : 0;
    std::string violation;
    data = adapt_weight(made, device, violation);
    call.tensors = {
        tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, kWidth}, 0),
        tensor(data->desc.dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, {kWidth, kWidth}, 0),
        tensor(HADAL_F32, HADAL_SPACE_OUTPUT, HADAL_DIM_T, {1, kWidth}, 0)};
    call.add(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, 0}, {HADAL_MATMUL_W, 1}, {HADAL_MATMUL_OUT, 2}});
    call.finish(kBytes, 64, kBytes);
    call.step.scratch = bench.hold(x);
    call.step.inputs = bench.make(64);
    call.step.outputs = outputs = bench.make(kBytes);
    const Support support = ask_support(device, call.ops[0], call.tensors, call.tape.limits);
    if (support.workspace_bytes != 0) call.step.workspace = bench.make(support.workspace_bytes);
    bench.good(support.status);
  }

  void import(const Bytes& from, hadal_memory** out) {
    bytes.push_back(from);
    if (bench.good(bench.chip_.mem_import(bench.device_.device, bytes.back().data(),
                                          bytes.back().size(), out, &bench.error_)))
      imported.push_back(*out);
  }
  /// `queued`: by weight_create_on.
  void create(bool queued) {
    std::vector<hadal_piece> pieces;
    hadal_weight_desc desc = data->desc;
    bytes.reserve(2 * data->sources.size());  // what was imported stays where it is
    for (const WeightData::Source& source : data->sources) {
      hadal_piece piece{};
      piece.offset = piece.scale_offset = data->skew;
      piece.rows = source.rows;
      piece.row_stride = source.row_stride;
      piece.scale_row_stride = source.scale_row_stride;
      import(source.bytes, &piece.memory);
      if (!source.scale_bytes.empty()) import(source.scale_bytes, &piece.scale_memory);
      pieces.push_back(piece);
    }
    const auto count = static_cast<uint32_t>(pieces.size());
    const hadal_chip& chip = bench.chip_;
    const hadal_status status =
        queued ? chip.weight_create_on(bench.device_.queue, &desc, pieces.data(), count, &weight,
                                       &bench.error_)
               : chip.weight_create(bench.device_.device, &desc, pieces.data(), count, &weight,
                                    &bench.error_);
    if (bench.good(status)) bench.weights_.push_back(weight);
    call.tensors[1].weight = weight;
    desc = {};  // the description is the caller's again
  }
  void spoil_pieces() {
    for (Bytes& b : bytes) std::fill(b.begin(), b.end(), std::byte{0});
  }
  void free_pieces() {
    for (hadal_memory* m : imported) bench.chip_.mem_free(m);
    imported.clear();
  }
  ~Products() {
    bench.chip_.queue_sync(bench.device_.queue, nullptr);
    if (weight && !bench.weights_.empty()) bench.destroy(weight);
    free_pieces();
  }
};

/// On a chip that is not row_invariant a second run may round in another way; what was read from
/// memory that is no longer there is not off by so little.
bool same(const std::vector<float>& found, const std::vector<float>& expected, bool bits) {
  if (bits || found.size() != expected.size()) return found == expected;
  float largest = 0, error = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::fabs(expected[i]));
    error = std::max(error, std::fabs(found[i] - expected[i]));
    if (std::isnan(found[i])) return false;
  }
  return error <= largest / 64;
}

/// What the product is when everybody waits for everything.
std::vector<float> product_of(const Device& device) {
  Products products(device, true);
  products.create(false);
  products.bench.good(products.call.run(products.bench));
  products.bench.sync();
  return products.bench.read(products.outputs, static_cast<size_t>(kRows * kWidth));
}

// 4, 5. Weights: pieces that die, a handle that is destroyed while work goes on.
void check_weights(const Device& device, bool bits, Report& report) {
  const std::vector<float> expected = product_of(device);
  for (const bool queued : {false, true}) {
    if (queued && !device.chip->weight_create_on) continue;
    const std::string how = queued ? "weight_create_on" : "weight_create";
    Products products(device, false);
    Bench& bench = products.bench;
    products.create(queued);
    products.spoil_pieces();
    products.free_pieces();
    std::vector<float> out(expected.size());
    bench.good(products.call.run(bench));
    bench.get(out, products.outputs);
    bench.sync();
    report.check(
        kName, bench.why().empty() && same(out, expected, bits),
        fmt::format(
            "5: pieces with keeps_source = 0 are overwritten and freed after {}: other numbers {}",
            how, bench.why()));
  }
  for (const bool keeps : {false, true}) {
    Products products(device, keeps);
    Bench& bench = products.bench;
    products.create(false);
    std::vector<float> out(expected.size());
    bench.good(products.call.run(bench));
    bench.get(out, products.outputs);
    bench.destroy(products.weight);
    products.weight = nullptr;
    bench.sync();
    report.check(
        kName, bench.why().empty() && same(out, expected, bits),
        "4: weight_destroy behind op_run, before queue_sync: other numbers " + bench.why());
  }
}

// 7. After an error the queue works.
void check_errors(const Device& device, Report& report) {
  const auto again = [&](Sums& sums, hadal_status status, const std::string& what) {
    // It may be told late, but not never.
    if (status == HADAL_OK) status = sums.bench.chip_.queue_sync(device.queue, &sums.bench.error_);
    const bool told = status != HADAL_OK && sums.bench.error_.text[0] != '\0';
    report.check(kName, told, "7: " + what + " is told by queue_sync at the latest, with a text");
    if (status == HADAL_DEVICE_FAILED) return;
    sums.bench.error_ = fresh_error();
    sums.bench.put(sums.scratch, sums.x);
    sums.bench.good(sums.run());
    sums.check("7: the queue works after " + what, report);
  };
  {
    Sums sums(device);
    sums.bench.error_ = fresh_error();
    const hadal_status status = sums.bench.chip_.copy_in(device.queue, sums.scratch, 1 << 30,
                                                         sums.x.data(), 64, &sums.bench.error_);
    again(sums, status, "a copy_in beyond its memory");
  }
  {
    Sums sums(device);
    sums.bench.error_ = fresh_error();
    const hadal_op good = sums.call.ops.back();
    sums.call.ops.back().id = 9999;
    const hadal_status status = sums.run();
    // What stands before the bad operator may have been done.
    sums.call.ops.back() = good;
    again(sums, status, "an operator that does not exist");
  }
}

// 6. The stop flag, set by another thread while a step runs.
void check_stop(const Device& device, Report& report) {
  Sums sums(device);
  Bench& bench = sums.bench;
  for (const int delay_us : {0, 20, 200}) {
    int32_t stop = 0;
    sums.call.step.stop = &stop;
    bench.put(sums.scratch, sums.x);
    bench.sync();
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    });
    hadal_status status = HADAL_OK;
    for (int i = 0; i < 50 && status == HADAL_OK; ++i) status = sums.run();
    const hadal_status synced = bench.chip_.queue_sync(device.queue, nullptr);
    other.join();
    if (status == HADAL_OK) status = synced;
    report.check(kName, status == HADAL_OK || status == HADAL_STOPPED,
                 fmt::format("6: the stop flag is set by another thread after {} us: status {}",
                             delay_us, static_cast<int>(status)));
    stop = 0;
    bench.error_ = fresh_error();
    bench.put(sums.scratch, sums.x);
    bench.good(sums.run());
    sums.check("6: a step after a stopped one", report);
    sums.call.step.stop = nullptr;
  }
}

// 8. Rows above the count hold nothing of value: NaN, and then other numbers.
void check_rows_above(const Device& device, Report& report) {
  for (const uint8_t poison : {uint8_t{0xff}, uint8_t{0x3c}}) {
    Sums sums(device);
    Bench& bench = sums.bench;
    const uint64_t counted = static_cast<uint64_t>(kRows * kWidth) * sizeof(float);
    for (hadal_memory* m : {sums.scratch, sums.inputs})
      bench.good(
          bench.chip_.fill(device.queue, m, counted, kBytes - counted, poison, &bench.error_));
    bench.good(sums.run());
    sums.check("8: rows above the count hold garbage", report);
  }
}

}  // namespace

void level_queues(Chip& chip, Report& report) {
  const Device& device = chip.device(2);
  using Check = std::function<void(const Device&, Report&)>;
  const std::pair<const char*, Check> checks[] = {
      {"1: arguments of op_run", check_arguments},
      {"1, 4: a program", check_program},
      {"1: the array of planes", check_plane_array},
      {"2, 3, 4: copies", check_copies},
      {"4: memories that are freed", check_frees},
      {"4, 5: weights",
       [&chip](const Device& d, Report& r) { check_weights(d, chip.info.row_invariant != 0, r); }},
      {"7: errors", check_errors},
      {"6: the stop flag", check_stop},
      {"8: rows above the count", check_rows_above},
      {"events", check_events}};
  for (const auto& [what, check] : checks)
    if (report.begin(kName, what)) check(device, report);
}

}  // namespace hadal::conformance
