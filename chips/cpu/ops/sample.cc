// The sample operator: penalties, bias, mask, greedy choice or Gumbel noise over the kept tokens,
// log-probabilities.
//
// The definition is in operators.inc. What makes it fast: greedy choice is one vectorised scan; the
// k largest are found by a scan against the smallest that is kept; noise is drawn only for tokens
// that could still win, since it has an upper bound.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "contract/noise.h"
#include "ops/operators.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr float kMinus = -std::numeric_limits<float>::infinity();

struct Token {
  float value;
  int32_t id;
};
/// Greater value first, then lower id.
bool before(const Token& a, const Token& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

/// The `count` first of x by `before`, sorted, into `out`; returns how many (NaN is never taken).
int64_t largest(const KernelTable& kernels, const float* x, int64_t n, int64_t count, Token* out) {
  count = std::min(count, n);
  if (count <= 0) return 0;
  int64_t held = 0;
  if (count > 4096) {  // a large share: sort the candidates
    for (int64_t i = 0; i < n; ++i)
      if (x[i] > kMinus) out[held++] = {x[i], static_cast<int32_t>(i)};
    if (held > count) std::nth_element(out, out + count - 1, out + held, before);
    held = std::min(held, count);
    std::sort(out, out + held, before);
    return held;
  }
  // `out` is a heap whose top is the worst that is held; an equal value with a higher id never
  // enters.
  for (int64_t i = kernels.next_above(x, 0, n, kMinus); i < n;) {
    if (held < count) {
      out[held++] = {x[i], static_cast<int32_t>(i)};
      std::push_heap(out, out + held, before);
    } else {
      std::pop_heap(out, out + held, before);
      out[held - 1] = {x[i], static_cast<int32_t>(i)};
      std::push_heap(out, out + held, before);
    }
    i = kernels.next_above(x, i + 1, n, held < count ? kMinus : out[0].value);
  }
  std::sort_heap(out, out + held, before);
  return held;
}

struct Row {
  const KernelTable& kernels;
  const float* params;
  const uint32_t* seed;
  int32_t position;
  float* y;  ///< [V]: adjusted logits, then divided by the temperature
  int64_t vocab;
  Token* tokens;  ///< [V]
};

/// Noise over all tokens: those that the bound excludes are skipped, ascending order, ties to the
/// lower id.
int32_t draw_all(const Row& r, Best top) {
  double best = static_cast<double>(top.value) + contract::gumbel(r.seed, r.position, top.index);
  int32_t chosen = top.index;
  const auto bound = [&] {
    return std::nextafter(static_cast<float>(best) - contract::kMostNoise, kMinus);
  };
  for (int64_t i = r.kernels.next_above(r.y, 0, r.vocab, bound()); i < r.vocab;
       i = r.kernels.next_above(r.y, i + 1, r.vocab, bound())) {
    const double value =
        static_cast<double>(r.y[i]) + contract::gumbel(r.seed, r.position, static_cast<int32_t>(i));
    if (value > best || (value == best && i < chosen)) {
      best = value;
      chosen = static_cast<int32_t>(i);
    }
  }
  return chosen;
}

/// How many of the sorted tokens top-p keeps, or -1 if their probabilities do not reach it. `z`:
/// sum of exp(y - top).
int64_t nucleus(const Row& r, int64_t count, double z, double top_p) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    sum +=
        std::exp(static_cast<double>(r.tokens[i].value) - static_cast<double>(r.tokens[0].value)) /
        z;
    if (sum >= top_p) return i + 1;
  }
  return -1;
}

/// Temperature, top-k, top-p, min-p, noise.
int32_t draw(const Row& r, Best top) {
  const float temperature = r.params[HADAL_PARAM_TEMPERATURE];
  for (int64_t i = 0; i < r.vocab; ++i) {
    const float y = r.y[i] / temperature;
    r.y[i] = y == y ? y : kMinus;
  }
  top = r.kernels.argmax(r.y, r.vocab);
  if (top.value == kMinus) return 0;
  const float top_p = r.params[HADAL_PARAM_TOP_P], min_p = r.params[HADAL_PARAM_MIN_P];
  const int64_t top_k = static_cast<int64_t>(std::min(r.params[HADAL_PARAM_TOP_K], 2.0e9f));
  const bool nuclear = top_p < 1.0f;
  if (top_k <= 0 && !nuclear && !(min_p > 0.0f)) return draw_all(r, top);

  int64_t count = 0;
  if (top_k > 0) {
    count = largest(r.kernels, r.y, r.vocab, top_k, r.tokens);
    if (nuclear) {
      double z = 0.0;
      for (int64_t i = 0; i < count; ++i)
        z += std::exp(static_cast<double>(r.tokens[i].value) -
                      static_cast<double>(r.tokens[0].value));
      if (const int64_t kept = nucleus(r, count, z, static_cast<double>(top_p)); kept >= 0)
        count = kept;
    }
  } else if (nuclear) {
    const double z = r.kernels.sum_exp(r.y, r.vocab, top.value);
    for (int64_t tries = 256;; tries *= 16) {
      count = largest(r.kernels, r.y, r.vocab, tries, r.tokens);
      const int64_t kept = nucleus(r, count, z, static_cast<double>(top_p));
      if (kept >= 0) count = kept;
      if (kept >= 0 || count < tries) break;
    }
  } else {
    r.tokens[count++] = {top.value, top.index};
    for (int64_t i = 0; i < r.vocab; ++i)
      if (r.y[i] > kMinus && i != top.index) r.tokens[count++] = {r.y[i], static_cast<int32_t>(i)};
  }
  Token chosen{0.0f, top.index};
  double best = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < count; ++i) {
    const Token& t = r.tokens[i];
    if (i > 0 && min_p > 0.0f &&
        std::exp(static_cast<double>(t.value) - static_cast<double>(top.value)) <
            static_cast<double>(min_p))
      continue;
    const double value = static_cast<double>(t.value) + contract::gumbel(r.seed, r.position, t.id);
    if (value > best || (value == best && t.id < chosen.id)) {
      best = value;
      chosen = t;
    }
  }
  return chosen.id;
}

Needs sample_needs(const Query& query) {
  const int64_t vocab = query[HADAL_SAMPLE_LOGITS].extents[1];
  return {.temp = static_cast<uint64_t>(vocab + 16) * (sizeof(float) + sizeof(Token))};
}

void sample(const Call& call) {
  const View logits = call.view(HADAL_SAMPLE_LOGITS), params = call.view(HADAL_SAMPLE_PARAMS),
             seed = call.view(HADAL_SAMPLE_SEED);
  const View position = call.view(HADAL_SAMPLE_POSITION),
             start = call.view(HADAL_SAMPLE_ENTRY_START);
  const View entry = call.view(HADAL_SAMPLE_ENTRY), bias = call.view(HADAL_SAMPLE_ENTRY_BIAS),
             mask = call.view(HADAL_SAMPLE_MASK);
  const View token = call.view(HADAL_SAMPLE_TOKEN), logprob = call.view(HADAL_SAMPLE_LOGPROB);
  const View top_token = call.view(HADAL_SAMPLE_TOP_TOKEN),
             top_logprob = call.view(HADAL_SAMPLE_TOP_LOGPROB);
  const int64_t vocab = logits.extents[1];
  float* y = reinterpret_cast<float*>(call.worker.temp);
  Token* tokens = reinterpret_cast<Token*>(y + (vocab + 15) / 16 * 16);

  call.share(logits.extents[0], [&](int64_t r) {
    const float* raw = logits.row<float>(r);
    const float* p = params.row<float>(r);
    const int32_t first = start.row<int32_t>(r)[0], last = start.row<int32_t>(r)[1];
    const bool greedy = !(p[HADAL_PARAM_TEMPERATURE] > 0.0f) || p[HADAL_PARAM_TOP_K] == 1.0f;
    const bool plain = greedy && first >= last && !mask.present();
    const Best raw_top = call.kernels().argmax(raw, vocab);
    Best best = raw_top;
    if (!plain) {
      for (int64_t i = 0; i < vocab; ++i) y[i] = raw[i] == raw[i] ? raw[i] : kMinus;
      for (int32_t e = first; e < last; ++e) {
        const int32_t* numbers = entry.row<int32_t>(e);
        const int32_t in_prompt = numbers[1], in_output = numbers[2];
        float& l = y[numbers[0]];
        if (in_prompt > 0 || in_output > 0)
          l = l > 0.0f ? l / p[HADAL_PARAM_REPETITION] : l * p[HADAL_PARAM_REPETITION];
        if (in_output > 0) {
          l -= p[HADAL_PARAM_PRESENCE];
          l -= p[HADAL_PARAM_FREQUENCY] * static_cast<float>(in_output);
        }
        l += *bias.row<float>(e);
        if (!(l == l)) l = kMinus;
      }
      if (mask.present()) {
        const uint32_t* bits = mask.row<uint32_t>(r);
        for (int64_t w = 0; w * 32 < vocab; ++w) {
          if (bits[w] == 0xffffffffu) continue;
          for (int64_t i = w * 32; i < std::min(vocab, w * 32 + 32); ++i)
            if (((bits[w] >> (i % 32)) & 1u) == 0) y[i] = kMinus;
        }
      }
      best = call.kernels().argmax(y, vocab);
      if (!greedy && best.value > kMinus)
        best.index = draw(
            {call.kernels(), p, seed.row<uint32_t>(r), *position.row<int32_t>(r), y, vocab, tokens},
            best);
    }
    *token.row<int32_t>(r) = best.index;

    // log of the sum of exp over the raw logits
    const double lse = raw_top.value > kMinus
                           ? static_cast<double>(raw_top.value) +
                                 std::log(call.kernels().sum_exp(raw, vocab, raw_top.value))
                           : 0.0;
    const auto log_of = [&](int64_t id) {
      return raw[id] == raw[id] ? static_cast<float>(static_cast<double>(raw[id]) - lse) : kMinus;
    };
    *logprob.row<float>(r) = log_of(best.index);
    const int64_t width = top_token.extents[1];
    if (width == 0) return;
    int64_t found = largest(call.kernels(), raw, vocab, width, tokens);
    for (int64_t i = 0; i < vocab && found < std::min(width, vocab); ++i)  // -inf and NaN, by id
      if (!(raw[i] > kMinus)) tokens[found++] = {kMinus, static_cast<int32_t>(i)};
    for (int64_t i = 0; i < width; ++i) {
      top_token.row<int32_t>(r)[i] = i < found ? tokens[i].id : -1;
      top_logprob.row<float>(r)[i] = i < found ? log_of(tokens[i].id) : kMinus;
    }
  });
}

std::string sample_indices(const Indices& at) {
  const View start = at.view(HADAL_SAMPLE_ENTRY_START), entry = at.view(HADAL_SAMPLE_ENTRY),
             logits = at.view(HADAL_SAMPLE_LOGITS);
  for (int64_t r = 0; r < start.extents[0]; ++r) {
    const int32_t* range = start.row<int32_t>(r);
    if (range[0] >= range[1]) continue;
    HADAL_RETURN_IF_TEXT(at.outside(HADAL_SAMPLE_ENTRY_START, r, range[0], 0, entry.extents[0]));
    HADAL_RETURN_IF_TEXT(
        at.outside(HADAL_SAMPLE_ENTRY_START, r, range[1], 0, entry.extents[0] + 1));
    for (int32_t e = range[0]; e < range[1]; ++e)
      HADAL_RETURN_IF_TEXT(
          at.outside(HADAL_SAMPLE_ENTRY, e, entry.row<int32_t>(e)[0], 0, logits.extents[1]));
  }
  return {};
}

}  // namespace

const Operator kSample = {
    .id = HADAL_OP_SAMPLE, .run = sample, .query = sample_needs, .indices = sample_indices};

}  // namespace hadal::cpu
