#include "levels/oracle.h"

#include <fmt/format.h>

#include <cmath>

namespace hadal::conformance {
namespace {

// An exact chip that is not row_invariant rounds its sums in another order, which may change how a
// number of the cache is rounded: by 2^-10 of itself in F16. Were every key and value of both
// layers off by so much, and nothing cancelled, logits would move by four times that.
constexpr double kExactPart = 0x1p-8;

std::string table_name(const Numerics& n) {
  switch (n.kind) {
    case HADAL_NUMERICS_BLOCK8:
      return n.block == 256 ? "int8-256" : "int8";
    case HADAL_NUMERICS_HALF:
      return "half";
    case HADAL_NUMERICS_FP8:
      return "fp8";
    case HADAL_NUMERICS_ROW8:
      return "row8";
    default:
      return "ref";
  }
}

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

double mean_kl(const Trace& exact, const Trace& found) {
  double sum = 0, count = 0;
  each_row(exact, found, [&](const auto& e, const auto& f, size_t, size_t) {
    const std::vector<double> p = log_softmax(e), q = log_softmax(f);
    for (size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i]) * (p[i] - q[i]);
    ++count;
  });
  return count > 0 ? std::max(0.0, sum / count) : 0;
}

double deviation(const Trace& exact, const Trace& found) {
  double squares = 0, count = 0;
  each_row(exact, found, [&](const auto& e, const auto& f, size_t, size_t) {
    for (size_t i = 0; i < e.size(); ++i) {
      squares += std::pow(static_cast<double>(f[i]) - static_cast<double>(e[i]), 2);
      ++count;
    }
  });
  return count > 0 ? std::sqrt(squares / count) : 0;
}

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
  const std::string name = table_name(numerics);
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

Oracle::Oracle(Chip& ref, RefTables& tables, const TinyModel& model, uint32_t dtype, uint64_t seed,
               const Plan& plan) {
  // Built once: memories and weights of ref may be used across its devices.
  TinyModel twin(ref, ref.device(1), dtype, seed, &model);
  twin.force_tokens();
  if (!twin.ready()) {
    error_ = "ref cannot build the model: " + twin.error();
    return;
  }
  exact_ = follow(twin, plan, RunMode::kOneByOne);
  std::vector<const Device*> devices;
  for (const Numerics& n : model.classes()) {
    devices.push_back(tables.device(n));
    if (!devices.back()) error_ = tables.why();
  }
  if (error_.empty() && !twin.spread(std::move(devices))) error_ = "ref declines one of its tables";
  if (!error_.empty()) return;
  const Trace classed = follow(twin, plan, RunMode::kOneByOne);
  error_ = exact_.error.empty() ? classed.error : exact_.error;
  class_kl_ = mean_kl(exact_, classed);
  sigma_ = deviation(exact_, classed);
}

double Oracle::part(const Trace& found) const {
  return rounds() ? mean_kl(exact_, found) / (2 * class_kl_) : 0;
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
    const double moved = deviation(exact_, found);
    return moved <= kExactPart * size
               ? ""
               : fmt::format("logits are {:.3g} from ref, largest logit {:.3g}", moved, size);
  }
  if (const double kl = mean_kl(exact_, found); !(kl <= 2 * class_kl_))
    return fmt::format(
        "mean divergence from ref {:.3g}; ref in the classes that the chip answered has {:.3g}, "
        "and twice that is allowed",
        kl, class_kl_);
  std::string why;
  each_row(exact_, found, [&](const auto& e, const auto& f, size_t s, size_t i) {
    const size_t best = argmax(e), chosen = argmax(f);
    const double margin = static_cast<double>(e[best]) - static_cast<double>(e[chosen]);
    if (chosen != best && margin > 6 * sigma_ && why.empty())
      why = fmt::format(
          "sequence {}, answer {}: the most likely token is {}, in ref {}, by a margin of {:.3g}; "
          "the classes move a logit by {:.3g}",
          s, i, chosen, best, margin, sigma_);
  });
  return why;
}

}  // namespace hadal::conformance
