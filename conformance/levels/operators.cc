// The levels `operators`, every operator against ref, and `errors`, the same with indices that do
// not exist.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "contract/operators.h"
#include "describe.h"
#include "report.h"

namespace hadal::conformance {
namespace {

constexpr const char* kTexts = "texts";    // of errors and declines
constexpr const char* kErrors = "errors";  // in the data

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

std::string join(const std::vector<int64_t>& numbers) {
  std::string text;
  for (const int64_t n : numbers) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return text;
}

}  // namespace

std::string describe(const Case& c) {
  std::string text;
  for (uint32_t i = 0; i < contract::operand_count(c.id); ++i) {
    const Operand& o = c.operands[i];
    if (!o.present() && o.alias < 0) continue;
    const std::string name = upper(contract::operand_name(c.id, i));
    if (!text.empty()) text += ", ";
    if (o.alias >= 0)
      text += name + " = " + upper(contract::operand_name(c.id, static_cast<uint32_t>(o.alias)));
    else
      text +=
          fmt::format("{} [{}] {}", name, join(o.shape), dtype_name(static_cast<DType>(o.dtype)));
  }
  return c.name.empty() ? text : c.name + "; " + text;
}

namespace {

/// Index of element `flat` of an operand: "2, 5".
std::string index_text(const Operand& o, int64_t flat) {
  std::vector<int64_t> index(o.shape.size());
  for (size_t d = o.shape.size(); d-- > 0;) {
    index[d] = flat % o.shape[d];
    flat /= o.shape[d];
  }
  return join(index);
}

const Operand& resolve(const Case& c, uint32_t i) {
  const Operand& o = c.operands[i];
  return o.alias >= 0 ? c.operands[static_cast<size_t>(o.alias)] : o;
}

std::string number_text(uint32_t dtype, const std::byte* at) {
  Operand one;
  one.dtype = dtype;
  one.data.assign(at, at + dtype_info(static_cast<DType>(dtype))->block_bytes);
  if (dtype == HADAL_I32 || dtype == HADAL_U32) return std::to_string(*one.values<int32_t>());
  return fmt::format("{:.9g}", static_cast<double>(decode(one, 0)));
}

class CaseCheck {
 public:
  CaseCheck(Case c, Chip& chip, Chip& ref, Line& line)
      : c_(std::move(c)), chip_(chip), ref_(ref), line_(line) {}
  /// What is wrong with the text of a decline or a refusal, or nothing.
  [[nodiscard]] const std::string& poor_text() const { return poor_text_; }

  /// Why the case failed, or nothing.
  std::string run(int32_t other_threads) {
    if (std::string why = adapt(c_, chip_.device(2)); !why.empty()) return why;
    layout_ = lay_out(c_, chip_.device(2).placement);
    Outcome found = run_case(c_, layout_, chip_.device(2), 0xff);
    line_.seconds += found.seconds;
    if (!found.violation.empty()) return found.violation;
    if (found.declined) return decline(found);
    if (c_.must_fail) return check_refusal(found);
    numerics_ = found.numerics;
    line_.add_class(numerics_);
    if (std::string why = ask_ref(); !why.empty()) return "ref itself refuses: " + why;
    if (found.status != HADAL_OK)
      return fmt::format("status {}: {}", static_cast<int>(found.status), found.text);
    std::string why = check_outcome(found);
    if (why.empty()) why = check_again(found, other_threads);
    if (why.empty() && chip_.info.row_invariant && c_.every_row) why = check_rows(found.images);
    return why;
  }

  /// The same with operands far away. `skipped`: why the chip's memory does not allow it.
  std::string run_far_away(Far far, std::string& skipped) {
    if (std::string why = adapt(c_, chip_.device(2)); !why.empty()) return why;
    layout_ = lay_out(c_, chip_.device(2).placement);
    const uint64_t largest = chip_.info.largest_allocation != 0 ? chip_.info.largest_allocation
                                                                : chip_.info.memory_total;
    if (const uint64_t bytes = far_bytes(layout_, far); bytes > largest) {
      skipped =
          fmt::format("{} bytes in one allocation are needed, the chip gives {}", bytes, largest);
      return {};
    }
    const Outcome found = run_far(c_, layout_, chip_.device(2), far);
    line_.seconds += found.seconds;
    if (found.declined || found.status == HADAL_OUT_OF_MEMORY) skipped = found.text;
    if (!skipped.empty()) return {};
    if (!found.violation.empty()) return found.violation;
    numerics_ = found.numerics;
    if (std::string why = ask_ref(); !why.empty()) return "ref itself refuses: " + why;
    if (found.status != HADAL_OK)
      return fmt::format("status {}: {}", static_cast<int>(found.status), found.text);
    return check_outcome(found);
  }

 private:
  /// What ref gives, into expected_; or why it gives nothing.
  std::string ask_ref() {
    if (has_parts(c_.id)) {  // with one output, their last operand
      expected_[contract::operand_count(c_.id) - 1] = run_parts(c_, ref_.device(1));
      return {};
    }
    const Outcome outcome = run_case(c_, layout_, ref_.device(1), 0xff);
    for (uint32_t i = 0; outcome.status == HADAL_OK && i < HADAL_MAX_OPERANDS; ++i)
      if (is_written(c_.id, i) && layout_.op.operands[i] >= 0)
        expected_[i] = extract(layout_, outcome.images, i);
    return outcome.status == HADAL_OK ? "" : outcome.text;
  }

  /// What a chip declines it does not offer; but it says why.
  std::string decline(const Outcome& found) {
    if (found.text.empty()) return "declined without a reason";
    poor_text_ = poor(found.text, found.declined_weight || found.declined_plane);
    ++line_.declined;
    if (line_.reason.empty()) line_.reason = found.text;
    return {};
  }

  std::string check_refusal(const Outcome& found) {
    if (found.status != HADAL_INVALID)
      return fmt::format("must be refused with HADAL_INVALID, but the status is {}",
                         static_cast<int>(found.status));
    if (found.text.empty()) return "refused, as it must be, but without a text";
    poor_text_ = poor(found.text, false);
    return {};
  }

  /// A text is to name the operator (of a weight or a plane, its type), a shape or a number that
  /// is out of bounds, and a limit or a remedy. The last cannot be told from here but by its
  /// length.
  [[nodiscard]] std::string poor(const std::string& text, bool of_memory) const {
    std::string lacks;
    const auto want = [&](bool there, const char* what) {
      if (!there) lacks += (lacks.empty() ? "" : ", ") + std::string(what);
    };
    const std::string op = contract::op_name(c_.id);
    if (!of_memory) want(text.find(op) != std::string::npos, "the operator");
    want(text.find_first_of("0123456789[") != std::string::npos, "a shape, a type or a number");
    want(std::count(text.begin(), text.end(), ' ') >= 3, "what was expected");
    return lacks.empty() ? "" : fmt::format("\"{}\" lacks {}", text, lacks);
  }

  std::string check_outcome(const Outcome& found) {
    std::string why = check_untouched(found.images);
    return why.empty() ? check_values(found) : why;
  }

  // Guard bands, gaps between rows and inputs keep their bytes; so do the outputs' rows above this
  // step's count, if the chip is row_invariant.
  std::string check_untouched(const Images& images) {
    const bool strict = chip_.info.row_invariant != 0;
    const auto compare = [&](const Bytes& before, const Bytes& after, const Bytes& writable,
                             hadal_space space, size_t plane = 0) -> std::string {
      for (size_t i = 0; i < before.size(); ++i)
        if (writable[i] != kWritten && (strict || writable[i] != kAboveCount) &&
            before[i] != after[i])
          return "wrote outside its outputs: " + nearest_operand(c_.id, layout_, space, plane, i);
      return {};
    };
    std::string why = compare(layout_.before.scratch, images.scratch, layout_.writable.scratch,
                              HADAL_SPACE_SCRATCH);
    if (why.empty())
      why =
          compare(layout_.before.inputs, images.inputs, layout_.writable.inputs, HADAL_SPACE_INPUT);
    if (why.empty())
      why = compare(layout_.before.outputs, images.outputs, layout_.writable.outputs,
                    HADAL_SPACE_OUTPUT);
    for (size_t i = 0; why.empty() && i < images.planes.size(); ++i)
      why = compare(layout_.before.planes[i], images.planes[i], layout_.writable.planes[i],
                    HADAL_SPACE_PLANE, i);
    return why;
  }

  std::string check_values(const Outcome& found) {
    for (uint32_t i = 0; i < contract::operand_count(c_.id); ++i) {
      if (!is_written(c_.id, i) || layout_.op.operands[i] < 0) continue;
      std::string why = check_output(found, i);
      if (!why.empty()) return why;
    }
    return {};
  }

  std::string check_output(const Outcome& found, uint32_t i) {
    if (c_.operands[i].plane && chip_.device(2).opaque_planes()) return check_plane(i, found);
    Bytes b = extract(layout_, found.images, i);
    if (c_.id == HADAL_OP_SAMPLE) return check_sample(i, expected_[i], b);
    // Without row_invariant a list may come in any order.
    const bool list = (c_.id == HADAL_OP_INDEX_TOPK && i == HADAL_INDEX_TOPK_LIST) ||
                      (c_.id == HADAL_OP_INDEX_BLOCKS && i == HADAL_INDEX_BLOCKS_LIST);
    if (list && !chip_.info.row_invariant) sort_lists(b, c_.operands[i].shape[1]);
    return check_operand(i, expected_[i], b, bounds_of(i));
  }

  /// They are the same for every run of the case.
  const std::vector<double>& bounds_of(uint32_t i) {
    if (!bounds_[i]) bounds_[i] = bounds(c_, i, expected_[i], numerics_);
    return *bounds_[i];
  }

  static void sort_lists(Bytes& bytes, int64_t width) {
    auto* first = reinterpret_cast<int32_t*>(bytes.data());
    int32_t* const last = first + bytes.size() / sizeof(int32_t);
    // -1 stands behind the entries.
    const auto before = [](int32_t a, int32_t b) {
      return static_cast<uint32_t>(a) < static_cast<uint32_t>(b);
    };
    for (; width > 0 && first < last; first += width) std::sort(first, first + width, before);
  }

  // An opaque plane as gqa_attention reads it, against what ref wrote.
  std::string check_plane(uint32_t i, const Outcome& found) {
    Operand after = c_.operands[i];
    after.data = expected_[i];
    const Case read = read_case(after);
    const Bytes rows = encode(decode_all(after), HADAL_F32);
    after.dtype = HADAL_F32;
    return check_numbers(i, after, rows, found.read_back[i],
                         bounds(read, HADAL_GQA_ATTENTION_OUT, rows, found.read_numerics));
  }

  std::string check_sample(uint32_t i, const Bytes& expected, const Bytes& found) {
    const auto* tokens = reinterpret_cast<const int32_t*>(found.data());
    if (i == HADAL_SAMPLE_TOKEN) {
      same_token_.clear();
      for (int64_t r = 0; r < c_.operands[i].shape[0]; ++r) {
        same_token_.push_back(std::memcmp(expected.data() + r * 4, found.data() + r * 4, 4) == 0);
        if (std::string why = wrong_token(c_, r, tokens[r]); !why.empty())
          return fmt::format("TOKEN[{}] = {}: {}", r, tokens[r], why);
      }
      return {};
    }
    return check_operand(i, expected, found, bounds_of(i));
  }

  std::string check_operand(uint32_t i, const Bytes& expected, const Bytes& found,
                            const std::vector<double>& bound) {
    return check_numbers(i, resolve(c_, i), expected, found, bound);
  }

  /// `o`: operand i, or what it was read as.
  std::string check_numbers(uint32_t i, const Operand& o, const Bytes& expected, const Bytes& found,
                            const std::vector<double>& bound) {
    const int64_t size = dtype_info(static_cast<DType>(o.dtype))->block_bytes;
    Operand a, b;
    a.dtype = b.dtype = o.dtype;
    a.data = expected;
    b.data = found;
    for (int64_t e = 0; e < o.count(); ++e) {
      if (c_.id == HADAL_OP_SAMPLE && i == HADAL_SAMPLE_LOGPROB &&
          !same_token_[static_cast<size_t>(e)])
        continue;
      const bool equal = std::memcmp(expected.data() + e * size, found.data() + e * size,
                                     static_cast<size_t>(size)) == 0;
      if (equal) continue;
      const double limit = bound.empty() ? 0 : bound[static_cast<size_t>(e)];
      if (limit == kNoValue) continue;
      std::string kind = "bits must be equal";
      if (!bound.empty() || o.dtype == HADAL_F16 || o.dtype == HADAL_BF16 || o.dtype == HADAL_F32) {
        const double x = static_cast<double>(decode(a, e));
        const double y = static_cast<double>(decode(b, e));
        if (std::isnan(x) && std::isnan(y)) continue;
        const double error = std::fabs(x - y);
        if (!bound.empty() && error <= limit) {
          line_.add_class(numerics_, error / limit);
          continue;
        }
        if (!bound.empty()) kind = fmt::format("error {:.3g}, bound {:.3g}", error, limit);
      }
      return fmt::format("{}[{}]: expected {}, found {}, {}",
                         upper(contract::operand_name(c_.id, i)), index_text(o, e),
                         number_text(o.dtype, expected.data() + e * size),
                         number_text(o.dtype, found.data() + e * size), kind);
    }
    return {};
  }

  // Again, with other garbage in the workspace, without the host's copy of the inputs, and with
  // another number of threads: the same bits, or, without row_invariant, within the same bounds.
  std::string check_again(const Outcome& found, int32_t threads) {
    const Outcome again = run_case(c_, layout_, chip_.device(threads), 0x7e);
    line_.seconds += again.seconds;
    if (!again.violation.empty()) return again.violation;
    if (again.status != HADAL_OK)
      return fmt::format("run again with {} thread(s): {}", threads, again.text);
    if (!chip_.info.row_invariant) {
      const std::string why = check_outcome(again);
      return why.empty() ? why : fmt::format("run again with {} thread(s): {}", threads, why);
    }
    return again.images == found.images && again.read_back == found.read_back
               ? ""
               : fmt::format("run again with {} thread(s) instead of 2: other bits", threads);
  }

  /// Rows of the case in a case of their own. They are rows [first, first + count) of all `rows`.
  struct Part {
    Case alone;
    int64_t first, count, rows;
  };

  std::vector<Part> parts() const {
    std::vector<Part> parts;
    if (c_.id == HADAL_OP_GROUPED_MATMUL) {
      const Operand& offset = c_.operands[HADAL_GROUPED_MATMUL_OFFSET];
      for (int64_t e = 0; e + 1 < offset.shape[0]; ++e) {
        const int64_t begin = offset.values<int32_t>()[e], end = offset.values<int32_t>()[e + 1];
        if (begin < end)
          parts.push_back({expert_alone(c_, e), begin, end - begin,
                           c_.operands[HADAL_GROUPED_MATMUL_OUT].shape[0]});
      }
      return parts;
    }
    const int64_t rows = c_.rows[c_.sliced];
    const auto add = [&](int64_t first, int64_t count) {
      parts.push_back({slice(c_, first, count), first, count, rows});
    };
    for (int64_t r = 0; r < rows; r += rows <= 8 ? 1 : rows / 5) add(r, 1);
    if (rows > 2) add(rows - 1, 1);
    if (rows > 3) add(1, rows - 2);
    return parts;
  }

  // The rule of bits: rows alone, and in chunks, have the bits that they have together.
  std::string check_rows(const Images& all) {
    for (const Part& part : parts()) {
      const Case& c = part.alone;
      const Layout layout = lay_out(c, chip_.device(2).placement);
      const Outcome alone = run_case(c, layout, chip_.device(part.count == 1 ? 1 : 3), 0xff);
      line_.seconds += alone.seconds;
      if (alone.status != HADAL_OK) return fmt::format("{}: {}", c.name, alone.text);
      for (uint32_t i = 0; i < contract::operand_count(c.id); ++i) {
        const Operand& o = resolve(c, i);
        if (!is_written(c.id, i) || !o.present() || o.row_dim != c.sliced) continue;
        const Bytes whole =
            extract(layout_, all, c.id == c_.id ? i : uint32_t{HADAL_GROUPED_MATMUL_OUT});
        const Bytes some = extract(layout, alone.images, i);
        const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(
                                               whole.size() / static_cast<size_t>(part.rows) *
                                               static_cast<size_t>(part.first));
        if (!std::equal(some.begin(), some.end(), begin))
          return fmt::format("row_invariant: {}: other bits than among {} rows",
                             c.name.empty() ? std::string(contract::op_name(c.id)) : c.name,
                             part.rows);
      }
    }
    return {};
  }

  Case c_;
  Chip& chip_;
  Chip& ref_;
  Line& line_;
  Layout layout_;
  std::string poor_text_;
  Numerics numerics_;
  std::array<Bytes, HADAL_MAX_OPERANDS> expected_;
  std::array<std::optional<std::vector<double>>, HADAL_MAX_OPERANDS> bounds_;
  std::vector<bool> same_token_;
};

/// Cases of every form of weights that the chip lists: the others take the first one alone.
std::vector<Case> form_cases(uint32_t id, Chip& chip, const Options& options) {
  std::vector<Case> cases;
  if (id != HADAL_OP_MATMUL && id != HADAL_OP_EMBED) return cases;
  const uint32_t use = id == HADAL_OP_MATMUL ? HADAL_USE_MATMUL : HADAL_USE_GATHER;
  const uint32_t operand =
      id == HADAL_OP_MATMUL ? uint32_t{HADAL_MATMUL_W} : uint32_t{HADAL_EMBED_TABLE};
  const Forms forms = weight_forms(chip.device(2), use);
  for (const hadal_weight_form& form : forms.list)
    for (Case c : make_cases(id, options.seed, true, options.light)) {
      const WeightData* w = c.operands[operand].weight.get();
      if (c.must_fail || w->desc.dtype != HADAL_BF16) continue;
      const auto converted = in_form(*w, form);
      if (!converted) continue;
      c.operands[operand].weight = converted;
      c.operands[operand].dtype = form.dtype;
      c.name = "the form " + weight_form(form).text();
      cases.push_back(std::move(c));
    }
  return cases;
}

/// Operands that lie so far away that 32 bits do not hold where: offsets, then strides of rows.
void check_far(const std::vector<Case>& cases, Chip& chip, Chip& ref, Report& report,
               const std::string& name) {
  for (const Far far : {Far::kOffsets, Far::kRowStrides}) {
    const auto fits = std::find_if(cases.begin(), cases.end(), [far](const Case& c) {
      return !c.must_fail && !c.wrong_data && c.rows[HADAL_DIM_T] + c.rows[HADAL_DIM_R] > 0 &&
             (far == Far::kOffsets || fits_far_rows(c));
    });
    if (fits == cases.end()) continue;
    const std::string text =
        std::string(far == Far::kOffsets ? "offsets from 2^31 on; " : "rows 2^30 bytes apart; ") +
        describe(*fits);
    if (!report.begin(name, text)) continue;
    Line& line = report.line(name);
    ++line.cases;
    std::string skipped;
    CaseCheck check(*fits, chip, ref, line);
    if (const std::string why = check.run_far_away(far, skipped); !why.empty())
      report.fail(name, text + ": " + why);
    if (skipped.empty()) continue;
    ++line.declined;
    if (line.reason.empty()) line.reason = text + ": not tried: " + skipped;
  }
}

}  // namespace

void level_operator(Chip& chip, Chip& ref, uint32_t id, const Options& options, Report& report) {
  const std::string name = contract::op_name(id);
  report.line(name);
  int32_t threads = 1;
  std::vector<Case> cases = make_cases(id, options.seed, options.quick, options.light);
  for (Case& c : form_cases(id, chip, options)) cases.push_back(std::move(c));
  for (const Case& c : cases) {
    if (c.wrong_data) continue;
    threads = 4 - threads;  // 3, 1, 3, …
    if (!report.begin(name, describe(c))) continue;
    Line& line = report.line(name);
    ++line.cases;
    CaseCheck check(c, chip, ref, line);
    if (const std::string why = check.run(threads); !why.empty())
      report.fail(name, describe(c) + ": " + why);
    // One text of an operator shows how they are written.
    if (!check.poor_text().empty() && !report.find(kTexts))
      report.note(kTexts, name + ": " + check.poor_text());
  }
  if (!options.quick) check_far(cases, chip, ref, report, name);
}

void level_errors(Chip& chip, uint32_t id, const Options& options, Report& report) {
  report.line(kErrors);
  for (Case c : make_cases(id, options.seed, options.quick, options.light)) {
    if (!c.wrong_data) continue;
    const std::string text = fmt::format("{}: {}", contract::op_name(id), describe(c));
    if (!report.begin(kErrors, text)) continue;
    if (const std::string why = adapt(c, chip.device(2)); !why.empty()) continue;
    const Outcome found = run_case(c, lay_out(c, chip.device(2).placement), chip.device(2), 0xff);
    if (found.declined || !found.violation.empty()) continue;
    Line& line = report.line(kErrors);
    ++line.cases;
    if (found.status == HADAL_INVALID && !found.text.empty())
      ++line.declined;
    else
      report.note(kErrors, fmt::format("{}: taken, with status {} {}", text,
                                       static_cast<int>(found.status), found.text));
  }
}

}  // namespace hadal::conformance
