#include "levels/oracle.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "contract/operators.h"

namespace hadal::conformance {
namespace {

// An exact chip that is not row_invariant rounds its sums in another order, which may change how a
// number of the cache is rounded: by 2^-10 of itself in F16. Were every key and value of both
// layers off by so much, and nothing cancelled, logits would move by four times that.
constexpr double kExactPart = 0x1p-8;
// Another expert or entry moves a row by many times the median: beyond four times, a row counts as
// one whose choice differs. Chosen on seeds 1 to 5 of the stand-ins; six failed more of them.
constexpr double kJump = 4;

std::vector<double> log_softmax(const std::vector<float>& logits) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - largest);
  std::vector<double> logs;
  for (const float l : logits) logs.push_back(static_cast<double>(l) - largest - std::log(sum));
  return logs;
}

size_t argmax(const std::vector<float>& logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Calls visit(exact logits, found logits, sequence, row) where both have an answer.
template <typename Visit>
void each_row(const Trace& exact, const Trace& found, Visit visit) {
  for (size_t s = 0; s < 2; ++s)
    for (size_t i = 0; i < exact.rows[s].size() && i < found.rows[s].size(); ++i)
      visit(exact.rows[s][i].logits, found.rows[s][i].logits, s, i);
}

using Skip = std::vector<bool>;  // by row, in the order of each_row; empty: none

double mean_kl(const Trace& exact, const Trace& found, const Skip& skip) {
  double sum = 0, count = 0;
  size_t row = 0;
  each_row(exact, found, [&](const auto& e, const auto& f, size_t, size_t) {
    if (row++; !skip.empty() && skip[row - 1]) return;
    const std::vector<double> p = log_softmax(e), q = log_softmax(f);
    for (size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i]) * (p[i] - q[i]);
    ++count;
  });
  return count > 0 ? std::max(0.0, sum / count) : 0;
}

double deviation(const std::vector<float>& e, const std::vector<float>& f) {
  double squares = 0;
  for (size_t i = 0; i < e.size(); ++i)
    squares += std::pow(static_cast<double>(f[i]) - static_cast<double>(e[i]), 2);
  return std::sqrt(squares / static_cast<double>(std::max<size_t>(1, e.size())));
}

double deviation(const Trace& exact, const Trace& found, const Skip& skip) {
  double squares = 0, count = 0;
  size_t row = 0;
  each_row(exact, found, [&](const auto& e, const auto& f, size_t, size_t) {
    if (row++; !skip.empty() && skip[row - 1]) return;
    squares += std::pow(deviation(e, f), 2);
    ++count;
  });
  return count > 0 ? std::sqrt(squares / count) : 0;
}

double median_row(const Trace& exact, const Trace& found) {
  std::vector<double> rows;
  each_row(exact, found,
           [&](const auto& e, const auto& f, size_t, size_t) { rows.push_back(deviation(e, f)); });
  if (rows.empty()) return 0;
  std::nth_element(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(rows.size() / 2),
                   rows.end());
  return rows[rows.size() / 2];
}

int64_t count(const Skip& rows) { return std::count(rows.begin(), rows.end(), true); }

}  // namespace

Trace follow(TinyModel& model, const Plan& plan, RunMode mode) {
  Trace trace;
  model.reset();
  for (size_t i = 0; i < plan.size(); ++i) {
    std::vector<Answer> answers;
    const hadal_status status = model.step(plan[i], mode, nullptr, answers);
    if (status != HADAL_OK) {
      trace.error =
          fmt::format("step {}: status {}: {}", i, static_cast<int>(status), model.error());
      return trace;
    }
    for (Answer& a : answers) {
      if (!a.finite)
        trace.error = fmt::format("step {}: logits or log-probabilities are not finite", i);
      trace.rows[static_cast<size_t>(a.sequence)].push_back(std::move(a));
    }
  }
  return trace;
}

const Device* RefTables::device(const Numerics& numerics) {
  const std::string name = contract::reference_table(numerics.kind, numerics.block);
  std::unique_ptr<Chip>& chip = chips_[name];
  if (!chip) {
    auto opened = std::make_unique<Chip>();
    if (const std::string why = opened->open("ref", name); !why.empty()) {
      why_ = why;
      return nullptr;
    }
    opened->table.plane_bytes = nullptr;
    chip = std::move(opened);
  }
  return &chip->device(1);
}

Oracle::Oracle(Chip& ref, RefTables& tables, const TinyModel& model, const TinySpec& spec,
               const Plan& plan) {
  // Built once: memories and weights of ref may be used across its devices.
  TinyModel twin(ref, ref.device(1), spec, &model);
  twin.force_tokens();
  if (!twin.ready()) {
    error_ = "ref cannot build the model: " + twin.error();
    return;
  }
  exact_ = follow(twin, plan, RunMode::kOneByOne);
  std::vector<const Device*> devices;
  for (const Numerics& n : twin.classes()) {
    devices.push_back(tables.device(n));
    if (!devices.back()) error_ = tables.why();
  }
  if (error_.empty() && !twin.spread(std::move(devices))) error_ = "ref declines one of its tables";
  if (!error_.empty()) return;
  classed_ = follow(twin, plan, RunMode::kOneByOne);
  error_ = exact_.error.empty() ? classed_.error : exact_.error;
  chooses_ = spec.family != "llama";
  row_ = median_row(exact_, classed_);
  class_kl_ = mean_kl(exact_, classed_, {});
  sigma_ = deviation(exact_, classed_, jumped(classed_));
}

/// Rows whose logits moved by kJump times what the classes move those of most rows by.
std::vector<bool> Oracle::jumped(const Trace& found) const {
  std::vector<bool> rows;
  each_row(exact_, found, [&](const auto& e, const auto& f, size_t, size_t) {
    rows.push_back(chooses_ && deviation(e, f) > kJump * row_);
  });
  return rows;
}

std::vector<bool> Oracle::set_apart(const Trace& found) const {
  std::vector<bool> rows = jumped(found);
  const std::vector<bool> of_classes = jumped(classed_);
  for (size_t i = 0; i < rows.size() && i < of_classes.size(); ++i)
    rows[i] = rows[i] || of_classes[i];
  return rows;
}

double Oracle::part(const Trace& found) const {
  if (!rounds()) return 0;
  const std::vector<bool> apart = set_apart(found);
  const double allowed = 2 * mean_kl(exact_, classed_, apart);
  const double kl = mean_kl(exact_, found, apart);
  return allowed > 0 ? kl / allowed : kl > 0 ? std::numeric_limits<double>::infinity() : 0;
}

Json Oracle::measure(const Trace& found) const {
  int64_t beyond = 0, logits = 0, flips = 0;
  each_row(exact_, found, [&](const auto& e, const auto& f, size_t, size_t) {
    for (size_t i = 0; i < e.size(); ++i)
      beyond += std::fabs(static_cast<double>(f[i]) - static_cast<double>(e[i])) > 6 * sigma_;
    logits += static_cast<int64_t>(e.size());
    flips += argmax(e) != argmax(f);
  });
  return {{"kl", mean_kl(exact_, found, {})},
          {"class_kl", class_kl_},
          {"part", part(found)},
          {"sigma", sigma_},
          {"beyond", beyond},
          {"logits", logits},
          {"flips", flips},
          {"jumped", count(jumped(found))},
          {"class_jumped", count(jumped(classed_))}};
}

double Oracle::sigma_of(size_t a, size_t b) const {
  const std::vector<bool> skip = jumped(classed_);
  double squares = 0, count = 0;
  size_t row = 0;
  each_row(exact_, classed_, [&](const auto& e, const auto& f, size_t, size_t) {
    if (skip[row++]) return;
    for (const size_t i : {a, b})
      squares += std::pow(static_cast<double>(f[i]) - static_cast<double>(e[i]), 2);
    ++count;
  });
  return std::max(sigma_, count > 0 ? std::sqrt(squares / count) : 0);
}

std::string Oracle::judge_greedy(const Trace& found, const std::vector<bool>& apart) const {
  std::string why;
  size_t row = 0;
  each_row(exact_, found, [&](const auto& e, const auto& f, size_t s, size_t i) {
    const size_t best = argmax(e), chosen = argmax(f);
    const double margin = static_cast<double>(e[best]) - static_cast<double>(e[chosen]);
    if (row++; apart[row - 1] || chosen == best || !why.empty()) return;
    if (const double sigma = sigma_of(best, chosen); margin > 6 * sigma)
      why = fmt::format(
          "sequence {}, answer {}: the most likely token is {}, in ref {}, by a margin of {:.3g}; "
          "the classes move these logits by {:.3g}",
          s, i, chosen, best, margin, sigma);
  });
  return why;
}

std::string Oracle::judge(const Trace& found) const {
  if (!found.error.empty()) return found.error;
  for (size_t s = 0; s < 2; ++s)
    if (found.rows[s].size() != exact_.rows[s].size())
      return fmt::format("{} answers of sequence {}, expected {}", found.rows[s].size(), s,
                         exact_.rows[s].size());
  if (!rounds()) {
    double size = 0;
    for (const auto& sequence : exact_.rows)
      for (const Answer& a : sequence)
        for (const float l : a.logits) size = std::max(size, std::fabs(static_cast<double>(l)));
    const double moved = deviation(exact_, found, {});
    return moved <= kExactPart * size
               ? ""
               : fmt::format("logits are {:.3g} from ref, largest logit {:.3g}", moved, size);
  }
  const std::vector<bool> apart = set_apart(found);
  const int64_t jumps = count(jumped(found));
  const int64_t allowed = 2 * count(jumped(classed_)) + static_cast<int64_t>(apart.size()) / 10;
  if (jumps > allowed)
    return fmt::format(
        "the logits of {} of {} rows jump: by more than {} times what the classes move those of "
        "most rows by; {} are allowed",
        jumps, apart.size(), kJump, allowed);
  if (!(part(found) <= 1))
    return fmt::format(
        "mean divergence from ref {:.3g}; ref in the classes that the chip answered has {:.3g}, "
        "and twice that is allowed",
        mean_kl(exact_, found, apart), mean_kl(exact_, classed_, apart));
  return judge_greedy(found, apart);
}

}  // namespace hadal::conformance
