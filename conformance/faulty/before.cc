// Faults that tell the good chip something else than it should hear.
#include <algorithm>
#include <cmath>

#include "base/floats.h"
#include "faulty.h"

namespace hadal::faulty {
namespace {

using host_chip::View;

template <typename Change>
void change_ints(Call& call, uint32_t operand, Change change) {
  const View v = call.view(operand);
  for (int64_t i = 0; v.present() && i < v.extents[0]; ++i)
    for (int64_t j = 0; j < (v.rank == 2 ? v.extents[1] : 1); ++j) {
      int32_t* at = v.row<int32_t>(i) + j;
      if (const int32_t value = change(*at, i); value != *at) call.patch(at, value);
    }
}

/// Indices outside [0, end) become the nearest inside.
void clamp_ints(Call& call, uint32_t operand, int64_t end) {
  change_ints(call, operand, [last = static_cast<int32_t>(end) - 1](int32_t i, int64_t) {
    return std::clamp(i, 0, last);
  });
}

void clear_bits(Call& call, uint32_t operand, uint32_t mask) {
  each(call.view(operand), [&](float* x) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, *x);
    if (std::isfinite(*x)) call.patch(x, __builtin_bit_cast(float, bits& mask));
  });
}

// The second half of every block that copy_blocks writes stays as it is.
void keep_half_blocks(Call& call) {
  const View plane = call.view(HADAL_COPY_BLOCKS_PLANE), to = call.view(HADAL_COPY_BLOCKS_TO);
  const int64_t bytes = plane.extents[1] * plane.strides[1];
  for (int64_t i = 0; i < to.extents[0]; ++i)
    if (const int32_t block = *to.row<int32_t>(i); block >= 0)
      for (int64_t b = bytes / 2; b < bytes; ++b) call.keep(plane.row<std::byte>(block) + b);
}

// Bits of an fp32 number that a format of two bytes cannot hold.
uint32_t kept_bits(hadal_dtype dtype) {
  return dtype == HADAL_F16 ? 0xffffe000u : dtype == HADAL_BF16 ? 0xffff0000u : 0xffffffffu;
}

void before_matmul(Call& call) {
  const View out = call.view(HADAL_MATMUL_OUT);
  const int64_t last = out.extents[out.rank - 1] - 1;
  switch (call.fault) {
    case kDropsLastColumn:
      for (int64_t m = 0; m < out.extents[0]; ++m) call.keep(out.row<float>(m, 0) + last);
      break;
    case kForgetsBias:
      call.op.operands[HADAL_MATMUL_BIAS] = -1;
      break;
    case kForgetsAdd:
      call.op.operands[HADAL_MATMUL_ADD] = -1;
      break;
    case kReadsOutput:
      each(out, [&](float* x) { call.saved.push_back(*x); });
      break;
    case kRoundsSaysExact:
      each(call.view(HADAL_MATMUL_X), [&](float* x) {
        if (std::isfinite(*x)) call.patch(x, bf16_to_f32(f32_to_bf16(*x)));
      });
      break;
    case kRoundsSaysHalf:
      clear_bits(call, HADAL_MATMUL_X, 0xfff00000u);
      break;
    case kCoarseActivations: {
      const View x = call.view(HADAL_MATMUL_X);
      const View w = call.view(HADAL_MATMUL_W);
      if (w.dtype == HADAL_F32 || w.dtype == HADAL_F16 || w.dtype == HADAL_BF16 ||
          w.dtype == HADAL_F64 || x.rank != 2)
        break;
      for (int64_t m = 0; m < x.extents[0]; ++m) {
        float amax = 0;
        for (int64_t k = 0; k < x.extents[1]; ++k)
          amax = std::max(amax, std::fabs(x.row<float>(m)[k]));
        for (int64_t k = 0; k < x.extents[1]; ++k)
          call.patch(x.row<float>(m) + k, std::round(x.row<float>(m)[k] / amax * 7) * amax / 7);
      }
      break;
    }
    default:
      break;
  }
}

void before_norm(Call& call) {
  const View residual = call.view(HADAL_NORM_RESIDUAL);
  switch (call.fault) {
    case kForgetsEps:
      call.op.attr.norm.eps = 0;
      break;
    case kForgetsResidual:
      each(residual, [&](float* x) { call.keep(x); });
      break;
    case kForgetsNormWeight:
      if (call.view(HADAL_NORM_X).rank == 3) call.op.operands[HADAL_NORM_W] = -1;
      break;
    case kLayerAsRms:
      call.op.attr.norm.layer = 0;
      call.op.operands[HADAL_NORM_B] = -1;
      break;
    default:
      break;
  }
}

void before_rope(Call& call) {
  hadal_rope_attr& attr = call.op.attr.rope;
  switch (call.fault) {
    case kWrongPairs:
      attr.interleaved ^= 1;
      break;
    case kIgnoresInverse:
      attr.inverse = 0;
      break;
    case kIgnoresAmplitude:
      attr.amplitude = 1;
      break;
    case kIgnoresFirstDim:
      attr.first = 0;
      break;
    case kIgnoresRopeRatio:
      attr.ratio = 1;
      break;
    case kDoubleAngle:
      each(call.view(HADAL_ROPE_X), [&](float* x) { call.saved.push_back(*x); });
      break;
    default:
      break;
  }
}

void before_attention(Call& call) {
  hadal_attention_attr& attr = call.op.attr.attention;
  switch (call.fault) {
    case kSeesNext: {
      const View table = call.view(HADAL_GQA_ATTENTION_BLOCK_TABLE);
      const View row_seq = call.view(HADAL_GQA_ATTENTION_ROW_SEQ);
      const int64_t slots = call.view(HADAL_GQA_ATTENTION_K).extents[1];
      change_ints(call, HADAL_GQA_ATTENTION_POSITION, [&](int32_t at, int64_t t) {
        const int64_t block = (at + 1) / slots;
        return block < table.extents[1] && table.row<int32_t>(*row_seq.row<int32_t>(t))[block] >= 0
                   ? at + 1
                   : at;
      });
      break;
    }
    case kIgnoresFirst:
      change_ints(call, HADAL_GQA_ATTENTION_FIRST, [](int32_t, int64_t) { return 0; });
      break;
    case kIgnoresWindow:
      attr.window = 0;
      break;
    case kWindowOffByOne:
      attr.window += attr.window ? 1 : 0;
      break;
    case kIgnoresSink:
      call.op.operands[HADAL_GQA_ATTENTION_SINK] = -1;
      break;
    case kFirstSequenceOnly:
      change_ints(call, HADAL_GQA_ATTENTION_ROW_SEQ, [](int32_t, int64_t) { return 0; });
      break;
    default:
      break;
  }
}

void before_router(Call& call) {
  hadal_router_attr& attr = call.op.attr.router;
  switch (call.fault) {
    case kRouterIgnoresBias:
      call.op.operands[HADAL_ROUTER_BIAS] = -1;
      break;
    case kGroupBestOnly:
      attr.group_best = 1;
      break;
    case kIgnoresGroups:
      attr.groups = attr.groups_kept = 1;
      break;
    case kForgetsToNormalise:
      attr.normalise = 0;
      break;
    case kIgnoresRouterScale:
      attr.scale = 1;
      break;
    case kIgnoresHash:
      call.op.operands[HADAL_ROUTER_TOKEN] = call.op.operands[HADAL_ROUTER_HASH] = -1;
      break;
    case kTakesAnyToken:
      clamp_ints(call, HADAL_ROUTER_TOKEN, call.view(HADAL_ROUTER_HASH).extents[0]);
      break;
    case kSoftmaxOnly:
      attr.score = HADAL_ROUTER_SOFTMAX;
      break;
    default:
      break;
  }
}

// The last row of an expert becomes the first one of the next.
void shift_offsets(Call& call) {
  const View offset = call.view(HADAL_GROUPED_MATMUL_OFFSET);
  for (int64_t e = 0; e + 2 < offset.extents[0]; ++e)
    if (int32_t* end = offset.row<int32_t>(e + 1); *end > *offset.row<int32_t>(e))
      return call.patch(end, *end - 1);
}

void before_combine(Call& call) {
  const View place = call.view(HADAL_MOE_COMBINE_PLACE);
  const int64_t fan = call.op.attr.experts.fan;
  if (call.fault == kForgetsShared) call.op.operands[HADAL_MOE_COMBINE_SHARED] = -1;
  if (call.fault == kForgetsCombineAdd) call.op.operands[HADAL_MOE_COMBINE_ADD] = -1;
  std::vector<int32_t> backwards;
  for (int64_t i = 0; call.fault == kAddsBackwards && i < place.extents[0]; ++i)
    backwards.push_back(*place.row<int32_t>(i / fan * fan + fan - 1 - i % fan));
  for (size_t i = 0; i < backwards.size(); ++i)
    call.patch(place.row<int32_t>(static_cast<int64_t>(i)), backwards[i]);
}

// Whether entry `e` of a row's sequence lies in a block.
bool is_mapped(const View& table, const View& plane, int64_t s, int64_t e) {
  const int64_t block = e / plane.extents[1];
  return block < table.extents[1] && table.row<int32_t>(s)[block] >= 0;
}

// The same, of the first segment and of token row `t`.
bool is_mapped(const Call& call, int64_t t, int64_t e) {
  return is_mapped(call.view(HADAL_LATENT_ATTENTION_BLOCK_TABLE),
                   call.view(HADAL_LATENT_ATTENTION_PLANE),
                   *call.view(HADAL_LATENT_ATTENTION_ROW_SEQ).row<int32_t>(t), e);
}

void before_latent(Call& call) {
  hadal_segment_attr& segment = call.op.attr.latent.segments[0];
  switch (call.fault) {
    case kSeesNextEntry:
      change_ints(call, HADAL_LATENT_ATTENTION_POSITION, [&](int32_t at, int64_t t) {
        const auto ratio = static_cast<int32_t>(segment.ratio);
        return is_mapped(call, t, (at + 1) / ratio) ? at + ratio : at;
      });
      break;
    case kForgetsTail:
      each(call.view(HADAL_LATENT_ATTENTION_TAIL), [&](float* x) { call.patch(x, 0.0f); });
      break;
    case kIgnoresListEnd: {
      const View list = call.view(HADAL_LATENT_ATTENTION_LIST);
      for (int64_t t = 0; list.present() && t < list.extents[0]; ++t) {
        int32_t* row = list.row<int32_t>(t);
        int32_t* end = std::find(row, row + list.extents[1], -1);
        const int32_t next = end == row ? 0 : end[-1] + 1;
        if (end != row + list.extents[1] && is_mapped(call, t, next)) call.patch(end, next);
      }
      break;
    }
    case kIgnoresList:
      call.op.operands[HADAL_LATENT_ATTENTION_LIST] = -1;
      break;
    case kEntryWindowOffByOne:
      segment.window += segment.window ? 1 : 0;
      break;
    case kFirstSegmentOnly:
      for (const uint32_t i : {HADAL_LATENT_ATTENTION_PLANE2, HADAL_LATENT_ATTENTION_BLOCK_TABLE2,
                               HADAL_LATENT_ATTENTION_FIRST2, HADAL_LATENT_ATTENTION_LIST2})
        call.op.operands[i] = -1;
      break;
    case kOneFirst:
      if (call.op.operands[HADAL_LATENT_ATTENTION_FIRST2] >= 0)
        call.op.operands[HADAL_LATENT_ATTENTION_FIRST2] =
            call.op.operands[HADAL_LATENT_ATTENTION_FIRST];
      break;
    case kIgnoresLatentSink:
      call.op.operands[HADAL_LATENT_ATTENTION_SINK] = -1;
      break;
    case kIgnoresLatentFirst:
      change_ints(call, HADAL_LATENT_ATTENTION_FIRST, [](int32_t, int64_t) { return 0; });
      break;
    default:
      break;
  }
}

void before_index(Call& call) {
  switch (call.fault) {
    case kListsNextEntry:
    case kListsNextBlock: {
      const View table = call.view(HADAL_INDEX_TOPK_BLOCK_TABLE);
      const View row_seq = call.view(HADAL_INDEX_TOPK_ROW_SEQ);
      const auto ratio = static_cast<int32_t>(call.op.attr.index.ratio);
      change_ints(call, HADAL_INDEX_TOPK_POSITION, [&](int32_t at, int64_t t) {
        return is_mapped(table, call.view(HADAL_INDEX_TOPK_PLANE), *row_seq.row<int32_t>(t),
                         (at + 1) / ratio)
                   ? at + ratio
                   : at;
      });
      break;
    }
    case kIgnoresIndexFirst:
    case kBlocksIgnoreFirst:
      // Only as far down as blocks are there.
      change_ints(call, HADAL_INDEX_TOPK_FIRST, [&](int32_t first, int64_t s) {
        const auto ratio = static_cast<int32_t>(call.op.attr.index.ratio);
        while (first > 0 && is_mapped(call.view(HADAL_INDEX_TOPK_BLOCK_TABLE),
                                      call.view(HADAL_INDEX_TOPK_PLANE), s, (first - 1) / ratio))
          --first;
        return first;
      });
      break;
    case kIgnoresIndexWeights:
      each(call.view(HADAL_INDEX_TOPK_WEIGHT), [&](float* w) { call.patch(w, 1.0f); });
      break;
    case kTakesAnyBlock:
    case kBlocksOfAnyPage:
      change_ints(call, HADAL_INDEX_TOPK_BLOCK_TABLE,
                  [](int32_t b, int64_t) { return std::max(b, 0); });
      break;
    default:
      break;
  }
}

void before_candidates(Call& call) {
  const View plane = call.view(HADAL_INDEX_TOPK_PLANE);
  uint32_t& size = call.op.attr.index.block_size;
  if (!call.view(HADAL_INDEX_TOPK_CANDIDATES).present()) return;
  switch (call.fault) {
    case kIgnoresCandidates:
      call.op.operands[HADAL_INDEX_TOPK_CANDIDATES] = -1;
      size = 0;
      break;
    case kTakesAnyCandidate: {
      const int64_t entries = call.view(HADAL_INDEX_TOPK_BLOCK_TABLE).extents[1] * plane.extents[1];
      change_ints(call, HADAL_INDEX_TOPK_CANDIDATES,
                  [last = static_cast<int32_t>((entries - 1) / size)](int32_t b, int64_t) {
                    return std::min(b, last);
                  });
      break;
    }
    case kPagesAsCandidates:
      size = static_cast<uint32_t>(plane.extents[1]);
      break;
    default:
      break;
  }
}

void before_compress(Call& call) {
  const View position = call.view(HADAL_COMPRESS_POSITION), out = call.view(HADAL_COMPRESS_OUT);
  const hadal_compress_attr& a = call.op.attr.compress;
  switch (call.fault) {
    case kForgetsApe:
      call.op.operands[HADAL_COMPRESS_APE] = -1;
      break;
    case kKeepsRowsWithoutEntry:
      for (int64_t t = 0; t < out.extents[0]; ++t)
        for (int64_t i = 0;
             (int64_t{*position.row<int32_t>(t)} + 1) % a.ratio != 0 && i < out.extents[1]; ++i)
          call.keep(out.row<float>(t) + i);
      break;
    case kForgetsEntryBefore: {
      // A's scores become very small: no row counts but those of B.
      const View plane = call.view(HADAL_COMPRESS_PLANE);
      const int64_t d = out.extents[1];
      for (int64_t b = 0; a.overlap && b < plane.extents[0]; ++b)
        for (int64_t slot = 0; slot < plane.extents[1]; ++slot)
          for (int64_t i = 0; i < d; ++i) call.patch(plane.row<float>(b, slot) + 2 * d + i, -1e30f);
      break;
    }
    case kCompressesAnyBlock:
      change_ints(call, HADAL_COMPRESS_BLOCK_TABLE,
                  [](int32_t b, int64_t) { return std::max(b, 0); });
      break;
    default:
      break;
  }
}

void before_streams(Call& call) {
  hadal_hc_attr& a = call.op.attr.hc;
  switch (call.fault) {
    case kForgetsIteration:
      if (a.iterations > 1) --a.iterations;
      break;
    case kForgetsStreamsEps:
      a.eps = 0;
      break;
    case kForgetsStreamsNormEps:
      a.norm_eps = 0;
      break;
    case kKeepsOldPre:
      each(call.view(HADAL_HC_PRE_PRE), [&](float* pre) { call.keep(pre); });
      break;
    default:
      break;
  }
}

void before_mix(Call& call) {
  const View comb = call.view(HADAL_HC_POST_COMB);
  switch (call.fault) {
    case kForgetsSublayer:
      each(call.view(HADAL_HC_POST_F), [&](float* f) { call.patch(f, 0.0f); });
      break;
    case kMixesTransposed:
      for (int64_t t = 0; t < comb.extents[0]; ++t)
        for (int64_t j = 0; j < comb.extents[1]; ++j)
          for (int64_t k = 0; k < j; ++k) {
            const float one = comb.row<float>(t, j)[k];
            call.patch(comb.row<float>(t, j) + k, comb.row<float>(t, k)[j]);
            call.patch(comb.row<float>(t, k) + j, one);
          }
      break;
    case kMixesInPlace:
      each(call.view(HADAL_HC_POST_X), [&](float* x) { call.saved.push_back(*x); });
      break;
    default:
      break;
  }
}

void before_kv_write(Call& call) {
  switch (call.fault) {
    case kIgnoresWriteFrom:
      change_ints(call, HADAL_KV_WRITE_WRITE_FROM, [](int32_t, int64_t) { return 0; });
      break;
    case kWritesUnmapped:
      change_ints(call, HADAL_KV_WRITE_BLOCK_TABLE,
                  [](int32_t b, int64_t) { return std::max(b, 0); });
      break;
    case kTruncatesKv:
      clear_bits(call, HADAL_KV_WRITE_X, kept_bits(call.view(HADAL_KV_WRITE_PLANE).dtype));
      break;
    case kIgnoresKvRatio:
      call.op.attr.kv_write.ratio = 1;
      break;
    default:
      break;
  }
}

void set_param(Call& call, uint32_t param, float from, float to) {
  const View params = call.view(HADAL_SAMPLE_PARAMS);
  for (int64_t r = 0; r < params.extents[0]; ++r)
    if (float* p = params.row<float>(r) + param; *p > from) call.patch(p, to < 0 ? *p + 1 : to);
}

void before_sample(Call& call) {
  switch (call.fault) {
    case kTopKOffByOne:
      set_param(call, HADAL_PARAM_TOP_K, 1, -1);
      break;
    case kIgnoresMinP:
      set_param(call, HADAL_PARAM_MIN_P, 0, 0);
      break;
    case kIgnoresTopP:
      set_param(call, HADAL_PARAM_TOP_P, -1, 1);
      break;
    case kIgnoresMask:
      call.op.operands[HADAL_SAMPLE_MASK] = -1;
      break;
    case kIgnoresPosition:
      change_ints(call, HADAL_SAMPLE_POSITION, [](int32_t, int64_t) { return 0; });
      break;
    case kShortSeed: {
      const View seed = call.view(HADAL_SAMPLE_SEED);
      for (int64_t r = 0; r < seed.extents[0]; ++r)
        call.patch(seed.row<uint32_t>(r) + 1, uint32_t{0});
      break;
    }
    case kCountsPrompt: {
      const View entry = call.view(HADAL_SAMPLE_ENTRY);
      for (int64_t e = 0; e < entry.extents[0]; ++e)
        call.patch(entry.row<int32_t>(e) + 2, entry.row<int32_t>(e)[1] + entry.row<int32_t>(e)[2]);
      break;
    }
    case kWrongRepetition: {
      // l * repetition + bias becomes l / repetition + bias.
      const View start = call.view(HADAL_SAMPLE_ENTRY_START);
      for (int64_t r = 0; r < start.extents[0]; ++r)
        for (int32_t e = start.row<int32_t>(r)[0]; e < start.row<int32_t>(r)[1]; ++e) {
          const int32_t* entry = call.view(HADAL_SAMPLE_ENTRY).row<int32_t>(e);
          const float l = call.view(HADAL_SAMPLE_LOGITS).row<float>(r)[entry[0]];
          const float repetition =
              call.view(HADAL_SAMPLE_PARAMS).row<float>(r)[HADAL_PARAM_REPETITION];
          float* bias = call.view(HADAL_SAMPLE_ENTRY_BIAS).row<float>(e);
          if (l < 0 && (entry[1] > 0 || entry[2] > 0))
            call.patch(bias, *bias + l / repetition - l * repetition);
        }
      break;
    }
    default:
      break;
  }
}

void before_lora(Call& call) {
  const View adapter = call.view(HADAL_LORA_ADD_ADAPTER);
  switch (call.fault) {
    case kNoAdapterIsFirst:
      change_ints(call, HADAL_LORA_ADD_ADAPTER, [](int32_t a, int64_t) { return a == -1 ? 0 : a; });
      break;
    case kOneAdapterForAll:
      change_ints(call, HADAL_LORA_ADD_ROW_SEQ,
                  [&](int32_t s, int64_t) { return s >= 0 && s < adapter.extents[0] ? 0 : s; });
      break;
    case kForgetsLora:
      each(call.view(HADAL_LORA_ADD_OUT), [&](float* x) { call.keep(x); });
      break;
    case kRoundsRankToHalf:
      clear_bits(call, HADAL_LORA_ADD_X, 0xffff0000u);
      break;
    case kClampsAdapter:
      change_ints(call, HADAL_LORA_ADD_ADAPTER,
                  [last = call.view(HADAL_LORA_ADD_A).extents[0] - 1](int32_t a, int64_t) {
                    return std::clamp(a, -1, static_cast<int32_t>(last));
                  });
      break;
    default:
      break;
  }
}

// Operators that only move numbers.
void before_copy(Call& call) {
  switch (call.op.id) {
    case HADAL_OP_EMBED:
      if (call.fault == kClampsToken)
        clamp_ints(call, HADAL_EMBED_TOKEN, call.view(HADAL_EMBED_TABLE).extents[0]);
      break;
    case HADAL_OP_GATHER_ROWS:
      if (call.fault == kClampsIndex)
        clamp_ints(call, HADAL_GATHER_ROWS_INDEX, call.view(HADAL_GATHER_ROWS_X).extents[0]);
      break;
    case HADAL_OP_COPY_BLOCKS:
      if (call.fault == kCopiesMinusOne)
        change_ints(call, HADAL_COPY_BLOCKS_FROM,
                    [](int32_t b, int64_t) { return std::max(b, 0); });
      if (call.fault == kCopiesHalfBlocks) keep_half_blocks(call);
      break;
    case HADAL_OP_CONVERT:
      if (call.fault == kTruncates && call.view(HADAL_CONVERT_X).dtype == HADAL_F32)
        clear_bits(call, HADAL_CONVERT_X, kept_bits(call.view(HADAL_CONVERT_OUT).dtype));
      break;
    default:
      break;
  }
}

}  // namespace

/// Rows that fill a bucket are taken for rows of sequence 0.
void adopt_rows(Call& call) {
  const uint32_t row_seq = call.op.id == HADAL_OP_KV_WRITE ? uint32_t{HADAL_KV_WRITE_ROW_SEQ}
                           : call.op.id == HADAL_OP_GQA_ATTENTION
                               ? uint32_t{HADAL_GQA_ATTENTION_ROW_SEQ}
                               : uint32_t{HADAL_MAX_OPERANDS};
  if (row_seq < HADAL_MAX_OPERANDS)
    change_ints(call, row_seq, [](int32_t s, int64_t) { return std::max(s, 0); });
}

void before(Call& call) {
  if (call.fault == kWritesRowsOfNobody) adopt_rows(call);
  switch (call.op.id) {
    case HADAL_OP_MATMUL:
      before_matmul(call);
      break;
    case HADAL_OP_NORM:
      before_norm(call);
      break;
    case HADAL_OP_ROPE:
      before_rope(call);
      break;
    case HADAL_OP_GQA_ATTENTION:
      if (call.fault == kRoundsQuerySaysExact) clear_bits(call, HADAL_GQA_ATTENTION_Q, 0xffff0000u);
      before_attention(call);
      break;
    case HADAL_OP_ROUTER:
      before_router(call);
      break;
    case HADAL_OP_MOE_SORT:
      if (call.fault == kClampsExpert)
        clamp_ints(call, HADAL_MOE_SORT_EXPERT,
                   call.op.attr.experts.of != 0 ? int64_t{call.op.attr.experts.of}
                                                : call.view(HADAL_MOE_SORT_OFFSET).extents[0] - 1);
      if (call.fault == kIgnoresExpertRange) call.op.attr.experts.first = 0;
      break;
    case HADAL_OP_GROUPED_MATMUL:
      if (call.fault == kNeighboursMatrix) shift_offsets(call);
      if (call.fault == kPairsAreRows)
        change_ints(call, HADAL_GROUPED_MATMUL_ORDER, [&](int32_t pair, int64_t) {
          return pair / static_cast<int32_t>(call.op.attr.experts.fan);
        });
      break;
    case HADAL_OP_MOE_COMBINE:
      before_combine(call);
      break;
    case HADAL_OP_LATENT_ATTENTION:
      before_latent(call);
      break;
    case HADAL_OP_INDEX_TOPK:
      before_index(call);
      before_candidates(call);
      break;
    case HADAL_OP_INDEX_BLOCKS:
      before_index(call);
      break;
    case HADAL_OP_ENGRAM_GATE:
      if (call.fault == kForgetsEngramFloor) call.op.attr.engram.floor = 0;
      if (call.fault == kForgetsEngramEps) call.op.attr.engram.eps = 0;
      each(call.view(HADAL_ENGRAM_GATE_X), [&](float* x) { call.saved.push_back(*x); });
      break;
    case HADAL_OP_LORA_ADD:
      before_lora(call);
      break;
    case HADAL_OP_COMPRESS:
      before_compress(call);
      break;
    case HADAL_OP_HC_PRE:
      before_streams(call);
      break;
    case HADAL_OP_HC_POST:
      before_mix(call);
      break;
    case HADAL_OP_KV_WRITE:
      before_kv_write(call);
      break;
    case HADAL_OP_SAMPLE:
      before_sample(call);
      break;
    case HADAL_OP_SWIGLU:
      if (call.fault == kIgnoresClamp) call.op.attr.swiglu.clamp = 0;
      if (call.fault == kIgnoresRowWeight) call.op.operands[HADAL_SWIGLU_WEIGHT] = -1;
      break;
    case HADAL_OP_GATED_MATMUL:
      if (call.fault == kIgnoresGatedClamp) call.op.attr.swiglu.clamp = 0;
      if (call.fault == kSwapsGateAndUp)
        std::swap(call.op.operands[HADAL_GATED_MATMUL_GATE],
                  call.op.operands[HADAL_GATED_MATMUL_UP]);
      break;
    default:
      before_copy(call);
      break;
  }
}

}  // namespace hadal::faulty
