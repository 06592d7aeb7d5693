// Faults that spoil what the good chip wrote.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/floats.h"
#include "faulty.h"

namespace hadal::faulty {
namespace {

using host_chip::View;

void next_bit(float* x) { *x = std::nextafter(*x, std::isfinite(*x) ? 2 * *x + 1 : 0.0f); }

void after_matmul(Call& call) {
  const View out = call.view(HADAL_MATMUL_OUT);
  const View x = call.view(HADAL_MATMUL_X);
  const int64_t rows = out.extents[0];
  const int64_t n = out.extents[out.rank - 1];
  size_t i = 0;
  switch (call.fault) {
    case kRoundsToHalf:
      each(out, [](float* v) { *v = f16_to_f32(f32_to_f16(*v)); });
      break;
    case kDependsOnRows:
      if (rows > 1) each(out, next_bit);
      break;
    case kDependsOnThreads:
      if (call.threads == 3) each(out, next_bit);
      break;
    case kReadsOutput:
      if (!call.view(HADAL_MATMUL_ADD).present())
        each(out, [&](float* v) { *v += 0 * call.saved[i++]; });
      break;
    case kWritesPastEnd:
      if (rows > 0) out.row<float>(rows - 1, out.rank == 3 ? out.extents[1] - 1 : 0)[n] = 0;
      break;
    case kWritesForNoRows:
      if (rows == 0) *out.row<float>(0) = 0;
      break;
    case kLimitsForRows: {
      const hadal_tensor& t = call.tape->tensors[call.op.operands[HADAL_MATMUL_OUT]];
      for (int64_t m = rows; m < t.extents[0] * call.tape->limits[t.row_dim]; ++m)
        *out.row<float>(m) = 0;
      break;
    }
    case kOverwritesInput:
      if (rows > 0) *x.row<float>(0) = 0;
      break;
    case kReadsWorkspace:
      if (rows > 0 && call.step->workspace)
        *out.row<float>(0) +=
            *reinterpret_cast<float*>(host_chip::memory(call.step->workspace)->data);
      break;
    case kFirstMatrixOnly:
      for (int64_t m = 0; out.rank == 3 && m < rows; ++m)
        for (int64_t b = 1; b < out.extents[1]; ++b)
          std::copy_n(out.row<float>(m, 0), n, out.row<float>(m, b));
      break;
    default:
      break;
  }
}

// Turns X again, from what it was, by angles in double.
void turn_in_double(Call& call) {
  const View x = call.view(HADAL_ROPE_X);
  const hadal_rope_attr& a = call.op.attr.rope;
  size_t next = 0;
  each(x, [&](float* v) { *v = call.saved[next++]; });
  for (int64_t t = 0; t < x.extents[0]; ++t) {
    const int32_t position = *call.view(HADAL_ROPE_POSITION).row<int32_t>(t);
    if ((position + 1) % static_cast<int32_t>(a.ratio) != 0) continue;
    for (uint32_t i = 0; i < a.dims / 2; ++i) {
      const double frequency = static_cast<double>(
          std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(a.dims)));
      const double angle =
          (position + 1 - static_cast<int32_t>(a.ratio)) * frequency * (a.inverse ? -1 : 1);
      const double c = std::cos(angle) * static_cast<double>(a.amplitude),
                   s = std::sin(angle) * static_cast<double>(a.amplitude);
      for (int64_t h = 0; h < x.extents[1]; ++h) {
        float* one = x.row<float>(t, h) + a.first + (a.interleaved ? 2 * i : i);
        float* other = one + (a.interleaved ? 1 : a.dims / 2);
        const double p = static_cast<double>(*one), q = static_cast<double>(*other);
        *one = static_cast<float>(p * c - q * s);
        *other = static_cast<float>(q * c + p * s);
      }
    }
  }
}

void after_sample(Call& call) {
  const View logits = call.view(HADAL_SAMPLE_LOGITS);
  for (int64_t r = 0; r < logits.extents[0]; ++r) {
    const float* params = call.view(HADAL_SAMPLE_PARAMS).row<float>(r);
    const int32_t* entries = call.view(HADAL_SAMPLE_ENTRY_START).row<int32_t>(r);
    const float* row = logits.row<float>(r);
    int32_t* token = call.view(HADAL_SAMPLE_TOKEN).row<int32_t>(r);
    const bool untouched = entries[0] == entries[1] && !call.view(HADAL_SAMPLE_MASK).present();
    if (call.fault == kTiesToHigherId && params[HADAL_PARAM_TEMPERATURE] == 0 && untouched)
      for (int32_t i = 0; i < logits.extents[1]; ++i)
        if (row[i] == row[*token]) *token = i;
    if (call.fault == kWrongLogprob && params[HADAL_PARAM_TEMPERATURE] > 0)
      *call.view(HADAL_SAMPLE_LOGPROB).row<float>(r) /= params[HADAL_PARAM_TEMPERATURE];
  }
}

/// The last number of a choice becomes the lowest below `limit` that is not in it.
void swap_choice(const View& list, int64_t t, int32_t limit) {
  int32_t* first = list.row<int32_t>(t);
  int32_t* last = std::find(first, first + list.extents[1], -1);
  for (int32_t number = 0; first != last && number < limit; ++number)
    if (std::find(first, last, number) == last) {
      last[-1] = number;
      return;
    }
}

void after_router(Call& call) {
  const View logits = call.view(HADAL_ROUTER_LOGITS), bias = call.view(HADAL_ROUTER_BIAS);
  const View expert = call.view(HADAL_ROUTER_EXPERT), weight = call.view(HADAL_ROUTER_WEIGHT);
  const hadal_router_attr& a = call.op.attr.router;
  const bool plain = !bias.present() && a.groups == 1 && !call.view(HADAL_ROUTER_HASH).present();
  for (int64_t t = 0; call.fault == kSwapsExpert && t < expert.extents[0]; ++t)
    swap_choice(expert, t, static_cast<int32_t>(logits.extents[1]));
  for (int64_t t = 0; t < expert.extents[0]; ++t)
    for (int64_t j = 0; j < expert.extents[1]; ++j) {
      int32_t& e = expert.row<int32_t>(t)[j];
      float& w = weight.row<float>(t)[j];
      if (call.fault == kBiasInWeight && bias.present())
        w += a.scale * vector_of(bias.weight)[static_cast<size_t>(e)];
      if (call.fault == kRoundsRouterWeight) w = f16_to_f32(f32_to_f16(w));
      const float* row = logits.row<float>(t);
      for (int32_t i = e + 1; call.fault == kTiesToHigherExpert && plain && i < logits.extents[1];
           ++i)
        if (row[i] == row[e]) e = i;
    }
}

void after_sort(Call& call) {
  const View order = call.view(HADAL_MOE_SORT_ORDER), offset = call.view(HADAL_MOE_SORT_OFFSET);
  const View row_weight = call.view(HADAL_MOE_SORT_ROW_WEIGHT);
  const View weight = call.view(HADAL_MOE_SORT_WEIGHT);
  const int64_t fan = weight.extents[1];
  for (int64_t e = 0; call.fault == kSortsUnstably && e + 1 < offset.extents[0]; ++e) {
    int32_t* first = order.row<int32_t>(*offset.row<int32_t>(e));
    std::reverse(first, first + *offset.row<int32_t>(e + 1) - *offset.row<int32_t>(e));
  }
  for (int64_t i = 0; i < *offset.row<int32_t>(offset.extents[0] - 1); ++i) {
    const int64_t pair = call.fault == kKeepsRowWeights ? i : *order.row<int32_t>(i);
    *row_weight.row<float>(i) = weight.row<float>(pair / fan)[pair % fan];
    *call.view(HADAL_MOE_SORT_PLACE).row<int32_t>(*order.row<int32_t>(i)) = static_cast<int32_t>(i);
  }
}

void after_grouped(Call& call) {
  const View offset = call.view(HADAL_GROUPED_MATMUL_OFFSET);
  const View out = call.view(HADAL_GROUPED_MATMUL_OUT);
  for (int64_t e = 0; e + 1 < offset.extents[0]; ++e) {
    const int64_t begin = *offset.row<int32_t>(e), end = *offset.row<int32_t>(e + 1);
    for (int64_t i = begin; end - begin > 1 && i < end; ++i)
      for (int64_t n = 0; n < out.extents[1]; ++n) next_bit(out.row<float>(i) + n);
  }
}

// Entries with equal keys have equal scores: the higher one takes the lower one's place.
void list_higher(Call& call, int64_t t) {
  const View plane = call.view(HADAL_INDEX_TOPK_PLANE), list = call.view(HADAL_INDEX_TOPK_LIST);
  const int32_t* blocks = call.view(HADAL_INDEX_TOPK_BLOCK_TABLE)
                              .row<int32_t>(*call.view(HADAL_INDEX_TOPK_ROW_SEQ).row<int32_t>(t));
  const int64_t slots = plane.extents[1];
  const auto key = [&](int64_t e) { return plane.row<std::byte>(blocks[e / slots], e % slots); };
  const int32_t end = (*call.view(HADAL_INDEX_TOPK_POSITION).row<int32_t>(t) + 1) /
                      static_cast<int32_t>(call.op.attr.index.ratio);
  int32_t* first = list.row<int32_t>(t);
  int32_t* last = std::find(first, first + list.extents[1], -1);
  for (int32_t* at = last; at-- > first;)
    for (int32_t e = *at + 1; e < end; ++e)
      if (std::find(first, last, e) == last &&
          std::memcmp(key(e), key(*at), static_cast<size_t>(plane.strides[1])) == 0)
        *at = e;
  std::sort(first, last);
}

/// Of index_topk and index_blocks, which have the same operands there.
void swap_last_seen(const Call& call, const View& list, int64_t t) {
  const hadal_index_attr& a = call.op.attr.index;
  const int32_t seen =
      (*call.view(HADAL_INDEX_TOPK_POSITION).row<int32_t>(t) + 1) / static_cast<int32_t>(a.ratio);
  const bool blocks = call.op.id == HADAL_OP_INDEX_BLOCKS;
  const auto size = static_cast<int32_t>(blocks ? a.block_size : 1);
  swap_choice(list, t, (seen + size - 1) / size);
  std::sort(list.row<int32_t>(t),
            std::find(list.row<int32_t>(t), list.row<int32_t>(t) + list.extents[1], -1));
}

void after_index(Call& call) {
  const View list = call.view(HADAL_INDEX_TOPK_LIST);
  for (int64_t t = 0; t < list.extents[0]; ++t) {
    int32_t* first = list.row<int32_t>(t);
    int32_t* end = first + list.extents[1];
    if (call.fault == kTiesToHigherEntry) list_higher(call, t);
    if (call.fault == kSwapsEntry) swap_last_seen(call, list, t);
    if (call.fault == kListDescends) std::reverse(first, std::find(first, end, -1));
    if (call.fault == kListEndsInZero) std::replace(first, end, -1, 0);
  }
}

void after_blocks(Call& call) {
  const View list = call.view(HADAL_INDEX_BLOCKS_LIST);
  if (call.fault == kForgetsLastBlock || call.fault == kMeanOfBlock ||
      call.fault == kTiesToHigherBlock)
    list_blocks(call);
  for (int64_t t = 0; call.fault == kSwapsBlock && t < list.extents[0]; ++t)
    swap_last_seen(call, list, t);
  for (int64_t t = 0; call.fault == kBlockListEndsInZero && t < list.extents[0]; ++t)
    std::replace(list.row<int32_t>(t), list.row<int32_t>(t) + list.extents[1], -1, 0);
}

// Small whole numbers have the bits of subnormal ones.
void flush_whole_numbers(const View& out) {
  for (int64_t r = 0; out.dtype == HADAL_I32 && r < out.extents[0]; ++r)
    for (int64_t i = 0; i < out.extents[1]; ++i)
      if (uint32_t& bits = out.row<uint32_t>(r)[i]; (bits & 0x7f800000u) == 0) bits &= 0x80000000u;
}

void collapse_with_new_pre(const Call& call) {
  const View x = call.view(HADAL_HC_PRE_X), pre = call.view(HADAL_HC_PRE_PRE);
  const View out = call.view(HADAL_HC_PRE_OUT);
  if (!pre.present() || !out.present()) return;
  for (int64_t t = 0; t < x.extents[0]; ++t)
    for (int64_t c = 0; c < x.extents[2]; ++c) {
      float sum = 0;
      for (int64_t i = 0; i < x.extents[1]; ++i)
        sum += pre.row<float>(t)[i] * x.row<float>(t, i)[c];
      out.row<float>(t)[c] = sum;
    }
}

void after_streams(Call& call) {
  const View comb = call.view(HADAL_HC_PRE_COMB);
  if (call.fault == kUndelayedPre) collapse_with_new_pre(call);
  if (call.fault == kSpoilsPre && !call.view(HADAL_HC_PRE_MIX).present())
    each(call.view(HADAL_HC_PRE_PRE), next_bit);
  if (call.fault == kHalvesPost) each(call.view(HADAL_HC_PRE_POST), [](float* v) { *v /= 2; });
  if (call.fault != kTransposesComb || !comb.present()) return;
  for (int64_t t = 0; t < comb.extents[0]; ++t)
    for (int64_t i = 0; i < comb.extents[1]; ++i)
      for (int64_t j = 0; j < i; ++j) std::swap(comb.row<float>(t, i)[j], comb.row<float>(t, j)[i]);
}

// Mixes the streams again, from what they were, one after the other.
void mix_in_place(Call& call) {
  const View x = call.view(HADAL_HC_POST_X), comb = call.view(HADAL_HC_POST_COMB);
  size_t next = 0;
  each(x, [&](float* v) { *v = call.saved[next++]; });
  for (int64_t t = 0; t < x.extents[0]; ++t)
    for (int64_t k = 0; k < x.extents[1]; ++k)
      for (int64_t i = 0; i < x.extents[2]; ++i) {
        float sum = 0;
        for (int64_t j = 0; j < x.extents[1]; ++j)
          sum += comb.row<float>(t, j)[k] * x.row<float>(t, j)[i];
        x.row<float>(t, k)[i] = sum + call.view(HADAL_HC_POST_POST).row<float>(t)[k] *
                                          call.view(HADAL_HC_POST_F).row<float>(t)[i];
      }
}

void after_convert(Call& call) {
  const View x = call.view(HADAL_CONVERT_X);
  const View out = call.view(HADAL_CONVERT_OUT);
  if (call.fault != kSaturates || out.dtype != HADAL_F16 || x.dtype != HADAL_F32) return;
  for (int64_t m = 0; m < x.extents[0]; ++m)
    for (int64_t i = 0; i < x.extents[1]; ++i)
      if (uint16_t* h = out.row<uint16_t>(m) + i;
          std::isfinite(x.row<float>(m)[i]) && (*h & 0x7fff) == 0x7c00)
        *h = static_cast<uint16_t>(*h - 1);
}

}  // namespace

void after(Call& call) {
  switch (call.op.id) {
    case HADAL_OP_MATMUL:
      after_matmul(call);
      break;
    case HADAL_OP_ROPE:
      if (call.fault == kDoubleAngle) turn_in_double(call);
      break;
    case HADAL_OP_NORM: {
      const View out = call.view(HADAL_NORM_OUT);
      const int64_t n = out.extents[out.rank - 1];
      if (call.fault == kWritesGaps && out.extents[0] > 1 &&
          out.strides[0] > (out.rank == 3 ? out.extents[1] * out.strides[1] : n * 4))
        *reinterpret_cast<float*>(out.data + out.strides[0] - 4) = 0;
      break;
    }
    case HADAL_OP_ADD:
      if (call.fault == kAddsInexactly) each(call.view(HADAL_ADD_X), next_bit);
      break;
    case HADAL_OP_ROUTER:
      after_router(call);
      break;
    case HADAL_OP_MOE_SORT:
      if (call.fault == kSortsUnstably || call.fault == kKeepsRowWeights) after_sort(call);
      break;
    case HADAL_OP_GROUPED_MATMUL:
      if (call.fault == kDependsOnExpertRows) after_grouped(call);
      break;
    case HADAL_OP_LATENT_ATTENTION: {
      const View out = call.view(HADAL_LATENT_ATTENTION_OUT);
      if (call.fault == kDependsOnLatentRows && out.extents[0] > 1) each(out, next_bit);
      break;
    }
    case HADAL_OP_GQA_ATTENTION:
      if (call.fault == kRoundsAttention)
        each(call.view(HADAL_GQA_ATTENTION_OUT),
             [](float* v) { *v = bf16_to_f32(f32_to_bf16(*v)); });
      break;
    case HADAL_OP_EMBED:
      if (call.fault == kRoundsEmbedding)
        each(call.view(HADAL_EMBED_OUT), [](float* v) { *v = bf16_to_f32(f32_to_bf16(*v)); });
      break;
    case HADAL_OP_INDEX_TOPK:
      after_index(call);
      break;
    case HADAL_OP_INDEX_BLOCKS:
      after_blocks(call);
      break;
    case HADAL_OP_ENGRAM_GATE:
      if (call.fault == kDropsEngramSign || call.fault == kJointEngramNorm ||
          call.fault == kForgetsKeyWeight || call.fault == kForgetsRootWidth)
        gate_streams(call);
      break;
    case HADAL_OP_LORA_ADD: {
      const View out = call.view(HADAL_LORA_ADD_OUT);
      if (call.fault == kDependsOnLoraRows && out.extents[0] > 1) each(out, next_bit);
      break;
    }
    case HADAL_OP_GATHER_ROWS:
      if (call.fault == kFlushesWholeNumbers) flush_whole_numbers(call.view(HADAL_GATHER_ROWS_OUT));
      break;
    case HADAL_OP_COMPRESS:
      if (call.fault == kRoundsCompressed)
        each(call.view(HADAL_COMPRESS_OUT), [](float* v) { *v = bf16_to_f32(f32_to_bf16(*v)); });
      break;
    case HADAL_OP_HC_PRE:
      after_streams(call);
      break;
    case HADAL_OP_HC_POST:
      if (call.fault == kMixesInPlace) mix_in_place(call);
      break;
    case HADAL_OP_CONVERT:
      after_convert(call);
      break;
    case HADAL_OP_SAMPLE:
      after_sample(call);
      break;
    default:
      break;
  }
  for (auto patch = call.patches.rbegin(); patch != call.patches.rend(); ++patch)
    __builtin_memcpy(patch->at, patch->old.data(), patch->old.size());
}

}  // namespace hadal::faulty
