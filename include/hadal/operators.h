/* clang-format off */
/* The enums of the chip contract: element types, operators and the places of their operands.
 *
 * Made from operators.inc and dtypes.inc by tools/generate/make_operators_header.py: change those, not
 * this file. What an operator computes, and how far it may be off: docs/operators.md.
 */
#ifndef HADAL_OPERATORS_H
#define HADAL_OPERATORS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hadal_dtype {
  HADAL_DTYPE_NONE = 0,
  HADAL_F32 = 1,
  HADAL_F16 = 2,
  HADAL_BF16 = 3,
  HADAL_F64 = 4,
  HADAL_I8 = 5,
  HADAL_I16 = 6,
  HADAL_I32 = 7,
  HADAL_I64 = 8,
  HADAL_U8 = 9,
  HADAL_U16 = 10,
  HADAL_U32 = 11,
  HADAL_U64 = 12,
  HADAL_BOOL = 13,
  HADAL_F8_E4M3 = 14,
  HADAL_F8_E5M2 = 15,
  HADAL_F8_E8M0 = 16,
  HADAL_F4_E2M1 = 17, /* 2 values in 1 bytes */
  HADAL_Q4_0 = 32, /* 32 values in 18 bytes */
  HADAL_Q4_1 = 33, /* 32 values in 20 bytes */
  HADAL_Q5_0 = 34, /* 32 values in 22 bytes */
  HADAL_Q5_1 = 35, /* 32 values in 24 bytes */
  HADAL_Q8_0 = 36, /* 32 values in 34 bytes */
  HADAL_Q8_1 = 37, /* 32 values in 36 bytes */
  HADAL_Q2_K = 38, /* 256 values in 84 bytes */
  HADAL_Q3_K = 39, /* 256 values in 110 bytes */
  HADAL_Q4_K = 40, /* 256 values in 144 bytes */
  HADAL_Q5_K = 41, /* 256 values in 176 bytes */
  HADAL_Q6_K = 42, /* 256 values in 210 bytes */
  HADAL_Q8_K = 43, /* 256 values in 292 bytes */
  HADAL_IQ2_XXS = 44, /* 256 values in 66 bytes */
  HADAL_IQ2_XS = 45, /* 256 values in 74 bytes */
  HADAL_IQ3_XXS = 46, /* 256 values in 98 bytes */
  HADAL_IQ1_S = 47, /* 256 values in 50 bytes */
  HADAL_IQ4_NL = 48, /* 32 values in 18 bytes */
  HADAL_IQ3_S = 49, /* 256 values in 110 bytes */
  HADAL_IQ2_S = 50, /* 256 values in 82 bytes */
  HADAL_IQ4_XS = 51, /* 256 values in 136 bytes */
  HADAL_IQ1_M = 52, /* 256 values in 56 bytes */
  HADAL_TQ1_0 = 53, /* 256 values in 54 bytes */
  HADAL_TQ2_0 = 54, /* 256 values in 66 bytes */
  HADAL_MXFP4 = 55, /* 32 values in 17 bytes */
  HADAL_NVFP4 = 56, /* 64 values in 36 bytes */
  HADAL_Q1_0 = 57, /* 128 values in 18 bytes */
  HADAL_DTYPE_FORCE_32BIT = 0x7fffffff
} hadal_dtype;

typedef enum hadal_op_id {
  HADAL_OP_NONE = 0,
  HADAL_OP_EMBED = 1,
  HADAL_OP_MATMUL = 2,
  HADAL_OP_NORM = 3,
  HADAL_OP_ROPE = 4,
  HADAL_OP_SWIGLU = 5,
  HADAL_OP_GATED_MATMUL = 6,
  HADAL_OP_ADD = 7,
  HADAL_OP_KV_WRITE = 8,
  HADAL_OP_GQA_ATTENTION = 9,
  HADAL_OP_GATHER_ROWS = 10,
  HADAL_OP_COPY_BLOCKS = 11,
  HADAL_OP_CONVERT = 12,
  HADAL_OP_SAMPLE = 13,
  HADAL_OP_ROUTER = 14,
  HADAL_OP_MOE_SORT = 15,
  HADAL_OP_GROUPED_MATMUL = 16,
  HADAL_OP_MOE_COMBINE = 17,
  HADAL_OP_MOE_EXPERTS = 18,
  HADAL_OP_LATENT_ATTENTION = 19,
  HADAL_OP_MLA_ATTENTION = 20,
  HADAL_OP_INDEX_TOPK = 21,
  HADAL_OP_COMPRESS = 22,
  HADAL_OP_HC_PRE = 23,
  HADAL_OP_HC_POST = 24,
  HADAL_OP_INDEX_BLOCKS = 25,
  HADAL_OP_ENGRAM_GATE = 26,
  HADAL_OP_LORA_ADD = 27,
  HADAL_OP_ALL_REDUCE = 28,
  HADAL_OP_ID_FORCE_32BIT = 0x7fffffff
} hadal_op_id;

/* out[t] = table[token[t]] */
typedef enum hadal_operands_EMBED {
  HADAL_EMBED_TOKEN = 0, /* in, [T], I32, token ids */
  HADAL_EMBED_TABLE = 1, /* weight, [V, d], any, embedding, use: gather */
  HADAL_EMBED_OUT = 2, /* out, [T, d], F32 */
  HADAL_EMBED_OPERANDS = 3
} hadal_operands_EMBED;

/* out[m, n] = sum_k x[m, k] w[n, k] (+ bias[n]) (+ out[m, n] if ADD is given: out = ADD + …) */
typedef enum hadal_operands_MATMUL {
  HADAL_MATMUL_X = 0, /* in, [M, K] or [M, B, K], F32, activations */
  HADAL_MATMUL_W = 1, /* weight, [N, K] or [B, N, K], any, use: matmul */
  HADAL_MATMUL_BIAS = 2, /* opt weight, [N], F32 */
  HADAL_MATMUL_ADD = 3, /* opt in, as OUT, F32, may be the very memory of OUT */
  HADAL_MATMUL_OUT = 4, /* out, [M, N] or [M, B, N], F32 */
  HADAL_MATMUL_OPERANDS = 5
} hadal_operands_MATMUL;

/* r = x (+ residual; residual <- r); rms: out = r / sqrt(mean(r^2) + eps) * w; layer: (r - mean) /
 * sqrt(var + eps) * w + b */
typedef enum hadal_operands_NORM {
  HADAL_NORM_X = 0, /* in, [M, n] or [M, H, n], F32 */
  HADAL_NORM_W = 1, /* opt weight, [n], F32, absent: 1 */
  HADAL_NORM_B = 2, /* opt weight, [n], F32, layer norm only */
  HADAL_NORM_RESIDUAL = 3, /* opt inout, as X, F32, x is added to it before the norm */
  HADAL_NORM_OUT = 4, /* out, as X, F32, may be the very memory of X */
  HADAL_NORM_OPERANDS = 5
} hadal_operands_NORM;

/* (a, b) <- (a cos - b sin, a sin + b cos) for pairs of x, of the angle position[t] * inv_freq[i] */
typedef enum hadal_operands_ROPE {
  HADAL_ROPE_X = 0, /* inout, [T, H, D], F32, rows may be strided */
  HADAL_ROPE_POSITION = 1, /* in, [T], I32 */
  HADAL_ROPE_INV_FREQ = 2, /* weight, [dims / 2], F32, use: vector */
  HADAL_ROPE_OPERANDS = 3
} hadal_operands_ROPE;

/* out = silu(gate) * up (* weight[m]) */
typedef enum hadal_operands_SWIGLU {
  HADAL_SWIGLU_GATE = 0, /* in, [M, n], F32 */
  HADAL_SWIGLU_UP = 1, /* in, [M, n], F32 */
  HADAL_SWIGLU_WEIGHT = 2, /* opt in, [M], F32, of the row */
  HADAL_SWIGLU_OUT = 3, /* out, [M, n], F32, may be GATE's or UP's memory */
  HADAL_SWIGLU_OPERANDS = 4
} hadal_operands_SWIGLU;

/* out = silu(x gate^T) * (x up^T) */
typedef enum hadal_operands_GATED_MATMUL {
  HADAL_GATED_MATMUL_X = 0, /* in, [M, K], F32 */
  HADAL_GATED_MATMUL_GATE = 1, /* weight, [N, K], any, use: matmul */
  HADAL_GATED_MATMUL_UP = 2, /* weight, [N, K], any, use: matmul */
  HADAL_GATED_MATMUL_OUT = 3, /* out, [M, N], F32 */
  HADAL_GATED_MATMUL_OPERANDS = 4
} hadal_operands_GATED_MATMUL;

/* x <- x + y */
typedef enum hadal_operands_ADD {
  HADAL_ADD_X = 0, /* inout, [M, n], F32 */
  HADAL_ADD_Y = 1, /* in, [M, n], F32 */
  HADAL_ADD_OPERANDS = 2
} hadal_operands_ADD;

/* plane[block_table[s][p div slots]][p mod slots] <- x[t], s = row_seq[t], p = position[t] div
 * ratio */
typedef enum hadal_operands_KV_WRITE {
  HADAL_KV_WRITE_X = 0, /* in, [T, width], F32, rows may be strided */
  /* inout, [blocks, slots, width], F32 or F16 or BF16, one layer of a plane */
  HADAL_KV_WRITE_PLANE = 1,
  HADAL_KV_WRITE_POSITION = 2, /* in, [T], I32 */
  HADAL_KV_WRITE_ROW_SEQ = 3, /* in, [T], I32, the row's sequence, an index into S */
  HADAL_KV_WRITE_BLOCK_TABLE = 4, /* in, [S, max blocks], I32, of the plane's group */
  HADAL_KV_WRITE_WRITE_FROM = 5, /* in, [S], I32 */
  HADAL_KV_WRITE_OPERANDS = 6
} hadal_operands_KV_WRITE;

/* out[t, h] = sum_j softmax_j(scale q[t, h] . k[j, h']) v[j, h'], first[s] <= j <= position[t], h'
 * = h div (H / kv_heads) */
typedef enum hadal_operands_GQA_ATTENTION {
  HADAL_GQA_ATTENTION_Q = 0, /* in, [T, H, D], F32 */
  HADAL_GQA_ATTENTION_K = 1, /* in, [blocks, slots, kv_heads * D], F32 or F16 or BF16, plane */
  HADAL_GQA_ATTENTION_V = 2, /* in, [blocks, slots, kv_heads * Dv], F32 or F16 or BF16, plane */
  HADAL_GQA_ATTENTION_POSITION = 3, /* in, [T], I32 */
  HADAL_GQA_ATTENTION_ROW_SEQ = 4, /* in, [T], I32 */
  HADAL_GQA_ATTENTION_BLOCK_TABLE = 5, /* in, [S, max blocks], I32, of the planes' group */
  HADAL_GQA_ATTENTION_FIRST = 6, /* in, [S], I32, positions below are not seen */
  HADAL_GQA_ATTENTION_SINK = 7, /* opt weight, [H], F32 */
  HADAL_GQA_ATTENTION_OUT = 8, /* out, [T, H, Dv], F32 */
  HADAL_GQA_ATTENTION_OPERANDS = 9
} hadal_operands_GQA_ATTENTION;

/* out[r] = x[index[r]] */
typedef enum hadal_operands_GATHER_ROWS {
  HADAL_GATHER_ROWS_X = 0, /* in, [M, n], F32 or I32 */
  HADAL_GATHER_ROWS_INDEX = 1, /* in, [R], I32 */
  HADAL_GATHER_ROWS_OUT = 2, /* out, [R, n], F32 or I32, of X's dtype */
  HADAL_GATHER_ROWS_OPERANDS = 3
} hadal_operands_GATHER_ROWS;

/* plane[to[i]] <- plane[from[i]] */
typedef enum hadal_operands_COPY_BLOCKS {
  HADAL_COPY_BLOCKS_PLANE = 0, /* inout, [blocks, slots, width], F32 or F16 or BF16 */
  HADAL_COPY_BLOCKS_FROM = 1, /* in, [S], I32 */
  HADAL_COPY_BLOCKS_TO = 2, /* in, [S], I32 */
  HADAL_COPY_BLOCKS_OPERANDS = 3
} hadal_operands_COPY_BLOCKS;

/* out = x in another dtype */
typedef enum hadal_operands_CONVERT {
  HADAL_CONVERT_X = 0, /* in, [M, n], F32 or F16 or BF16 */
  HADAL_CONVERT_OUT = 1, /* out, [M, n], F32 or F16 or BF16 */
  HADAL_CONVERT_OPERANDS = 2
} hadal_operands_CONVERT;

/* penalties and bias, mask, then greedy: the largest logit; else l / temperature, top-k, top-p,
 * min-p, the largest of l + gumbel */
typedef enum hadal_operands_SAMPLE {
  HADAL_SAMPLE_LOGITS = 0, /* in, [R, V], F32 */
  HADAL_SAMPLE_PARAMS = 1, /* in, [R, HADAL_PARAM_COUNT], F32, hadal_sample_param */
  HADAL_SAMPLE_SEED = 2, /* in, [R, 2], U32, low and high word */
  HADAL_SAMPLE_POSITION = 3, /* in, [R], I32, position of the token that is sampled */
  /* in, [R, 2], I32, the row's entries: first and one past the last */
  HADAL_SAMPLE_ENTRY_START = 4,
  HADAL_SAMPLE_ENTRY = 5, /* in, [entries, 3], I32, token, times in prompt, times in output */
  HADAL_SAMPLE_ENTRY_BIAS = 6, /* in, [entries], F32 */
  HADAL_SAMPLE_MASK = 7, /* opt in, [R, (V + 31) / 32], U32, bit set: allowed */
  HADAL_SAMPLE_TOKEN = 8, /* out, [R], I32 */
  HADAL_SAMPLE_LOGPROB = 9, /* out, [R], F32 */
  HADAL_SAMPLE_TOP_TOKEN = 10, /* out, [R, top], I32, most likely first */
  HADAL_SAMPLE_TOP_LOGPROB = 11, /* out, [R, top], F32 */
  HADAL_SAMPLE_OPERANDS = 12
} hadal_operands_SAMPLE;

/* score = f(logits); EXPERT = the k of the largest selection score, score + bias; WEIGHT = scale *
 * their scores (/ their sum + 1e-20) */
typedef enum hadal_operands_ROUTER {
  HADAL_ROUTER_LOGITS = 0, /* in, [T, E], F32 */
  HADAL_ROUTER_BIAS = 1, /* opt weight, [E], F32, for the choice alone */
  HADAL_ROUTER_TOKEN = 2, /* opt in, [T], I32, goes with HASH */
  /* opt weight, [V, k], any, experts of each token, as numbers; use: gather */
  HADAL_ROUTER_HASH = 3,
  HADAL_ROUTER_EXPERT = 4, /* out, [T, k], I32 */
  HADAL_ROUTER_WEIGHT = 5, /* out, [T, k], F32 */
  HADAL_ROUTER_OPERANDS = 6
} hadal_operands_ROUTER;

/* ORDER = the pairs (t, j) as t k + j, sorted by expert; OFFSET[e] = where expert e begins;
 * PLACE[ORDER[i]] = i */
typedef enum hadal_operands_MOE_SORT {
  HADAL_MOE_SORT_EXPERT = 0, /* in, [T, k], I32 */
  HADAL_MOE_SORT_WEIGHT = 1, /* in, [T, k], F32 */
  HADAL_MOE_SORT_ORDER = 2, /* out, [T * k], I32 */
  HADAL_MOE_SORT_PLACE = 3, /* out, [T * k], I32 */
  HADAL_MOE_SORT_OFFSET = 4, /* out, [experts + 1], I32 */
  HADAL_MOE_SORT_ROW_WEIGHT = 5, /* out, [T * k], F32 */
  HADAL_MOE_SORT_OPERANDS = 6
} hadal_operands_MOE_SORT;

/* out[i, n] = sum_k x[r, k] w[e, n, k], OFFSET[e] <= i < OFFSET[e + 1]; r = ORDER[i] div fan,
 * without ORDER r = i */
typedef enum hadal_operands_GROUPED_MATMUL {
  HADAL_GROUPED_MATMUL_X = 0, /* in, [L, K], F32, T rows with ORDER, else as many as OUT */
  HADAL_GROUPED_MATMUL_W = 1, /* weight, [E, N, K], any, use: matmul */
  HADAL_GROUPED_MATMUL_OFFSET = 2, /* in, [E + 1], I32, of moe_sort */
  HADAL_GROUPED_MATMUL_ORDER = 3, /* opt in, [M], I32, of moe_sort */
  HADAL_GROUPED_MATMUL_OUT = 4, /* out, [M, N], F32 */
  HADAL_GROUPED_MATMUL_OPERANDS = 5
} hadal_operands_GROUPED_MATMUL;

/* out[t] = sum_j x[PLACE[t k + j]] (+ SHARED[t]) (+ ADD[t]) */
typedef enum hadal_operands_MOE_COMBINE {
  /* in, [M, n], F32, rows in the order of moe_sort, weights already in them */
  HADAL_MOE_COMBINE_X = 0,
  HADAL_MOE_COMBINE_PLACE = 1, /* in, [M], I32, of moe_sort */
  HADAL_MOE_COMBINE_SHARED = 2, /* opt in, as OUT, F32 */
  HADAL_MOE_COMBINE_ADD = 3, /* opt in, as OUT, F32, may be the very memory of OUT */
  HADAL_MOE_COMBINE_OUT = 4, /* out, [T, n], F32 */
  HADAL_MOE_COMBINE_OPERANDS = 5
} hadal_operands_MOE_COMBINE;

/* out[t] = sum_j WEIGHT[t, j] DOWN_e (silu(GATE_e x[t]) * UP_e x[t]) (+ SHARED[t]) (+ ADD[t]), e =
 * EXPERT[t, j] */
typedef enum hadal_operands_MOE_EXPERTS {
  HADAL_MOE_EXPERTS_X = 0, /* in, [T, d], F32 */
  HADAL_MOE_EXPERTS_EXPERT = 1, /* in, [T, k], I32 */
  HADAL_MOE_EXPERTS_WEIGHT = 2, /* in, [T, k], F32 */
  HADAL_MOE_EXPERTS_GATE = 3, /* weight, [E, n, d], any, use: matmul */
  HADAL_MOE_EXPERTS_UP = 4, /* weight, [E, n, d], any, use: matmul */
  HADAL_MOE_EXPERTS_DOWN = 5, /* weight, [E, d, n], any, use: matmul */
  HADAL_MOE_EXPERTS_SHARED = 6, /* opt in, as OUT, F32 */
  HADAL_MOE_EXPERTS_ADD = 7, /* opt in, as OUT, F32, may be the very memory of OUT */
  HADAL_MOE_EXPERTS_OUT = 8, /* out, [T, d], F32 */
  HADAL_MOE_EXPERTS_OPERANDS = 9
} hadal_operands_MOE_EXPERTS;

/* out[t, h] = sum_e softmax_e(scale [q[t, h]; tail[t, h]] . entry[e]) entry[e][0 … Dv), over the
 * visible entries of both segments */
typedef enum hadal_operands_LATENT_ATTENTION {
  HADAL_LATENT_ATTENTION_Q = 0, /* in, [T, H, D], F32 */
  HADAL_LATENT_ATTENTION_TAIL = 1, /* opt in, [T, H, Dr], F32, the last numbers of the query */
  HADAL_LATENT_ATTENTION_POSITION = 2, /* in, [T], I32 */
  HADAL_LATENT_ATTENTION_ROW_SEQ = 3, /* in, [T], I32 */
  HADAL_LATENT_ATTENTION_PLANE = 4, /* in, [blocks, slots, D + Dr], F32 or F16 or BF16, segment 0 */
  HADAL_LATENT_ATTENTION_BLOCK_TABLE = 5, /* in, [S, max blocks], I32 */
  HADAL_LATENT_ATTENTION_FIRST = 6, /* in, [S], I32, positions below are not seen */
  HADAL_LATENT_ATTENTION_LIST = 7, /* opt in, [T, listed], I32 */
  /* opt in, [blocks2, slots2, D + Dr], F32 or F16 or BF16, segment 1 */
  HADAL_LATENT_ATTENTION_PLANE2 = 8,
  HADAL_LATENT_ATTENTION_BLOCK_TABLE2 = 9, /* opt in, [S, max blocks2], I32 */
  HADAL_LATENT_ATTENTION_FIRST2 = 10, /* opt in, [S], I32 */
  HADAL_LATENT_ATTENTION_LIST2 = 11, /* opt in, [T, listed2], I32 */
  HADAL_LATENT_ATTENTION_SINK = 12, /* opt weight, [H], F32 */
  HADAL_LATENT_ATTENTION_OUT = 13, /* out, [T, H, Dv], F32 */
  HADAL_LATENT_ATTENTION_OPERANDS = 14
} hadal_operands_LATENT_ATTENTION;

/* out[t, h] = V_h sum_e softmax_e(scale [K_h^T q[t, h]; q_rope[t, h]] . entry[e]) entry[e][0 … r) */
typedef enum hadal_operands_MLA_ATTENTION {
  HADAL_MLA_ATTENTION_Q_NOPE = 0, /* in, [T, H, dn], F32 */
  HADAL_MLA_ATTENTION_Q_ROPE = 1, /* in, [T, H, dr], F32 */
  HADAL_MLA_ATTENTION_W_UK = 2, /* weight, [H, r, dn], any, use: matmul */
  HADAL_MLA_ATTENTION_W_UV = 3, /* weight, [H, dv, r], any, use: matmul */
  HADAL_MLA_ATTENTION_PLANE = 4, /* in, [blocks, slots, r + dr], F32 or F16 or BF16 */
  HADAL_MLA_ATTENTION_POSITION = 5, /* in, [T], I32 */
  HADAL_MLA_ATTENTION_ROW_SEQ = 6, /* in, [T], I32 */
  HADAL_MLA_ATTENTION_BLOCK_TABLE = 7, /* in, [S, max blocks], I32 */
  HADAL_MLA_ATTENTION_FIRST = 8, /* in, [S], I32 */
  HADAL_MLA_ATTENTION_LIST = 9, /* opt in, [T, listed], I32 */
  HADAL_MLA_ATTENTION_OUT = 10, /* out, [T, H, dv], F32 */
  HADAL_MLA_ATTENTION_OPERANDS = 11
} hadal_operands_MLA_ATTENTION;

/* LIST[t] = the k visible entries of the largest score, ascending, -1 behind them; score[e] = sum_h
 * weight[t, h] max(0, q[t, h] . key[e]) */
typedef enum hadal_operands_INDEX_TOPK {
  HADAL_INDEX_TOPK_Q = 0, /* in, [T, H, D], F32 */
  HADAL_INDEX_TOPK_WEIGHT = 1, /* in, [T, H], F32 */
  HADAL_INDEX_TOPK_POSITION = 2, /* in, [T], I32 */
  HADAL_INDEX_TOPK_ROW_SEQ = 3, /* in, [T], I32 */
  HADAL_INDEX_TOPK_PLANE = 4, /* in, [blocks, slots, D], F32 or F16 or BF16, keys */
  HADAL_INDEX_TOPK_BLOCK_TABLE = 5, /* in, [S, max blocks], I32 */
  HADAL_INDEX_TOPK_FIRST = 6, /* in, [S], I32, positions below are not seen */
  HADAL_INDEX_TOPK_LIST = 7, /* out, [T, k], I32 */
  /* opt in, [T, candidates], I32, of index_blocks: only entries e with e div block_size among them
   * are searched; ascending, -1 ends them, blocks without a visible entry count for nothing; a
   * block not above the one before, or that cannot exist, is HADAL_INVALID */
  HADAL_INDEX_TOPK_CANDIDATES = 8,
  HADAL_INDEX_TOPK_OPERANDS = 9
} hadal_operands_INDEX_TOPK;

/* out[t] = sum_j softmax_j(z[j] + APE[j]) kv[j], each channel by itself, over the rows of the entry
 * that ends at position[t] */
typedef enum hadal_operands_COMPRESS {
  HADAL_COMPRESS_PLANE = 0, /* in, [blocks, slots, rows], F32, rows = 2 D, with overlap 4 D */
  HADAL_COMPRESS_APE = 1, /* opt weight, [pe], F32, pe = ratio D, with overlap 2 ratio D */
  HADAL_COMPRESS_POSITION = 2, /* in, [T], I32 */
  HADAL_COMPRESS_ROW_SEQ = 3, /* in, [T], I32 */
  HADAL_COMPRESS_BLOCK_TABLE = 4, /* in, [S, max blocks], I32, of the plane's group */
  HADAL_COMPRESS_OUT = 5, /* out, [T, D], F32 */
  HADAL_COMPRESS_OPERANDS = 6
} hadal_operands_COMPRESS;

/* out[t] = sum_i pre_i x[t, i]; m = MIX[t] / sqrt(mean(x[t]^2) + norm_eps); pre = sigmoid(SCALE_0 m
 * + BASE) + eps, post = 2 sigmoid(SCALE_1 m + BASE), comb: see detail */
typedef enum hadal_operands_HC_PRE {
  HADAL_HC_PRE_X = 0, /* in, [T, n, d], F32, the streams */
  /* opt in, [T, mixed], F32, products of the flattened streams with the weights; not yet divided by
   * their norm */
  HADAL_HC_PRE_MIX = 1,
  HADAL_HC_PRE_BASE = 2, /* opt weight, [mixed], F32, goes with MIX */
  /* opt weight, [scales], F32, goes with MIX; 3, or 1 where only pre is wanted */
  HADAL_HC_PRE_SCALE = 3,
  HADAL_HC_PRE_OUT = 4, /* opt inout, [T, d], F32, written */
  HADAL_HC_PRE_POST = 5, /* opt inout, [T, n], F32, written; goes with COMB and MIX */
  HADAL_HC_PRE_COMB = 6, /* opt inout, [T, n, n], F32, written */
  HADAL_HC_PRE_PRE = 7, /* opt inout, [T, n], F32, of the site before; then of this one */
  HADAL_HC_PRE_OPERANDS = 8
} hadal_operands_HC_PRE;

/* x[t, k] <- POST[t, k] f[t] + sum_j COMB[t, j, k] x[t, j] */
typedef enum hadal_operands_HC_POST {
  HADAL_HC_POST_X = 0, /* inout, [T, n, d], F32, the streams */
  HADAL_HC_POST_F = 1, /* in, [T, d], F32 */
  HADAL_HC_POST_POST = 2, /* in, [T, n], F32 */
  HADAL_HC_POST_COMB = 3, /* in, [T, n, n], F32 */
  HADAL_HC_POST_OPERANDS = 4
} hadal_operands_HC_POST;

/* LIST[t] = the k blocks of the largest score, ascending, -1 behind them; a block is block_size
 * entries, its score the largest of its visible entries, by index_topk */
typedef enum hadal_operands_INDEX_BLOCKS {
  HADAL_INDEX_BLOCKS_Q = 0, /* in, [T, H, D], F32 */
  HADAL_INDEX_BLOCKS_WEIGHT = 1, /* in, [T, H], F32 */
  HADAL_INDEX_BLOCKS_POSITION = 2, /* in, [T], I32 */
  HADAL_INDEX_BLOCKS_ROW_SEQ = 3, /* in, [T], I32 */
  HADAL_INDEX_BLOCKS_PLANE = 4, /* in, [blocks, slots, D], F32 or F16 or BF16, keys */
  HADAL_INDEX_BLOCKS_BLOCK_TABLE = 5, /* in, [S, max blocks], I32 */
  HADAL_INDEX_BLOCKS_FIRST = 6, /* in, [S], I32, positions below are not seen */
  HADAL_INDEX_BLOCKS_LIST = 7, /* out, [T, k], I32 */
  HADAL_INDEX_BLOCKS_OPERANDS = 8
} hadal_operands_INDEX_BLOCKS;

/* x[t, i] <- x[t, i] + gate_i VALUE[t]; gate = sigmoid(sign(r) sqrt(max(|r|, floor))), r = sum_c
 * x[t, i, c] KEY[t, i, c] Q_WEIGHT[i, c] K_WEIGHT[i, c] / (rms(x[t, i]) rms(KEY[t, i]) sqrt(d)) */
typedef enum hadal_operands_ENGRAM_GATE {
  HADAL_ENGRAM_GATE_X = 0, /* inout, [T, n, d], F32, the streams */
  HADAL_ENGRAM_GATE_KEY = 1, /* in, [T, n, d], F32 */
  HADAL_ENGRAM_GATE_VALUE = 2, /* in, [T, d], F32 */
  HADAL_ENGRAM_GATE_Q_WEIGHT = 3, /* weight, [n * d], F32, use: vector */
  HADAL_ENGRAM_GATE_K_WEIGHT = 4, /* weight, [n * d], F32, use: vector */
  HADAL_ENGRAM_GATE_OPERANDS = 5
} hadal_operands_ENGRAM_GATE;

/* out[t] <- out[t] + B_a (A_a x[t]), a = ADAPTER[ROW_SEQ[t]]; rows with a = -1 keep their bits */
typedef enum hadal_operands_LORA_ADD {
  HADAL_LORA_ADD_X = 0, /* in, [M, K], F32, what the matmul multiplied */
  /* weight, [E, R, K], any, of E adapters, the lower ranks padded with zeros; use: matmul */
  HADAL_LORA_ADD_A = 1,
  /* weight, [E, N, R], any, factors of the adapters multiplied in; use: matmul */
  HADAL_LORA_ADD_B = 2,
  HADAL_LORA_ADD_ADAPTER = 3, /* in, [S], I32, a sequence's adapter, -1: none */
  HADAL_LORA_ADD_ROW_SEQ = 4, /* in, [M], I32 */
  HADAL_LORA_ADD_OUT = 5, /* inout, [M, N], F32, the matmul's result */
  HADAL_LORA_ADD_OPERANDS = 6
} hadal_operands_LORA_ADD;

/* x <- the sum of the x of all ranks */
typedef enum hadal_operands_ALL_REDUCE {
  HADAL_ALL_REDUCE_X = 0, /* inout, [M, n], F32, contiguous */
  HADAL_ALL_REDUCE_OPERANDS = 1
} hadal_operands_ALL_REDUCE;

#ifdef __cplusplus
}
#endif
#endif
