// The level `queues`: completion and lifetime. Each rule is tried by its number in hadal/chip.h:
// the caller does at once what a rule allows it to do, and only then waits. What is put where a
// chip must no longer look is valid and wrong, so that a chip that does look answers wrongly
// instead of crashing. Errors and the stop flag are in stops.cc.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "levels/queue_bench.h"

namespace hadal::conformance {

using namespace queues;  // NOLINT: one level in several files

namespace {

constexpr int32_t kSet = 1;

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
      {"the step's stop flag is another one, which is set, after op_run",
       [](Sums& s) { s.call.step.stop = &kSet; }},
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
  middle.resize(static_cast<size_t>(kStepRows * kWidth));
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
  std::vector<float> out(static_cast<size_t>(kStepRows * kWidth));
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
  return products.bench.read(products.outputs, static_cast<size_t>(kStepRows * kWidth));
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

// 8. Rows above the count hold nothing of value: NaN, and then other numbers.
void check_rows_above(const Device& device, Report& report) {
  for (const uint8_t poison : {uint8_t{0xff}, uint8_t{0x3c}}) {
    Sums sums(device);
    Bench& bench = sums.bench;
    const uint64_t counted = static_cast<uint64_t>(kStepRows * kWidth) * sizeof(float);
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
  if (report.begin(kName, "additions"))
    if (const Sums sums(device); !sums.bench.why().empty()) {
      report.check(kName, false, sums.bench.why());
      return;
    }
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
      {"6, 7: a flag that is set before the step", check_stopped_before},
      {"8: rows above the count", check_rows_above},
      {"events", [&chip](const Device& d, Report& r) { check_events(d, chip.device(3), r); }},
      {"comm", [&chip](const Device&, Report& r) { check_comm(chip, r); }}};
  for (const auto& [what, check] : checks)
    if (report.begin(kName, what)) check(device, report);
}

}  // namespace hadal::conformance
