#include "levels/choices.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "contract/operators.h"

namespace hadal::conformance {
namespace {

constexpr double kSigmas = 6;
// Sums in another order change how a number of the cache is rounded, by 2^-10 of itself in F16: so
// much scores may move by on a chip whose classes round nothing.
constexpr double kExactPart = 0x1p-10;
constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

/// How far rounding may move the score of each candidate.
using Reach = std::vector<double>;

std::vector<int32_t> sorted(Choice choice) {
  std::sort(choice.begin(), choice.end());
  return choice;
}

bool holds(const Choice& choice, int64_t number) {
  return std::find(choice.begin(), choice.end(), static_cast<int32_t>(number)) != choice.end();
}

/// What a router on ref gives for rows of logits; `chosen`: its choices are given, and not made.
Outcome route(const Chooser& router, const std::vector<std::vector<float>>& rows,
              const Choice* chosen, const Device& ref, Layout& layout) {
  const auto count = static_cast<int64_t>(rows.size()),
             experts = static_cast<int64_t>(rows[0].size());
  const auto fan = static_cast<int64_t>(router.fan);
  Case c;
  c.id = HADAL_OP_ROUTER;
  c.attr = router.op.attr;
  c.rows[HADAL_DIM_T] = count;
  std::vector<float> logits;
  for (const std::vector<float>& row : rows) logits.insert(logits.end(), row.begin(), row.end());
  c.operands[HADAL_ROUTER_LOGITS] = floats({count, experts}, HADAL_DIM_T, logits);
  if (!router.bias.empty() && !chosen)
    c.operands[HADAL_ROUTER_BIAS] = weight_operand(make_vector(router.bias), {experts});
  if (chosen) {
    c.attr.router.groups = c.attr.router.groups_kept = c.attr.router.group_best = 1;
    c.operands[HADAL_ROUTER_TOKEN] =
        ints({count}, HADAL_DIM_T, std::vector<int32_t>(static_cast<size_t>(count), 0));
    c.operands[HADAL_ROUTER_HASH] = weight_operand(make_table(*chosen, fan, HADAL_I32), {1, fan});
  }
  c.operands[HADAL_ROUTER_EXPERT] = output(HADAL_I32, {count, fan}, HADAL_DIM_T);
  c.operands[HADAL_ROUTER_WEIGHT] = output(HADAL_F32, {count, fan}, HADAL_DIM_T);
  layout = lay_out(c, ref.placement);
  return run_case(c, layout, ref, 0);
}

/// What an expert's logit counts for in a choice, or a number that grows with it: with softmax,
/// where these models have neither a bias nor groups, the logit.
double worth(const Chooser& router, size_t expert, double logit) {
  double score = logit;
  if (router.op.attr.router.score == HADAL_ROUTER_SIGMOID) score = 1 / (1 + std::exp(-logit));
  if (router.op.attr.router.score == HADAL_ROUTER_SQRT_SOFTPLUS)
    score = std::sqrt(std::max(logit, 0.0) + std::log1p(std::exp(-std::fabs(logit))));
  return router.bias.empty() ? score : score + double{router.bias[expert]};
}

/// The largest logit of an expert from `low` to `high` that is worth less than `limit`, or `low`.
float below(const Chooser& router, size_t expert, double low, double high, double limit) {
  if (worth(router, expert, high) < limit) return static_cast<float>(high);
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (worth(router, expert, middle) < limit ? low : high) = middle;
  }
  return std::nextafter(static_cast<float>(low), -INFINITY);
}

/// Logits that speak for a choice, each moved by no more than it may: a row for each set of groups
/// that may be the kept ones. Its experts are higher, other groups lower; and of the groups that
/// are kept the other experts as high as they may be below all that are chosen, since what is good
/// in a group keeps another group out. So if the choice comes out at all, one of these gives it.
std::vector<std::vector<float>> in_favour(const Chooser& router, const std::vector<float>& logits,
                                          const Choice& choice, const Reach& reach) {
  const size_t groups = std::max<size_t>(1, router.op.attr.router.groups);
  const size_t run = logits.size() / groups;
  size_t needed = 0;  // groups, a bit each
  std::vector<float> row = logits;
  double limit = INFINITY;
  for (const int32_t e : choice) {
    const auto expert = static_cast<size_t>(e);
    needed |= size_t{1} << expert / run;
    row[expert] = static_cast<float>(double{logits[expert]} + reach[expert]);
    limit = std::min(limit, worth(router, expert, double{row[expert]}));
  }
  std::vector<std::vector<float>> rows;
  for (size_t kept = 0; kept < size_t{1} << groups; ++kept) {
    if ((kept & needed) != needed) continue;
    for (size_t e = 0; e < row.size(); ++e) {
      if (holds(choice, static_cast<int64_t>(e))) continue;
      const double low = double{logits[e]} - reach[e], high = double{logits[e]} + reach[e];
      row[e] =
          (kept >> e / run & 1) != 0 ? below(router, e, low, high, limit) : static_cast<float>(low);
    }
    rows.push_back(row);
  }
  return rows;
}

/// Of one row: why nothing explains the choice, or nothing.
std::string judge_router(const Chooser& router, const Candidates& exact, const Choice& choice,
                         const Reach& reach, const Device& ref) {
  for (const int32_t e : choice)
    if (e < 0 || static_cast<size_t>(e) >= exact.scores.size()) return "no such expert";
  Layout layout;
  const Outcome outcome =
      route(router, in_favour(router, exact.scores, choice, reach), nullptr, ref, layout);
  if (outcome.status != HADAL_OK) return "ref's router fails: " + outcome.text;
  const Bytes experts = extract(layout, outcome.images, HADAL_ROUTER_EXPERT);
  for (size_t row = 0; row * choice.size() * 4 < experts.size(); ++row) {
    Choice given(choice.size());
    std::memcpy(given.data(), experts.data() + row * choice.size() * 4, choice.size() * 4);
    if (sorted(given) == sorted(choice)) return {};
  }
  return fmt::format("it does not come out if each logit moves by as much as {:.3g}",
                     *std::max_element(reach.begin(), reach.end()));
}

std::string judge_index(const Candidates& exact, const Choice& choice, const Reach& reach) {
  size_t chosen = 0, own = 0;
  int32_t last = -1;
  for (const int32_t e : choice) {
    if (e < 0) continue;
    if (e <= last) return "it does not ascend";
    last = e;
    ++chosen;
    if (static_cast<size_t>(e) >= exact.scores.size() ||
        std::isnan(exact.scores[static_cast<size_t>(e)]))
      return fmt::format("{} cannot be seen, or is no candidate", e);
  }
  for (const int32_t e : exact.own) own += e >= 0;
  if (chosen != own) return fmt::format("{} are chosen, {} could be", chosen, own);
  for (const int32_t e : choice) {
    if (e < 0 || e == exact.always) continue;
    const auto in = static_cast<size_t>(e);
    for (size_t out = 0; out < exact.scores.size(); ++out) {
      if (std::isnan(exact.scores[out]) || holds(choice, static_cast<int64_t>(out))) continue;
      const double lead = double{exact.scores[out]} - double{exact.scores[in]};
      if (lead > reach[in] + reach[out])
        return fmt::format(
            "{} was left out and has a score larger than that of {} by {:.3g}, and "
            "{:.3g} is allowed",
            out, in, lead, reach[in] + reach[out]);
    }
  }
  return {};
}

/// Of the scores of one row or of many: what the classes moved them by, and how large they are.
struct Moves {
  double squares = 0, sizes = 0, count = 0;

  void add(const Candidates& exact, const Candidates& classed) {
    for (size_t i = 0; i < exact.scores.size() && i < classed.scores.size(); ++i) {
      if (std::isnan(exact.scores[i]) || std::isnan(classed.scores[i])) continue;
      squares += std::pow(double{classed.scores[i]} - double{exact.scores[i]}, 2);
      sizes += std::pow(double{exact.scores[i]}, 2);
      ++count;
    }
  }
  /// How far rounding may move a score: two of them by six standard deviations of their difference.
  [[nodiscard]] double reach() const {
    const double n = std::max(1.0, count);
    return std::max(kSigmas * std::sqrt(squares / n / 2), kExactPart * std::sqrt(sizes / n) / 2);
  }
};

/// Of each score of a row. Rows differ in size, and so do the candidates of one: a score of heads
/// that all look away stays zero whatever moves, which says nothing of the others. So what the
/// classes move all scores by counts, this row's, or this score, whichever is most.
Reach reach_of(const Moves& all, const Candidates& exact, const Candidates* classed) {
  Moves row;
  if (classed) row.add(exact, *classed);
  Reach reach(exact.scores.size(), std::max(all.reach(), row.reach()));
  for (size_t i = 0; classed && i < reach.size() && i < classed->scores.size(); ++i)
    if (!std::isnan(exact.scores[i]) && !std::isnan(classed->scores[i]))
      reach[i] = std::max(
          reach[i], kSigmas * std::fabs(double{classed->scores[i]} - double{exact.scores[i]}) /
                        std::sqrt(2.0));
  return reach;
}

}  // namespace

float RowView::number(int64_t row, int64_t middle, int64_t column) const {
  const int64_t at = row * tensor->strides[0] +
                     (tensor->rank > 2 ? middle * tensor->strides[1] + column * tensor->strides[2]
                                       : column * tensor->strides[1]);
  float value = 0;
  std::memcpy(&value, bytes + at, sizeof value);
  return value;
}

Candidates index_candidates(const hadal_op& op, const IndexRow& r) {
  const auto ratio = std::max<int64_t>(1, op.attr.index.ratio),
             size = static_cast<int64_t>(op.attr.index.block_size);
  const int64_t heads = r.q.tensor->extents[1], width = r.q.tensor->extents[2];
  const EntryRange seen = entry_range(r.position, 0, ratio, 0);
  const bool blocks = op.id == HADAL_OP_INDEX_BLOCKS;
  Candidates c;
  for (int64_t e = seen.begin; e < seen.end; ++e) {
    double score = 0;
    const std::vector<float> key = r.key(e);
    for (int64_t h = 0; h < heads; ++h) {
      double product = 0;
      for (int64_t i = 0; i < width; ++i)
        product += double{r.q.number(r.row, h, i)} * double{key[static_cast<size_t>(i)]};
      score += double{r.weight.number(r.row, 0, h)} * std::max(0.0, product);
    }
    const auto candidate = static_cast<size_t>(blocks ? e / size : e);
    if (c.scores.size() <= candidate) c.scores.resize(candidate + 1, kNone);
    float& known = c.scores[candidate];
    const bool searched = !r.candidates || holds(*r.candidates, e / size);
    if (searched && !(known >= static_cast<float>(score))) known = static_cast<float>(score);
  }
  if (blocks && seen.end > seen.begin) c.always = static_cast<int32_t>((seen.end - 1) / size);
  return c;
}

std::vector<float> router_weights(const Chooser& router, const std::vector<float>& logits,
                                  const Choice& choice, const Device& ref) {
  Layout layout;
  const Outcome outcome = route(router, {logits}, &choice, ref, layout);
  std::vector<float> weights(choice.size(), kNone);
  if (outcome.status != HADAL_OK) return weights;
  const Bytes bytes = extract(layout, outcome.images, HADAL_ROUTER_WEIGHT);
  std::memcpy(weights.data(), bytes.data(), std::min(bytes.size(), weights.size() * 4));
  return weights;
}

std::string judge_choices(const std::vector<Chooser>& choosers, const Choices& found,
                          const ByChoice<Candidates>& exact, const ByChoice<Candidates>& classed,
                          const Device& ref, int64_t& differ) {
  std::vector<Moves> moves(choosers.size());
  exact.each([&](size_t op, size_t s, size_t p, const Candidates& e) {
    if (const Candidates* c = classed.find(op, static_cast<int32_t>(s), static_cast<int32_t>(p)))
      moves[op].add(e, *c);
  });
  std::string why;
  exact.each([&](size_t op, size_t s, size_t p, const Candidates& e) {
    const Choice* choice = found.find(op, static_cast<int32_t>(s), static_cast<int32_t>(p));
    if (e.own.empty() || !why.empty()) return;
    const std::string_view name = contract::op_name(choosers[op].op.id);
    if (!choice || choice->size() != e.own.size()) {
      why = fmt::format("{}: sequence {}, position {}: nothing was chosen", name, s, p);
      return;
    }
    if (sorted(*choice) == sorted(e.own)) return;
    ++differ;
    const Reach reach =
        reach_of(moves[op], e, classed.find(op, static_cast<int32_t>(s), static_cast<int32_t>(p)));
    const bool router = choosers[op].op.id == HADAL_OP_ROUTER;
    const std::string broken = router ? judge_router(choosers[op], e, *choice, reach, ref)
                                      : judge_index(e, *choice, reach);
    if (!broken.empty())
      why = fmt::format("{}: sequence {}, position {}: {} instead of {} is not explained: {}", name,
                        s, p, fmt::join(*choice, ","), fmt::join(e.own, ","), broken);
  });
  return why;
}

}  // namespace hadal::conformance
