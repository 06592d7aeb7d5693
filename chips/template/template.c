/* The smallest chip that runs dense models (llama, qwen2, qwen3): a plug-in for Hadal to start
 * from.
 *
 * One file, C11, nothing of Hadal but its public headers:
 *
 *     cc -std=c11 -O2 -shared -fPIC -I include template.c -o libhadal_template.so -lm
 *     hadal chip test ./libhadal_template.so --for llama
 *
 * Memory is host memory, the queue is synchronous, every operator is a plain loop with fp32
 * operands (class "exact"), and rows are computed one by one (row_invariant). docs/add-a-chip.md
 * builds this file step by step. Places that change on a chip of your own are marked "YOUR CHIP:".
 * What hadal_… functions do stands in hadal/chip_parts.h: it is the same on any chip.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HADAL_CHIP_NAME "template" /* YOUR CHIP: its name, as in libhadal_NAME.so */
#include "hadal/chip_parts.h"

#define ALIGNMENT 64u /* YOUR CHIP: what your kernels ask of an address; a power of two to 4096 */
#define WEIGHTS "BF16 F16 F32" /* YOUR CHIP: types of weights that are taken, the best first */
#define KERNELS "plain"        /* the one table of kernels; a second one gets a name of its own */
#define KERNELS_VERSION 2      /* another number where a kernel gives other bits: kept caches ask */

/* ---- objects: what the opaque handles of the contract are here ---- */

struct hadal_device { /* YOUR CHIP: the index, a context, the streams of your runtime */
  uint64_t memory;    /* bytes */
};
struct hadal_queue { /* YOUR CHIP: a stream, and the first error of the work queued on it */
  hadal_device* device;
};
struct hadal_memory { /* YOUR CHIP: a device address */
  char* data;
  uint64_t bytes;
};
struct hadal_weight { /* YOUR CHIP: packed as your matrix unit reads it */
  uint32_t dtype;
  int64_t rows, cols; /* rows of all matrices of the handle */
  int64_t row_bytes;
  char data[];
};

static hadal_place place_of(hadal_memory* m) { return (hadal_place){m->data, m->bytes}; }

/* ---- devices ---- */

static void chip_close(hadal_chip* chip) { chip->context = NULL; }

static int32_t device_count(hadal_chip* chip) {
  (void)chip;
  return 1; /* YOUR CHIP: what its runtime counts; 0 is an answer */
}

static hadal_status device_open(hadal_chip* chip, int32_t index,
                                const hadal_device_options* options, hadal_device** out,
                                hadal_error* error) {
  *out = NULL;
  HADAL_OR_RETURN(hadal_check_open(index, 1, KERNELS, "", options, error));
  hadal_device* device = calloc(1, sizeof *device);
  if (!device) return hadal_fail(error, HADAL_OUT_OF_MEMORY, "no memory left for a device");
  device->memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  const hadal_host* host = chip->context;
  if (host->log) host->log(host->context, HADAL_LOG_INFO, HADAL_CHIP_NAME ": device 0 opened");
  *out = device;
  return HADAL_OK;
}

static void device_close(hadal_device* device) { free(device); }

static hadal_status device_info(hadal_device* device, hadal_device_info* out) {
  hadal_device_info info = {0};
  info.threads = 1;
  snprintf(info.name, sizeof info.name, "template (plain loops on the host)");
  snprintf(info.kernels, sizeof info.kernels, KERNELS);
  snprintf(info.all_kernels, sizeof info.all_kernels, KERNELS);
  info.memory_total = device->memory;
  info.memory_free = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  info.host_memory = 1;   /* YOUR CHIP: 0 where memory is its own, and mem_host gives NULL */
  info.row_invariant = 1; /* YOUR CHIP: 1 only if no row's bits depend on its neighbours */
  info.alignment = ALIGNMENT;
  info.kernels_version = KERNELS_VERSION;
  hadal_fill_sized(out, &info, sizeof info);
  return HADAL_OK;
}

/* ---- memory and copies ---- */

_Static_assert(sizeof(struct hadal_memory) <= ALIGNMENT, "the bytes lie behind the handle");

/* Need not be zeroed. 0 bytes give a handle as well. YOUR CHIP: the runtime's malloc; tell a lack
 * of memory as HADAL_OUT_OF_MEMORY, it is no fault of the device. */
static hadal_status mem_alloc(hadal_device* device, uint64_t bytes, hadal_memory** out,
                              hadal_error* error) {
  hadal_memory* m = NULL;
  if (bytes <= device->memory) m = aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 2) * ALIGNMENT);
  *out = m;
  if (!m) return hadal_fail(error, HADAL_OUT_OF_MEMORY, "no %" PRIu64 " bytes left", bytes);
  *m = (hadal_memory){(char*)m + ALIGNMENT, bytes};
  return HADAL_OK;
}

/* Host memory that stays valid until mem_free: the mapped model file, at any address. YOUR CHIP:
 * keep the pointer; weight_create copies from it. */
static hadal_status mem_import(hadal_device* device, const void* data, uint64_t bytes,
                               hadal_memory** out, hadal_error* error) {
  (void)device;
  *out = malloc(sizeof **out);
  if (!*out) return hadal_fail(error, HADAL_OUT_OF_MEMORY, "no memory left for a handle");
  **out = (hadal_memory){(char*)(uintptr_t)data, bytes};
  return HADAL_OK;
}

/* YOUR CHIP: behind the work that is queued (rule 4). */
static void mem_free(hadal_memory* m) { free(m); }

/* YOUR CHIP: NULL where the host cannot touch it. */
static void* mem_host(hadal_memory* m) { return m->data; }

/* The source has been read when this returns (rule 2). YOUR CHIP: stage it, or wait. */
static hadal_status copy_in(hadal_queue* queue, hadal_memory* to, uint64_t offset, const void* from,
                            uint64_t bytes, hadal_error* error) {
  (void)queue;
  HADAL_OR_RETURN(hadal_check_range("copy_in", to->bytes, offset, bytes, error));
  if (bytes > 0) memcpy(to->data + offset, from, bytes);
  return HADAL_OK;
}

/* The target need not be written before queue_sync (rule 3). */
static hadal_status copy_out(hadal_queue* queue, void* to, hadal_memory* from, uint64_t offset,
                             uint64_t bytes, hadal_error* error) {
  (void)queue;
  HADAL_OR_RETURN(hadal_check_range("copy_out", from->bytes, offset, bytes, error));
  if (bytes > 0) memcpy(to, from->data + offset, bytes);
  return HADAL_OK;
}

static hadal_status copy(hadal_queue* queue, hadal_memory* to, uint64_t to_offset,
                         hadal_memory* from, uint64_t from_offset, uint64_t bytes,
                         hadal_error* error) {
  (void)queue;
  HADAL_OR_RETURN(hadal_check_range("copy to", to->bytes, to_offset, bytes, error));
  HADAL_OR_RETURN(hadal_check_range("copy from", from->bytes, from_offset, bytes, error));
  if (bytes > 0) memmove(to->data + to_offset, from->data + from_offset, bytes);
  return HADAL_OK;
}

static hadal_status fill(hadal_queue* queue, hadal_memory* m, uint64_t offset, uint64_t bytes,
                         uint8_t value, hadal_error* error) {
  (void)queue;
  HADAL_OR_RETURN(hadal_check_range("fill", m->bytes, offset, bytes, error));
  if (bytes > 0) memset(m->data + offset, value, bytes);
  return HADAL_OK;
}

/* ---- queues ---- */

static hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  *out = calloc(1, sizeof **out);
  if (!*out) return hadal_fail(error, HADAL_OUT_OF_MEMORY, "no memory left for a queue");
  (*out)->device = device;
  return HADAL_OK;
}

static void queue_destroy(hadal_queue* queue) { free(queue); }

/* Returns when everything that was queued is done, with its first error (rule 7). YOUR CHIP: the
 * runtime's wait; and the error that a kernel left behind. */
static hadal_status queue_sync(hadal_queue* queue, hadal_error* error) {
  (void)queue, (void)error;
  return HADAL_OK;
}

/* ---- weights ---- */

/* What is taken as it is stored. The host converts the rest to a form of weight_forms. */
static hadal_status weight_bytes(hadal_device* device, const hadal_weight_desc* desc,
                                 uint64_t* bytes, hadal_error* error) {
  (void)device;
  if (desc->scale_dtype != HADAL_DTYPE_NONE)
    return hadal_refuse_weight(desc, HADAL_UNSUPPORTED, error,
                               "no scales are taken; convert it to one of: " WEIGHTS);
  return hadal_check_weight(desc, WEIGHTS, bytes, error);
}

/* The forms that the host may convert to, the best first. YOUR CHIP: what the matrix unit reads,
 * each with the class in which it is then computed: BF16 with HADAL_NUMERICS_HALF, I8 with F32
 * scales by 1 x 0 with HADAL_NUMERICS_ROW8, … */
static hadal_status weight_forms(hadal_device* device, uint32_t use, hadal_weight_form* forms,
                                 uint32_t* count, hadal_error* error) {
  (void)device, (void)error;
  return hadal_plain_forms(use, WEIGHTS, HADAL_NUMERICS_EXACT, forms, count);
}

static void weight_destroy(hadal_weight* w) { free(w); }

/* The rows of all pieces, one after the other; nothing of the source is kept, whatever keeps_source
 * says (rule 5). YOUR CHIP: upload, and pack as your kernels read. */
static hadal_status weight_create(hadal_device* device, const hadal_weight_desc* desc,
                                  const hadal_piece* pieces, uint32_t piece_count,
                                  hadal_weight** out, hadal_error* error) {
  *out = NULL;
  uint64_t bytes = 0;
  HADAL_OR_RETURN(weight_bytes(device, desc, &bytes, error));
  const int64_t rows = desc->batch * desc->rows, row_bytes = (int64_t)bytes / rows;
  HADAL_OR_RETURN(hadal_check_pieces(desc, row_bytes, pieces, piece_count, place_of, error));
  hadal_weight* w = malloc(sizeof *w + bytes);
  if (!w) return hadal_fail(error, HADAL_OUT_OF_MEMORY, "no %" PRIu64 " bytes left", bytes);
  *w = (hadal_weight){desc->dtype, rows, desc->cols, row_bytes};
  char* to = w->data;
  for (const hadal_piece* p = pieces; p < pieces + piece_count; ++p)
    for (int64_t r = 0; r < p->rows; ++r, to += row_bytes)
      memcpy(to, p->memory->data + p->offset + r * p->row_stride, (size_t)row_bytes);
  *out = w;
  return HADAL_OK;
}

/* ---- operators: what a kernel gets ---- */

typedef struct call {
  const hadal_op* op;
  hadal_view v[HADAL_MAX_OPERANDS];
  char* workspace;
  hadal_error* error;
} call;

/* Operand NAME of operator OP: OPERAND(OP_NAME). */
#define OPERAND(name) (&c->v[HADAL_##name])

/* Strides are bytes and 64 bits wide: an offset may lie beyond 2^31. */
static float* row(const hadal_view* v, int64_t i, int64_t j) {
  return (float*)(v->data + i * v->stride[0] + j * v->stride[1]);
}
static int32_t whole(const hadal_view* v, int64_t i) {
  return *(const int32_t*)(v->data + i * v->stride[0]);
}
/* A vector of the model (norm weights, bias), or NULL if it is absent. */
static const float* vector_of(const hadal_view* v) {
  return v->weight ? (const float*)v->weight->data : NULL;
}
/* Of an index operand, number `at` is not one of [0, end). */
static hadal_status outside(const call* c, uint32_t operand, int64_t at, int64_t value,
                            int64_t end) {
  return hadal_refuse_index(c->op->id, operand, at, value, end, c->error);
}

/* ---- the kernels ---- YOUR CHIP: everything from here to the table ---- */

/* The sum's order depends on n alone, so a row has the same bits alone and among others. */
static float dot(const float* a, const float* b, int64_t n) {
  float lane[16] = {0};
  int64_t k = 0;
  for (; k + 16 <= n; k += 16)
    for (int i = 0; i < 16; ++i) lane[i] += a[k + i] * b[k + i];
  for (int i = 0; k < n; ++i, ++k) lane[i] += a[k] * b[k];
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

static hadal_status embed(const call* c) {
  const hadal_view *token = OPERAND(EMBED_TOKEN), *out = OPERAND(EMBED_OUT);
  const hadal_weight* table = OPERAND(EMBED_TABLE)->weight;
  for (int64_t t = 0; t < token->n[0]; ++t) {
    const int64_t id = whole(token, t);
    if (id < 0 || id >= table->rows) return outside(c, HADAL_EMBED_TOKEN, t, id, table->rows);
    hadal_load(table->dtype, table->data + id * table->row_bytes, table->cols, row(out, t, 0));
  }
  return HADAL_OK;
}

/* Each row of the weight is decoded once, into the workspace, and multiplied with all rows of x. */
static hadal_status matmul(const call* c) {
  const hadal_view *x = OPERAND(MATMUL_X), *add = OPERAND(MATMUL_ADD), *out = OPERAND(MATMUL_OUT);
  const hadal_weight* w = OPERAND(MATMUL_W)->weight;
  const float* bias = vector_of(OPERAND(MATMUL_BIAS));
  const int64_t batch = x->rank == 3 ? x->n[1] : 1, features = w->rows / batch;
  for (int64_t r = 0; r < w->rows; ++r) {
    const int64_t b = r / features, n = r % features;
    const float* weights = (const float*)(w->data + r * w->row_bytes);
    if (w->dtype != HADAL_F32) {
      hadal_load(w->dtype, w->data + r * w->row_bytes, w->cols, (float*)c->workspace);
      weights = (const float*)c->workspace;
    }
    for (int64_t m = 0; m < x->n[0]; ++m) {
      float sum = dot(row(x, m, b), weights, w->cols);
      if (bias) sum += bias[n];
      if (add->data) sum = row(add, m, b)[n] + sum; /* may be the very memory of out */
      row(out, m, b)[n] = sum;
    }
  }
  return HADAL_OK;
}

static hadal_status norm(const call* c) {
  const hadal_view *x = OPERAND(NORM_X), *residual = OPERAND(NORM_RESIDUAL),
                   *out = OPERAND(NORM_OUT);
  const float *w = vector_of(OPERAND(NORM_W)), *bias = vector_of(OPERAND(NORM_B));
  const int64_t heads = x->rank == 3 ? x->n[1] : 1, n = x->n[x->rank - 1];
  for (int64_t i = 0; i < x->n[0] * heads; ++i) {
    const float* r = row(x, i / heads, i % heads);
    float* to = row(out, i / heads, i % heads);
    if (residual->data) {
      float* total = row(residual, i / heads, i % heads);
      for (int64_t k = 0; k < n; ++k) total[k] += r[k];
      r = total;
    }
    double mean = 0, squares = 0;
    for (int64_t k = 0; c->op->attr.norm.layer && k < n; ++k) mean += (double)r[k] / (double)n;
    for (int64_t k = 0; k < n; ++k) squares += ((double)r[k] - mean) * ((double)r[k] - mean);
    const double root = sqrt(squares / (double)n + (double)c->op->attr.norm.eps);
    for (int64_t k = 0; k < n; ++k)
      to[k] = (float)(((double)r[k] - mean) / root * (double)(w ? w[k] : 1.0f) +
                      (double)(bias ? bias[k] : 0.0f));
  }
  return HADAL_OK;
}

static hadal_status rope(const call* c) {
  const hadal_view *x = OPERAND(ROPE_X), *position = OPERAND(ROPE_POSITION);
  const float* inv_freq = vector_of(OPERAND(ROPE_INV_FREQ));
  const hadal_rope_attr* a = &c->op->attr.rope;
  const int64_t pairs = a->dims / 2;
  for (int64_t t = 0; t < x->n[0]; ++t) {
    const int64_t at = whole(position, t);
    if ((at + 1) % a->ratio != 0) continue;
    for (int64_t i = 0; i < pairs; ++i) {
      const float angle = (float)(at + 1 - a->ratio) * inv_freq[i];
      const float cosine = cosf(angle) * a->amplitude;
      const float sine = sinf(angle) * (a->inverse ? -a->amplitude : a->amplitude);
      const int64_t first = a->first + (a->interleaved ? 2 * i : i);
      const int64_t second = first + (a->interleaved ? 1 : pairs);
      for (int64_t h = 0; h < x->n[1]; ++h) {
        float* head = row(x, t, h);
        const float p = head[first], q = head[second];
        head[first] = p * cosine - q * sine;
        head[second] = p * sine + q * cosine;
      }
    }
  }
  return HADAL_OK;
}

static hadal_status swiglu(const call* c) {
  const hadal_view *gate = OPERAND(SWIGLU_GATE), *up = OPERAND(SWIGLU_UP),
                   *weight = OPERAND(SWIGLU_WEIGHT), *out = OPERAND(SWIGLU_OUT);
  const float clamp = c->op->attr.swiglu.clamp;
  for (int64_t m = 0; m < gate->n[0]; ++m)
    for (int64_t i = 0; i < gate->n[1]; ++i) {
      float g = row(gate, m, 0)[i], u = row(up, m, 0)[i];
      if (clamp > 0) {
        g = fminf(g, clamp);
        u = fmaxf(-clamp, fminf(u, clamp));
      }
      const float value = g / (1.0f + expf(-g)) * u;
      row(out, m, 0)[i] = weight->data ? value * *row(weight, m, 0) : value;
    }
  return HADAL_OK;
}

static hadal_status add(const call* c) {
  const hadal_view *x = OPERAND(ADD_X), *y = OPERAND(ADD_Y);
  for (int64_t m = 0; m < x->n[0]; ++m)
    for (int64_t i = 0; i < x->n[1]; ++i) row(x, m, 0)[i] += row(y, m, 0)[i];
  return HADAL_OK;
}

/* A block of -1 is written nowhere; nor are rows of a prefix that is shared. */
static hadal_status kv_write(const call* c) {
  const hadal_view *x = OPERAND(KV_WRITE_X), *plane = OPERAND(KV_WRITE_PLANE),
                   *table = OPERAND(KV_WRITE_BLOCK_TABLE);
  const int64_t ratio = c->op->attr.kv_write.ratio;
  for (int64_t t = 0; t < x->n[0]; ++t) {
    const int64_t s = whole(OPERAND(KV_WRITE_ROW_SEQ), t);
    const int64_t at = whole(OPERAND(KV_WRITE_POSITION), t);
    if (s < 0 || s >= table->n[0]) return outside(c, HADAL_KV_WRITE_ROW_SEQ, t, s, table->n[0]);
    const int64_t block = hadal_block_of(plane, table, s, at < 0 ? at : at / ratio);
    if (block < -1)
      return outside(c, HADAL_KV_WRITE_POSITION, t, at, table->n[1] * plane->n[1] * ratio);
    if (block == -1 || at < whole(OPERAND(KV_WRITE_WRITE_FROM), s) || (at + 1) % ratio != 0)
      continue;
    hadal_store(plane->dtype, row(x, t, 0), x->n[1], hadal_slot_of(plane, table, s, at / ratio, 0));
  }
  return HADAL_OK;
}

/* One query head over positions [first, last] of sequence s, one by one. What is summed up so far
 * is scaled by exp(-top). Workspace: the sum [Dv], and a row of K or V. */
static hadal_status attend(const call* c, int64_t t, int64_t h, int64_t s, int64_t first,
                           int64_t last) {
  const hadal_view *q = OPERAND(GQA_ATTENTION_Q), *k = OPERAND(GQA_ATTENTION_K),
                   *v = OPERAND(GQA_ATTENTION_V), *out = OPERAND(GQA_ATTENTION_OUT),
                   *table = OPERAND(GQA_ATTENTION_BLOCK_TABLE);
  const hadal_attention_attr* a = &c->op->attr.attention;
  const float *query = row(q, t, h), *sink = vector_of(OPERAND(GQA_ATTENTION_SINK));
  const int64_t d = q->n[2], dv = out->n[2], kv_head = h / (q->n[1] / a->kv_heads);
  double* sum = memset(c->workspace, 0, (size_t)dv * sizeof *sum);
  float* buffer = (float*)(sum + dv);
  double top = sink ? (double)sink[h] : -INFINITY, total = sink ? 1 : 0;
  for (int64_t j = first; j <= last; ++j) {
    if (hadal_block_of(k, table, s, j) < 0 || hadal_block_of(v, table, s, j) < 0)
      return outside(c, HADAL_GQA_ATTENTION_BLOCK_TABLE, t, j, table->n[1] * k->n[1]);
    hadal_load(k->dtype, hadal_slot_of(k, table, s, j, kv_head * d), d, buffer);
    double score = 0;
    for (int64_t i = 0; i < d; ++i) score += (double)query[i] * (double)buffer[i];
    score *= (double)a->scale;
    if (score > top) {
      const double keep = exp(top - score);
      total *= keep;
      for (int64_t i = 0; i < dv; ++i) sum[i] *= keep;
      top = score;
    }
    const double p = exp(score - top);
    hadal_load(v->dtype, hadal_slot_of(v, table, s, j, kv_head * dv), dv, buffer);
    for (int64_t i = 0; i < dv; ++i) sum[i] += p * (double)buffer[i];
    total += p;
  }
  for (int64_t i = 0; i < dv; ++i) row(out, t, h)[i] = total > 0 ? (float)(sum[i] / total) : 0.0f;
  return HADAL_OK;
}

/* Keys and values come from planes alone, after kv_write rounded them; the rows of this very step
 * are among them. A row that sees nothing gives zeros. */
static hadal_status gqa_attention(const call* c) {
  const hadal_view *q = OPERAND(GQA_ATTENTION_Q), *row_seq = OPERAND(GQA_ATTENTION_ROW_SEQ);
  const int64_t sequences = OPERAND(GQA_ATTENTION_BLOCK_TABLE)->n[0];
  const int64_t window = c->op->attr.attention.window;
  for (int64_t t = 0; t < q->n[0]; ++t) {
    const int64_t s = whole(row_seq, t), last = whole(OPERAND(GQA_ATTENTION_POSITION), t);
    if (s < 0 || s >= sequences) return outside(c, HADAL_GQA_ATTENTION_ROW_SEQ, t, s, sequences);
    int64_t first = whole(OPERAND(GQA_ATTENTION_FIRST), s);
    if (first < 0) first = 0;
    if (window != 0 && first < last - window + 1) first = last - window + 1;
    for (int64_t h = 0; h < q->n[1]; ++h) HADAL_OR_RETURN(attend(c, t, h, s, first, last));
  }
  return HADAL_OK;
}

static hadal_status gather_rows(const call* c) {
  const hadal_view *x = OPERAND(GATHER_ROWS_X), *index = OPERAND(GATHER_ROWS_INDEX);
  for (int64_t r = 0; r < index->n[0]; ++r) {
    const int64_t i = whole(index, r);
    if (i < 0 || i >= x->n[0]) return outside(c, HADAL_GATHER_ROWS_INDEX, r, i, x->n[0]);
    memcpy(row(OPERAND(GATHER_ROWS_OUT), r, 0), row(x, i, 0), (size_t)x->n[1] * 4);
  }
  return HADAL_OK;
}

/* ---- which operators are taken ---- */

typedef hadal_status (*kernel)(const call*);

static const kernel OPERATORS[] = {
    [HADAL_OP_EMBED] = embed,
    [HADAL_OP_MATMUL] = matmul,
    [HADAL_OP_NORM] = norm,
    [HADAL_OP_ROPE] = rope,
    [HADAL_OP_SWIGLU] = swiglu,
    [HADAL_OP_ADD] = add,
    [HADAL_OP_KV_WRITE] = kv_write,
    [HADAL_OP_GQA_ATTENTION] = gqa_attention,
    [HADAL_OP_GATHER_ROWS] = gather_rows,
};

static kernel kernel_of(uint32_t id) {
  return id < sizeof OPERATORS / sizeof *OPERATORS ? OPERATORS[id] : NULL;
}

/* HADAL_UNSUPPORTED: not offered, the host looks for another way. HADAL_INVALID: no chip could. */
static hadal_status check(const hadal_op* op, const hadal_tensor* t, hadal_error* error) {
  if (!kernel_of(op->id))
    return hadal_refuse_operator(op->id, t, "only what dense models need is; the cpu has it",
                                 error);
  HADAL_OR_RETURN(hadal_check_operands(op, t, WEIGHTS, error));
  for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i) {
    const hadal_weight* w = t[i].weight; /* NULL while op_support asks */
    if (t[i].space == HADAL_SPACE_WEIGHT && w &&
        !hadal_is_weight_of(&t[i], w->dtype, w->rows, w->cols))
      return hadal_refuse_operand(op->id, i, &t[i], HADAL_INVALID, error, "it is another weight");
  }
  return HADAL_OK;
}

/* Asked for every operator of a model at its limits, before weights are made (handles are NULL). */
static hadal_status op_support(hadal_device* device, const hadal_op* op, const hadal_tensor* t,
                               const int64_t* limits, hadal_op_answer* out, hadal_error* error) {
  (void)device, (void)limits;
  HADAL_OR_RETURN(check(op, t, error));
  /* YOUR CHIP: the class of what it really rounds, for these very types. */
  hadal_op_answer answer = {.numerics = HADAL_NUMERICS_EXACT};
  if (op->id == HADAL_OP_MATMUL) /* a decoded row */
    answer.workspace_bytes = (uint64_t)t[0].extents[t[0].rank - 1] * sizeof(float);
  if (op->id == HADAL_OP_GQA_ATTENTION) /* of attend: room for doubles throughout */
    answer.workspace_bytes =
        (uint64_t)(2 * t[HADAL_GQA_ATTENTION_OUT].extents[2] + t[0].extents[2]) * sizeof(double);
  hadal_fill_sized(out, &answer, sizeof answer);
  return HADAL_OK;
}

/* The same for a host of 1.0. */
static hadal_status op_query(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                             const int64_t* limits, uint64_t* workspace_bytes, hadal_error* error) {
  hadal_op_answer answer = {.size = sizeof answer};
  const hadal_status status = op_support(device, op, tensors, limits, &answer, error);
  *workspace_bytes = answer.workspace_bytes;
  return status;
}

/* ---- running ---- */

static hadal_status run_one(const hadal_tape* tape, const hadal_op* op, const hadal_step* step,
                            hadal_error* error) {
  hadal_tensor tensors[HADAL_MAX_OPERANDS];
  HADAL_OR_RETURN(hadal_gather_operands(tape, op, tensors, error));
  HADAL_OR_RETURN(check(op, tensors, error));
  call c = {.op = op, .workspace = step->workspace ? step->workspace->data : NULL, .error = error};
  HADAL_OR_RETURN(hadal_view_operands(op, tensors, step, place_of, c.v, error));
  return kernel_of(op->id)(&c);
}

/* YOUR CHIP: launch and return; read all that you need of tape and step before (rule 1). */
static hadal_status op_run(hadal_queue* queue, const hadal_tape* tape, uint32_t first,
                           uint32_t count, const hadal_step* step, hadal_error* error) {
  (void)queue;
  HADAL_OR_RETURN(hadal_check_step(tape, first, count, step, error));
  for (uint32_t i = first; i < first + count; ++i) {
    if (hadal_stop_asked(step)) return hadal_fail(error, HADAL_STOPPED, "stopped");
    HADAL_OR_RETURN(run_one(tape, &tape->ops[i], step, error));
  }
  return HADAL_OK;
}

/* ---- the one exported symbol ---- */

__attribute__((visibility("default"))) hadal_status hadal_chip_query(const hadal_host* host,
                                                                     uint32_t abi,
                                                                     hadal_chip* out) {
  HADAL_OR_RETURN(hadal_check_abi(host, abi));
  hadal_chip chip = {.abi = abi < HADAL_ABI ? abi : HADAL_ABI,
                     .close = chip_close,
                     .context = (void*)(uintptr_t)host,
                     .name = HADAL_CHIP_NAME,
                     .device_count = device_count,
                     .device_open = device_open,
                     .device_close = device_close,
                     .device_info = device_info,
                     .mem_alloc = mem_alloc,
                     .mem_import = mem_import,
                     .mem_free = mem_free,
                     .mem_host = mem_host,
                     .copy_in = copy_in,
                     .copy_out = copy_out,
                     .copy = copy,
                     .fill = fill,
                     .queue_create = queue_create,
                     .queue_destroy = queue_destroy,
                     .queue_sync = queue_sync,
                     .weight_bytes = weight_bytes,
                     .weight_create = weight_create,
                     .weight_destroy = weight_destroy,
                     .op_query = op_query,
                     .op_run = op_run,
                     .op_support = op_support,
                     .weight_forms = weight_forms};
  hadal_fill_sized(out, &chip, sizeof chip);
  return HADAL_OK;
}
