#include "contract/distance.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace hadal::contract {
namespace {

constexpr double kSigmas = 6;

std::vector<double> log_softmax(const std::vector<float>& logits) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - largest);
  std::vector<double> logs;
  logs.reserve(logits.size());
  for (const float l : logits) logs.push_back(static_cast<double>(l) - largest - std::log(sum));
  return logs;
}

double mean_kl(const LogitRows& exact, const LogitRows& found) {
  double sum = 0;
  for (size_t row = 0; row < exact.size(); ++row) {
    const std::vector<double> p = log_softmax(exact[row]), q = log_softmax(found[row]);
    for (size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i]) * (p[i] - q[i]);
  }
  return std::max(0.0, sum / static_cast<double>(exact.size()));
}

double moved(const std::vector<float>& a, const std::vector<float>& b, size_t i) {
  return static_cast<double>(b[i]) - static_cast<double>(a[i]);
}

/// Root of the mean square of what logits moved by.
double deviation(const LogitRows& exact, const LogitRows& found) {
  double squares = 0, count = 0;
  for (size_t row = 0; row < exact.size(); ++row)
    for (size_t i = 0; i < exact[row].size(); ++i, ++count)
      squares += std::pow(moved(exact[row], found[row], i), 2);
  return count > 0 ? std::sqrt(squares / count) : 0;
}

/// What the classes move the difference of two tokens' logits by.
double deviation_of(const LogitRows& exact, const LogitRows& classed, size_t a, size_t b) {
  double squares = 0;
  for (size_t row = 0; row < exact.size(); ++row)
    squares += std::pow(moved(exact[row], classed[row], a), 2) +
               std::pow(moved(exact[row], classed[row], b), 2);
  return std::sqrt(squares / static_cast<double>(exact.size()));
}

size_t argmax(const std::vector<float>& logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double margin(const std::vector<float>& logits, size_t best) {
  auto second = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < logits.size(); ++i)
    if (i != best) second = std::max(second, static_cast<double>(logits[i]));
  return static_cast<double>(logits[best]) - second;
}

std::string same_form(const LogitRows& exact, const LogitRows& other) {
  if (exact.empty()) return "no position was compared";
  if (other.size() != exact.size())
    return std::to_string(other.size()) + " rows of logits, expected " +
           std::to_string(exact.size());
  for (size_t row = 0; row < exact.size(); ++row) {
    if (other[row].size() != exact[row].size() || exact[row].empty())
      return "row " + std::to_string(row) + " has " + std::to_string(other[row].size()) +
             " logits, expected " + std::to_string(exact[row].size());
    for (const float l : other[row])
      if (!std::isfinite(l)) return "row " + std::to_string(row) + " holds logits not finite";
  }
  return {};
}

template <typename... T>
std::string text(const char* format, T... values) {
  char out[320];
  std::snprintf(out, sizeof out, format, values...);
  return out;
}

std::string judge_exact(const LogitRows& exact, double deviation) {
  double size = 0;
  for (const std::vector<float>& row : exact)
    for (const float l : row) size = std::max(size, std::fabs(static_cast<double>(l)));
  if (deviation <= kExactPart * size) return {};
  return text("logits are %.3g from ref, which rounds as little; the largest logit is %.3g",
              deviation, size);
}

/// The first rule.
void judge_mean(Distance& d) {
  d.mean.clear();
  d.part = d.class_kl > 0 ? d.kl / (2 * d.class_kl) : 0;
  if (d.class_kl > 0 && !(d.part <= 1))
    d.mean = text(
        "mean divergence from ref %.3g; ref in the classes that the chip answered has "
        "%.3g, and twice that is allowed",
        d.kl, d.class_kl);
}

/// The mean of `a`, of n numbers, and of `b`, of m.
double mean_of(double a, int64_t n, double b, int64_t m) {
  const auto x = static_cast<double>(n), y = static_cast<double>(m);
  return x + y > 0 ? (a * x + b * y) / (x + y) : 0;
}

}  // namespace

void Distance::join(const Distance& other) {
  kl = mean_of(kl, positions, other.kl, other.positions);
  class_kl = mean_of(class_kl, positions, other.class_kl, other.positions);
  sigma = std::sqrt(mean_of(sigma * sigma, logits, other.sigma * other.sigma, other.logits));
  positions += other.positions;
  logits += other.logits;
  beyond += other.beyond;
  sure += other.sure;
  flips += other.flips;
  if (rows.empty()) rows = other.rows;
  judge_mean(*this);
}

Distance measure_distance(const LogitRows& exact, const LogitRows& classed,
                          const LogitRows& found) {
  Distance d;
  for (const LogitRows* rows : {&exact, &classed, &found})
    if (d.rows = same_form(exact, *rows); !d.rows.empty()) return d;
  d.positions = static_cast<int64_t>(exact.size());
  d.kl = mean_kl(exact, found);
  d.class_kl = mean_kl(exact, classed);
  d.sigma = deviation(exact, classed);
  const bool rounds = d.class_kl > 0;
  for (size_t row = 0; row < exact.size(); ++row) {
    const std::vector<float>& e = exact[row];
    d.logits += static_cast<int64_t>(e.size());
    for (size_t i = 0; i < e.size(); ++i)
      d.beyond += rounds && std::fabs(moved(e, found[row], i)) > kSigmas * d.sigma;
    const size_t best = argmax(e), chosen = argmax(found[row]);
    d.sure += margin(e, best) > kSigmas * d.sigma;
    if (chosen == best) continue;
    ++d.flips;
    const double lost = static_cast<double>(e[best]) - static_cast<double>(e[chosen]);
    const double sigma = std::max(
        {d.sigma, deviation_of(exact, classed, best, chosen), deviation({e}, {classed[row]})});
    if (d.rows.empty() && rounds && lost > kSigmas * sigma)
      d.rows = text(
          "position %zu: the most likely token is %zu, in ref %zu, by a margin of %.3g; "
          "the classes move these logits by %.3g",
          row, chosen, best, lost, sigma);
  }
  if (!rounds) d.rows = judge_exact(exact, deviation(exact, found));
  judge_mean(d);
  return d;
}

}  // namespace hadal::contract
