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
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hadal/chip.h"

#define CHIP "template" /* YOUR CHIP: its name, as in libhadal_NAME.so */
#define ALIGNMENT 64u   /* YOUR CHIP: what your kernels ask of an address; a power of two to 4096 */
#define KERNELS "plain" /* the one table of kernels; a second one gets a name of its own */
#define KERNELS_VERSION 1 /* another number where a kernel gives other bits: kept caches ask */

/* ---- the border: errors, and structs that grow ---- */

/* Fills the error, if there is one to fill, and returns the status: return fail(error, …). Texts
 * name the chip, the thing, the limit and the remedy; they are one line and reach the user as they
 * are. */
static hadal_status fail(hadal_error* error, hadal_status status, const char* format, ...) {
  if (!error) return status;
  const int room = (int)(error->size - offsetof(hadal_error, text));
  va_list args;
  va_start(args, format);
  const int head = snprintf(error->text, (size_t)room, CHIP ": ");
  if (head < room) vsnprintf(error->text + head, (size_t)(room - head), format, args);
  va_end(args);
  return status;
}

/* Writes `from` to `*out` up to out->size, which stays: the caller may know less of the struct, or
 * more. Both begin with their size. */
static void fill_sized(void* out, void* from, size_t bytes) {
  uint32_t room = 0;
  memcpy(&room, out, sizeof room);
  memcpy(from, &room, sizeof room);
  memcpy(out, from, room < bytes ? room : bytes);
}

/* Did the caller know this field? Ask before reading one that came after 1.0. */
#define KNOWS(type, p, field) ((p)->size >= offsetof(type, field) + sizeof((p)->field))

/* ---- element types ---- */

/* Bytes of a number; 0: a type that this chip has nothing to do with. */
static int64_t size_of(uint32_t dtype) {
  if (dtype == HADAL_F32 || dtype == HADAL_I32) return 4;
  return dtype == HADAL_F16 || dtype == HADAL_BF16 ? 2 : 0;
}

typedef union number {
  float f;
  uint32_t bits;
} number;

static float f16_to_f32(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, low = h & 1023u;
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)low * 0x1p-24f;
  const uint32_t high = exponent == 31 ? 0x7f800000u : (exponent + 112) << 23;
  return (number){.bits = sign | high | low << 13}.f;
}

/* To nearest, ties to even; from 65520 on infinity. */
static uint16_t f32_to_f16(float value) {
  number x = {.f = value};
  const uint32_t sign = (x.bits >> 16) & 0x8000u;
  x.bits &= 0x7fffffffu;
  if (x.bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u); /* NaN */
  if (x.bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (x.bits < 0x38800000u) /* below 2^-14: a multiple of 2^-24 */
    return (uint16_t)(sign | (uint32_t)rintf(x.f * 0x1p24f));
  return (uint16_t)(sign | (x.bits + 0xfff + ((x.bits >> 13) & 1) - 0x38000000u) >> 13);
}

static uint16_t f32_to_bf16(float value) {
  const uint32_t x = (number){.f = value}.bits;
  if ((x & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(x >> 16 | 0x40); /* NaN stays NaN */
  return (uint16_t)((x + 0x7fff + ((x >> 16) & 1)) >> 16);
}

/* `count` numbers from `from`, maybe unaligned, as fp32: exactly what is stored. */
static void load(uint32_t dtype, const char* from, int64_t count, float* to) {
  uint16_t half;
  if (dtype == HADAL_F32) memcpy(to, from, (size_t)count * sizeof(float));
  for (int64_t i = 0; dtype == HADAL_F16 && i < count; ++i) {
    memcpy(&half, from + 2 * i, 2);
    to[i] = f16_to_f32(half);
  }
  if (dtype == HADAL_BF16)
    for (int64_t i = 0; i < count; ++i) {
      memcpy(&half, from + 2 * i, 2);
      to[i] = (number){.bits = (uint32_t)half << 16}.f;
    }
}

static void store(uint32_t dtype, const float* from, int64_t count, char* to) {
  if (dtype == HADAL_F32) memcpy(to, from, (size_t)count * sizeof(float));
  for (int64_t i = 0; dtype != HADAL_F32 && i < count; ++i) {
    const uint16_t half = dtype == HADAL_F16 ? f32_to_f16(from[i]) : f32_to_bf16(from[i]);
    memcpy(to + 2 * i, &half, 2);
  }
}

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
  int owned; /* 0: imported */
};
struct hadal_weight { /* YOUR CHIP: packed as your matrix unit reads it */
  uint32_t dtype;
  int64_t rows, cols; /* rows of all matrices of the handle */
  int64_t row_bytes;
  char* data;
};

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
  if (index != 0) return fail(error, HADAL_INVALID, "there is device 0, not device %d", index);
  if (options && options->kernels && strcmp(options->kernels, KERNELS) != 0)
    return fail(error, HADAL_UNSUPPORTED, "the one kernel table is \"" KERNELS "\", not \"%s\"",
                options->kernels);
  if (options && KNOWS(hadal_device_options, options, option_values) && options->option_count > 0)
    return fail(error, HADAL_INVALID, "there is no option \"%s\"; leave --chip-option out",
                options->option_names[0]);
  hadal_device* device = calloc(1, sizeof *device);
  if (!device) return fail(error, HADAL_OUT_OF_MEMORY, "no memory left for a device");
  device->memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  const hadal_host* host = chip->context;
  if (host->log) host->log(host->context, HADAL_LOG_INFO, CHIP ": device 0 opened");
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
  fill_sized(out, &info, sizeof info);
  return HADAL_OK;
}

/* ---- memory and copies ---- */

static hadal_status make_memory(void* data, uint64_t bytes, int owned, hadal_memory** out,
                                hadal_error* error) {
  hadal_memory* m = data ? malloc(sizeof *m) : NULL;
  *out = m;
  if (!m) return fail(error, HADAL_OUT_OF_MEMORY, "no %" PRIu64 " bytes left", bytes);
  *m = (hadal_memory){data, bytes, owned};
  return HADAL_OK;
}

/* Need not be zeroed. 0 bytes give a handle as well. YOUR CHIP: the runtime's malloc; tell a lack
 * of memory as HADAL_OUT_OF_MEMORY, it is no fault of the device. */
static hadal_status mem_alloc(hadal_device* device, uint64_t bytes, hadal_memory** out,
                              hadal_error* error) {
  void* data = NULL;
  if (bytes <= device->memory) data = aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT);
  const hadal_status status = make_memory(data, bytes, 1, out, error);
  if (status != HADAL_OK) free(data);
  return status;
}

/* Host memory that stays valid until mem_free: the mapped model file, at any address. YOUR CHIP:
 * keep the pointer; weight_create copies from it. */
static hadal_status mem_import(hadal_device* device, const void* data, uint64_t bytes,
                               hadal_memory** out, hadal_error* error) {
  (void)device;
  return make_memory((void*)(uintptr_t)data, bytes, 0, out, error);
}

static void mem_free(hadal_memory* m) { /* YOUR CHIP: behind the work that is queued (rule 4) */
  if (m && m->owned) free(m->data);
  free(m);
}

/* YOUR CHIP: NULL where the host cannot touch it. */
static void* mem_host(hadal_memory* m) { return m->data; }

/* Written so that no sum wraps: offsets come from outside. */
static hadal_status in_range(const hadal_memory* m, uint64_t offset, uint64_t bytes,
                             const char* what, hadal_error* error) {
  if (offset <= m->bytes && bytes <= m->bytes - offset) return HADAL_OK;
  return fail(error, HADAL_INVALID,
              "%s: bytes %" PRIu64 " + %" PRIu64 " lie outside a memory of %" PRIu64, what, offset,
              bytes, m->bytes);
}

/* The source has been read when this returns (rule 2). YOUR CHIP: stage it, or wait. */
static hadal_status copy_in(hadal_queue* queue, hadal_memory* to, uint64_t offset, const void* from,
                            uint64_t bytes, hadal_error* error) {
  (void)queue;
  const hadal_status status = in_range(to, offset, bytes, "copy_in", error);
  if (status == HADAL_OK && bytes > 0) memcpy(to->data + offset, from, bytes);
  return status;
}

/* The target need not be written before queue_sync (rule 3). */
static hadal_status copy_out(hadal_queue* queue, void* to, hadal_memory* from, uint64_t offset,
                             uint64_t bytes, hadal_error* error) {
  (void)queue;
  const hadal_status status = in_range(from, offset, bytes, "copy_out", error);
  if (status == HADAL_OK && bytes > 0) memcpy(to, from->data + offset, bytes);
  return status;
}

static hadal_status copy(hadal_queue* queue, hadal_memory* to, uint64_t to_offset,
                         hadal_memory* from, uint64_t from_offset, uint64_t bytes,
                         hadal_error* error) {
  (void)queue;
  hadal_status status = in_range(to, to_offset, bytes, "copy to", error);
  if (status == HADAL_OK) status = in_range(from, from_offset, bytes, "copy from", error);
  if (status == HADAL_OK && bytes > 0)
    memmove(to->data + to_offset, from->data + from_offset, bytes);
  return status;
}

static hadal_status fill(hadal_queue* queue, hadal_memory* m, uint64_t offset, uint64_t bytes,
                         uint8_t value, hadal_error* error) {
  (void)queue;
  const hadal_status status = in_range(m, offset, bytes, "fill", error);
  if (status == HADAL_OK && bytes > 0) memset(m->data + offset, value, bytes);
  return status;
}

/* ---- queues ---- */

static hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  *out = calloc(1, sizeof **out);
  if (!*out) return fail(error, HADAL_OUT_OF_MEMORY, "no memory left for a queue");
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
  *bytes = 0;
  if (desc->batch < 1 || desc->rows < 1 || desc->cols < 1)
    return fail(error, HADAL_INVALID,
                "weight [%" PRId64 ", %" PRId64 ", %" PRId64 "]: extents must be at least 1",
                desc->batch, desc->rows, desc->cols);
  const int vector = (desc->uses & HADAL_USE_VECTOR) != 0;
  if (size_of(desc->dtype) == 0 || desc->dtype == HADAL_I32 ||
      desc->scale_dtype != HADAL_DTYPE_NONE || (vector && desc->dtype != HADAL_F32))
    return fail(error, HADAL_UNSUPPORTED,
                "weight [%" PRId64 ", %" PRId64 ", %" PRId64
                "] of hadal_dtype %u, scales of %u: not "
                "taken; convert it to %s without scales",
                desc->batch, desc->rows, desc->cols, desc->dtype, desc->scale_dtype,
                vector ? "F32" : "BF16, F16 or F32");
  *bytes = (uint64_t)(desc->batch * desc->rows * desc->cols * size_of(desc->dtype));
  return HADAL_OK;
}

/* The forms that the host may convert to, the best first. YOUR CHIP: what the matrix unit reads,
 * each with the class in which it is then computed: BF16 with HADAL_NUMERICS_HALF, I8 with F32
 * scales by 1 x 0 with HADAL_NUMERICS_ROW8, … */
static hadal_status weight_forms(hadal_device* device, uint32_t use, hadal_weight_form* forms,
                                 uint32_t* count, hadal_error* error) {
  (void)device, (void)error;
  static const uint32_t matrix[] = {HADAL_BF16, HADAL_F16, HADAL_F32}, vector[] = {HADAL_F32};
  const uint32_t* list = use == HADAL_USE_VECTOR ? vector : matrix;
  const uint32_t room = *count;
  *count = use == HADAL_USE_VECTOR ? 1 : 3;
  for (uint32_t i = 0; i < *count && i < room; ++i) {
    hadal_weight_form form = {.dtype = list[i], .numerics = HADAL_NUMERICS_EXACT};
    fill_sized(&forms[i], &form, sizeof form);
  }
  return HADAL_OK;
}

static void weight_destroy(hadal_weight* w) {
  if (w) free(w->data);
  free(w);
}

/* Takes the rows of all pieces, one after the other, into memory of the device; nothing of the
 * source is kept, whatever keeps_source says (rule 5). YOUR CHIP: upload, and pack as your kernels
 * read. */
static hadal_status weight_create(hadal_device* device, const hadal_weight_desc* desc,
                                  const hadal_piece* pieces, uint32_t piece_count,
                                  hadal_weight** out, hadal_error* error) {
  *out = NULL;
  uint64_t bytes = 0;
  hadal_status status = weight_bytes(device, desc, &bytes, error);
  if (status != HADAL_OK) return status;
  const int64_t rows = desc->batch * desc->rows, row_bytes = (int64_t)bytes / rows;
  hadal_weight* w = calloc(1, sizeof *w);
  if (w) *w = (hadal_weight){desc->dtype, rows, desc->cols, row_bytes, malloc(bytes)};
  if (!w || !w->data) {
    weight_destroy(w);
    return fail(error, HADAL_OUT_OF_MEMORY, "no %" PRIu64 " bytes left for a weight", bytes);
  }
  int64_t done = 0;
  for (uint32_t i = 0; i < piece_count && status == HADAL_OK; ++i)
    for (int64_t r = 0; r < pieces[i].rows && status == HADAL_OK; ++r, ++done) {
      const uint64_t offset = pieces[i].offset + (uint64_t)(r * pieces[i].row_stride);
      status = in_range(pieces[i].memory, offset, (uint64_t)row_bytes, "piece of a weight", error);
      if (status == HADAL_OK && done < rows)
        memcpy(w->data + done * row_bytes, pieces[i].memory->data + offset, (size_t)row_bytes);
    }
  if (status == HADAL_OK && done != rows)
    status = fail(error, HADAL_INVALID, "the pieces hold %" PRId64 " rows, the weight has %" PRId64,
                  done, rows);
  if (status != HADAL_OK)
    weight_destroy(w);
  else
    *out = w;
  return status;
}

/* ---- operators: what a kernel gets ---- */

/* An operand as it stands in this step. */
typedef struct view {
  char* data;                /* NULL: absent, or a weight */
  int64_t n[HADAL_MAX_RANK]; /* n[0] is this step's count of rows, or the blocks a plane holds */
  int64_t stride[HADAL_MAX_RANK];
  uint32_t dtype, rank;
  const hadal_weight* weight;
} view;

typedef struct call {
  const hadal_op* op;
  view v[HADAL_MAX_OPERANDS];
  char* workspace;
  hadal_error* error;
} call;

/* Strides are bytes and 64 bits wide: an offset may lie beyond 2^31. */
static float* row(const view* v, int64_t i, int64_t j) {
  return (float*)(v->data + i * v->stride[0] + j * v->stride[1]);
}
static int32_t whole(const view* v, int64_t i) {
  return *(const int32_t*)(v->data + i * v->stride[0]);
}
/* A vector of the model (norm weights, bias), or NULL if it is absent. */
static const float* vector_of(const view* v) {
  return v->weight ? (const float*)v->weight->data : NULL;
}

static hadal_status outside(const call* c, const char* operand, int64_t at, int64_t value,
                            int64_t end);

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
  const view *token = &c->v[HADAL_EMBED_TOKEN], *out = &c->v[HADAL_EMBED_OUT];
  const hadal_weight* table = c->v[HADAL_EMBED_TABLE].weight;
  for (int64_t t = 0; t < token->n[0]; ++t) {
    const int64_t id = whole(token, t);
    if (id < 0 || id >= table->rows) return outside(c, "token", t, id, table->rows);
    load(table->dtype, table->data + id * table->row_bytes, table->cols, row(out, t, 0));
  }
  return HADAL_OK;
}

/* Each row of the weight is decoded once, into the workspace, and multiplied with all rows of x. */
static hadal_status matmul(const call* c) {
  const view *x = &c->v[HADAL_MATMUL_X], *add = &c->v[HADAL_MATMUL_ADD],
             *out = &c->v[HADAL_MATMUL_OUT];
  const hadal_weight* w = c->v[HADAL_MATMUL_W].weight;
  const float* bias = vector_of(&c->v[HADAL_MATMUL_BIAS]);
  const int64_t batch = x->rank == 3 ? x->n[1] : 1, features = w->rows / batch;
  for (int64_t r = 0; r < w->rows; ++r) {
    const int64_t b = r / features, n = r % features;
    const float* weights = (const float*)(w->data + r * w->row_bytes);
    if (w->dtype != HADAL_F32) {
      load(w->dtype, w->data + r * w->row_bytes, w->cols, (float*)c->workspace);
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
  const view *x = &c->v[HADAL_NORM_X], *residual = &c->v[HADAL_NORM_RESIDUAL],
             *out = &c->v[HADAL_NORM_OUT];
  const float *w = vector_of(&c->v[HADAL_NORM_W]), *bias = vector_of(&c->v[HADAL_NORM_B]);
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
  const view *x = &c->v[HADAL_ROPE_X], *position = &c->v[HADAL_ROPE_POSITION];
  const float* inv_freq = vector_of(&c->v[HADAL_ROPE_INV_FREQ]);
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
  const view *gate = &c->v[HADAL_SWIGLU_GATE], *up = &c->v[HADAL_SWIGLU_UP],
             *weight = &c->v[HADAL_SWIGLU_WEIGHT], *out = &c->v[HADAL_SWIGLU_OUT];
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
  const view *x = &c->v[HADAL_ADD_X], *y = &c->v[HADAL_ADD_Y];
  for (int64_t m = 0; m < x->n[0]; ++m)
    for (int64_t i = 0; i < x->n[1]; ++i) row(x, m, 0)[i] += row(y, m, 0)[i];
  return HADAL_OK;
}

/* The block that holds position p of sequence s, by its block table: -1 if it is not mapped, -2 if
 * the table or the plane ends before it. */
static int64_t block_of(const view* plane, const view* table, int64_t s, int64_t p) {
  const int64_t slots = plane->n[1];
  if (p < 0 || p / slots >= table->n[1]) return -2;
  const int32_t block = ((const int32_t*)row(table, s, 0))[p / slots];
  return block >= -1 && block < plane->n[0] ? block : -2;
}
/* Where its number `first` lies there. */
static char* slot_of(const view* plane, const view* table, int64_t s, int64_t p, int64_t first) {
  return plane->data + block_of(plane, table, s, p) * plane->stride[0] +
         p % plane->n[1] * plane->stride[1] + first * plane->stride[2];
}

/* A block of -1 is written nowhere; nor are rows of a prefix that is shared. */
static hadal_status kv_write(const call* c) {
  const view *x = &c->v[HADAL_KV_WRITE_X], *plane = &c->v[HADAL_KV_WRITE_PLANE],
             *table = &c->v[HADAL_KV_WRITE_BLOCK_TABLE];
  const int64_t ratio = c->op->attr.kv_write.ratio;
  for (int64_t t = 0; t < x->n[0]; ++t) {
    const int64_t s = whole(&c->v[HADAL_KV_WRITE_ROW_SEQ], t);
    const int64_t at = whole(&c->v[HADAL_KV_WRITE_POSITION], t);
    if (s < 0 || s >= table->n[0]) return outside(c, "row_seq", t, s, table->n[0]);
    const int64_t block = block_of(plane, table, s, at < 0 ? at : at / ratio);
    if (block < -1) return outside(c, "position", t, at, table->n[1] * plane->n[1] * ratio);
    if (block == -1 || at < whole(&c->v[HADAL_KV_WRITE_WRITE_FROM], s) || (at + 1) % ratio != 0)
      continue;
    store(plane->dtype, row(x, t, 0), x->n[1], slot_of(plane, table, s, at / ratio, 0));
  }
  return HADAL_OK;
}

/* One query head over the positions that it sees. score: room for them all; sum: [Dv]; buffer: a
 * row of K or V. */
static void attend(const call* c, int64_t s, int64_t first, int64_t last, const float* query,
                   int64_t kv_head, const float* sink, float* out) {
  const view *k = &c->v[HADAL_GQA_ATTENTION_K], *v = &c->v[HADAL_GQA_ATTENTION_V],
             *table = &c->v[HADAL_GQA_ATTENTION_BLOCK_TABLE];
  const int64_t d = c->v[HADAL_GQA_ATTENTION_Q].n[2], dv = c->v[HADAL_GQA_ATTENTION_OUT].n[2];
  double* sum = (double*)c->workspace;
  double* score = sum + dv;
  float* buffer = (float*)(score + table->n[1] * k->n[1]);
  double top = sink ? (double)*sink : -INFINITY;
  for (int64_t j = first; j <= last; ++j) {
    load(k->dtype, slot_of(k, table, s, j, kv_head * d), d, buffer);
    double product = 0;
    for (int64_t i = 0; i < d; ++i) product += (double)query[i] * (double)buffer[i];
    score[j - first] = product * (double)c->op->attr.attention.scale;
    top = fmax(top, score[j - first]);
  }
  double total = sink ? exp((double)*sink - top) : 0;
  for (int64_t i = 0; i < dv; ++i) sum[i] = 0;
  for (int64_t j = first; j <= last; ++j) {
    const double p = exp(score[j - first] - top);
    load(v->dtype, slot_of(v, table, s, j, kv_head * dv), dv, buffer);
    for (int64_t i = 0; i < dv; ++i) sum[i] += p * (double)buffer[i];
    total += p;
  }
  for (int64_t i = 0; i < dv; ++i) out[i] = total > 0 ? (float)(sum[i] / total) : 0.0f;
}

/* Keys and values come from planes alone, after kv_write rounded them; the rows of this very step
 * are among them. A row that sees nothing gives zeros. */
static hadal_status gqa_attention(const call* c) {
  const view *q = &c->v[HADAL_GQA_ATTENTION_Q], *k = &c->v[HADAL_GQA_ATTENTION_K],
             *table = &c->v[HADAL_GQA_ATTENTION_BLOCK_TABLE];
  const float* sink = vector_of(&c->v[HADAL_GQA_ATTENTION_SINK]);
  const hadal_attention_attr* a = &c->op->attr.attention;
  for (int64_t t = 0; t < q->n[0]; ++t) {
    const int64_t last = whole(&c->v[HADAL_GQA_ATTENTION_POSITION], t);
    const int64_t s = whole(&c->v[HADAL_GQA_ATTENTION_ROW_SEQ], t);
    if (s < 0 || s >= table->n[0]) return outside(c, "row_seq", t, s, table->n[0]);
    int64_t first = whole(&c->v[HADAL_GQA_ATTENTION_FIRST], s);
    if (first < 0) first = 0;
    if (a->window != 0 && first < last - a->window + 1) first = last - a->window + 1;
    for (int64_t j = first; j <= last; ++j)
      if (block_of(k, table, s, j) < 0 || block_of(&c->v[HADAL_GQA_ATTENTION_V], table, s, j) < 0)
        return outside(c, "block_table", t, j, table->n[1] * k->n[1]);
    for (int64_t h = 0; h < q->n[1]; ++h)
      attend(c, s, first, last, row(q, t, h), h / (q->n[1] / a->kv_heads), sink ? sink + h : NULL,
             row(&c->v[HADAL_GQA_ATTENTION_OUT], t, h));
  }
  return HADAL_OK;
}

static hadal_status gather_rows(const call* c) {
  const view *x = &c->v[HADAL_GATHER_ROWS_X], *index = &c->v[HADAL_GATHER_ROWS_INDEX];
  for (int64_t r = 0; r < index->n[0]; ++r) {
    const int64_t i = whole(index, r);
    if (i < 0 || i >= x->n[0]) return outside(c, "index", r, i, x->n[0]);
    memcpy(row(&c->v[HADAL_GATHER_ROWS_OUT], r, 0), row(x, i, 0), (size_t)x->n[1] * 4);
  }
  return HADAL_OK;
}

/* Whole blocks, whatever lies in them: a sequence that forks copies its last one. */
static hadal_status copy_blocks(const call* c) {
  const view *plane = &c->v[HADAL_COPY_BLOCKS_PLANE], *from = &c->v[HADAL_COPY_BLOCKS_FROM];
  for (int64_t i = 0; i < from->n[0]; ++i) {
    const int64_t source = whole(from, i), target = whole(&c->v[HADAL_COPY_BLOCKS_TO], i);
    if (source == -1 || target == -1) continue;
    if (source < 0 || source >= plane->n[0]) return outside(c, "from", i, source, plane->n[0]);
    if (target < 0 || target >= plane->n[0]) return outside(c, "to", i, target, plane->n[0]);
    memcpy(plane->data + target * plane->stride[0], plane->data + source * plane->stride[0],
           (size_t)plane->stride[0]);
  }
  return HADAL_OK;
}

static hadal_status convert(const call* c) {
  const view *x = &c->v[HADAL_CONVERT_X], *out = &c->v[HADAL_CONVERT_OUT];
  for (int64_t m = 0; m < x->n[0]; ++m)
    for (int64_t i = 0; i < x->n[1]; ++i) {
      float value;
      load(x->dtype, (char*)row(x, m, 0) + i * x->stride[1], 1, &value);
      store(out->dtype, &value, 1, (char*)row(out, m, 0) + i * out->stride[1]);
    }
  return HADAL_OK;
}

/* ---- which operators are taken, with which operands ---- */

/* A letter an operand, a capital one where it may be absent: f F32, h F32, F16 or BF16, i I32,
 * n F32 or I32, p a plane in F32, F16 or BF16, m a weight in a type of weight_bytes, v one in F32.
 */
typedef struct operator_row {
  uint32_t id;
  const char* types;
  const char* name; /* and the operands, in the order of hadal/operators.h */
  hadal_status (*run)(const call*);
} operator_row;

static const operator_row OPERATORS[] = {
    {HADAL_OP_EMBED, "imf", "embed(token, table, out)", embed},
    {HADAL_OP_MATMUL, "fmVFf", "matmul(x, w, bias, add, out)", matmul},
    {HADAL_OP_NORM, "fVVFf", "norm(x, w, b, residual, out)", norm},
    {HADAL_OP_ROPE, "fiv", "rope(x, position, inv_freq)", rope},
    {HADAL_OP_SWIGLU, "ffFf", "swiglu(gate, up, weight, out)", swiglu},
    {HADAL_OP_ADD, "ff", "add(x, y)", add},
    {HADAL_OP_KV_WRITE, "fpiiii", "kv_write(x, plane, position, row_seq, block_table, write_from)",
     kv_write},
    {HADAL_OP_GQA_ATTENTION, "fppiiiiVf",
     "gqa_attention(q, k, v, position, row_seq, block_table, first, sink, out)", gqa_attention},
    {HADAL_OP_GATHER_ROWS, "nin", "gather_rows(x, index, out)", gather_rows},
    {HADAL_OP_COPY_BLOCKS, "pii", "copy_blocks(plane, from, to)", copy_blocks},
    {HADAL_OP_CONVERT, "hh", "convert(x, out)", convert},
};

/* The operators from HADAL_OP_SAMPLE on, so that a refusal names what it does not offer. */
static const char* const OTHERS[] = {
    "sample",       "router",      "moe_sort",         "grouped_matmul",
    "moe_combine",  "moe_experts", "latent_attention", "mla_attention",
    "index_topk",   "compress",    "hc_pre",           "hc_post",
    "index_blocks", "engram_gate", "lora_add",         "all_reduce"};

static const char* name_of_other(uint32_t id) {
  if (id == HADAL_OP_GATED_MATMUL) return "gated_matmul";
  const uint32_t i = id - HADAL_OP_SAMPLE; /* wraps below it */
  return i < sizeof OTHERS / sizeof *OTHERS ? OTHERS[i] : "an operator newer than this chip";
}

static const operator_row* find_operator(uint32_t id) {
  for (size_t i = 0; i < sizeof OPERATORS / sizeof *OPERATORS; ++i)
    if (OPERATORS[i].id == id) return &OPERATORS[i];
  return NULL;
}

/* "matmul(x, w, …): operand 1 [1536, 576] of hadal_dtype 40: …": operator, shape, limit, remedy. */
static hadal_status refuse(const char* name, int operand, const hadal_tensor* t,
                           hadal_status status, const char* limit, hadal_error* error) {
  char shape[100] = "absent", *at = shape;
  for (uint32_t d = 0; t->space != HADAL_SPACE_NONE && d < t->rank && d < HADAL_MAX_RANK; ++d)
    at += snprintf(at, 25, "%s%" PRId64, d > 0 ? ", " : "", t->extents[d]);
  return fail(error, status, "%s: operand %d [%s] of hadal_dtype %u: %s", name, operand, shape,
              t->dtype, limit);
}

static int takes(char set, const hadal_tensor* t) {
  const int weight = t->space == HADAL_SPACE_WEIGHT, plane = t->space == HADAL_SPACE_PLANE;
  set |= 32; /* in lower case */
  if (weight != (set == 'm' || set == 'v') || plane != (set == 'p')) return 0;
  if (t->dtype == HADAL_F32) return set != 'i';
  return strchr(t->dtype == HADAL_I32 ? "in" : size_of(t->dtype) == 2 ? "hpm" : "-", set) != NULL;
}

/* What no type says: the limit that is broken, or NULL. */
static const char* broken_limit(const hadal_op* op, const hadal_tensor* t) {
  const uint32_t rank = t[0].rank;
  const hadal_rope_attr* r = &op->attr.rope;
  if (op->id == HADAL_OP_MATMUL && (t[HADAL_MATMUL_W].rank != rank ||
                                    t[HADAL_MATMUL_W].extents[rank - 1] != t[0].extents[rank - 1]))
    return "x and w must have one rank and one K";
  if (op->id == HADAL_OP_ROPE && (rank != 3 || r->dims % 2 != 0 || r->ratio < 1 ||
                                  r->first + (int64_t)r->dims > t[0].extents[2]))
    return "dims must be even and lie inside a head, ratio must be at least 1";
  if (op->id == HADAL_OP_KV_WRITE && op->attr.kv_write.ratio < 1) return "ratio must be at least 1";
  if (op->id == HADAL_OP_GQA_ATTENTION && (rank != 3 || op->attr.attention.kv_heads < 1 ||
                                           t[0].extents[1] % op->attr.attention.kv_heads != 0))
    return "the heads of q must be a multiple of kv_heads";
  if (op->id == HADAL_OP_GATHER_ROWS && t[0].dtype != t[HADAL_GATHER_ROWS_OUT].dtype)
    return "x and out must be of one type";
  return NULL;
}

/* HADAL_UNSUPPORTED: not offered, the host looks for another way. HADAL_INVALID: no chip could. */
static hadal_status check(const hadal_op* op, const hadal_tensor* t, hadal_error* error) {
  const operator_row* o = find_operator(op->id);
  if (!o)
    return refuse(name_of_other(op->id), 0, t, HADAL_UNSUPPORTED,
                  "not offered: only what dense models need is; let the cpu run it (--fallback "
                  "allow) or choose another chip",
                  error);
  for (int i = 0; o->types[i]; ++i) {
    const int absent = t[i].space == HADAL_SPACE_NONE;
    if (absent && o->types[i] >= 'a')
      return refuse(o->name, i, &t[i], HADAL_INVALID, "it must be given", error);
    if (!absent && (t[i].rank < 1 || t[i].rank > 3 || !takes(o->types[i], &t[i])))
      return refuse(
          o->name, i, &t[i], HADAL_UNSUPPORTED,
          "expected rank 1 to 3 and a type that is taken; convert it to F32 (indices: I32)", error);
  }
  const char* limit = broken_limit(op, t);
  return limit ? refuse(o->name, 0, t, HADAL_INVALID, limit, error) : HADAL_OK;
}

/* Asked for every operator of a model at its limits, before weights are made (handles are NULL). */
static hadal_status op_support(hadal_device* device, const hadal_op* op, const hadal_tensor* t,
                               const int64_t* limits, hadal_op_answer* out, hadal_error* error) {
  (void)device, (void)limits;
  const hadal_status status = check(op, t, error);
  if (status != HADAL_OK) return status;
  /* YOUR CHIP: the class of what it really rounds, for these very types. */
  hadal_op_answer answer = {.numerics = HADAL_NUMERICS_EXACT};
  if (op->id == HADAL_OP_MATMUL) /* a decoded row */
    answer.workspace_bytes = (uint64_t)t[0].extents[t[0].rank - 1] * sizeof(float);
  if (op->id == HADAL_OP_GQA_ATTENTION) { /* sums, scores of all positions, a row of K or V */
    const hadal_tensor *k = &t[HADAL_GQA_ATTENTION_K], *to = &t[HADAL_GQA_ATTENTION_OUT];
    const int64_t positions = t[HADAL_GQA_ATTENTION_BLOCK_TABLE].extents[1] * k->extents[1];
    answer.workspace_bytes = (uint64_t)(to->extents[2] + positions) * sizeof(double) +
                             (uint64_t)(to->extents[2] + t[0].extents[2]) * sizeof(float);
  }
  fill_sized(out, &answer, sizeof answer);
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

static hadal_status outside(const call* c, const char* operand, int64_t at, int64_t value,
                            int64_t end) {
  return fail(c->error, HADAL_INVALID,
              "%s: %s[%" PRId64 "] = %" PRId64 ", expected a mapped one of [0, %" PRId64 ")",
              find_operator(c->op->id)->name, operand, at, value, end);
}

/* An operand of this step; 0 if it does not lie inside its memory, or is not its weight. */
static int make_view(const hadal_tensor* t, const hadal_step* step, view* v) {
  memset(v, 0, sizeof *v);
  v->dtype = t->dtype;
  v->rank = t->rank;
  for (int d = 0; d < HADAL_MAX_RANK; ++d) {
    v->n[d] = t->extents[d];
    v->stride[d] = t->strides[d];
  }
  v->n[0] *= step->rows[t->row_dim];
  if (t->space == HADAL_SPACE_WEIGHT) {
    v->weight = t->weight;
    return t->weight && t->weight->dtype == t->dtype && t->weight->cols == v->n[t->rank - 1] &&
           t->weight->rows * t->weight->cols == v->n[0] * v->n[1] * v->n[2];
  }
  const int plane = t->space == HADAL_SPACE_PLANE && t->index < step->plane_count;
  hadal_memory* const memories[] = {NULL, step->scratch, step->inputs, step->outputs,
                                    plane ? step->planes[t->index] : NULL};
  hadal_memory* m = memories[t->space];
  if (!m || t->offset > m->bytes) return 0;
  v->data = m->data + t->offset;
  const int64_t room = (int64_t)(m->bytes - t->offset);
  if (plane && room / v->stride[0] < v->n[0]) v->n[0] = room / v->stride[0];
  int64_t end = size_of(t->dtype);
  for (uint32_t d = 0; d < t->rank; ++d) {
    if (v->n[d] == 0) return 1;
    end += (v->n[d] - 1) * v->stride[d];
  }
  return end <= room;
}

static hadal_status run_one(const hadal_tape* tape, const hadal_op* op, const hadal_step* step,
                            hadal_error* error) {
  hadal_tensor tensors[HADAL_MAX_OPERANDS] = {{0}};
  for (int i = 0; i < HADAL_MAX_OPERANDS; ++i)
    if (op->operands[i] >= 0 && op->operands[i] < (int64_t)tape->tensor_count)
      tensors[i] = tape->tensors[op->operands[i]];
  const hadal_status status = check(op, tensors, error);
  if (status != HADAL_OK) return status;
  const operator_row* o = find_operator(op->id);
  call c = {.op = op, .workspace = step->workspace ? step->workspace->data : NULL, .error = error};
  for (int i = 0; o->types[i]; ++i)
    if (tensors[i].space != HADAL_SPACE_NONE && !make_view(&tensors[i], step, &c.v[i]))
      return refuse(o->name, i, &tensors[i], HADAL_INVALID, "it lies outside its memory", error);
  return o->run(&c);
}

/* YOUR CHIP: launch and return; read all that you need of tape and step before (rule 1). */
static hadal_status op_run(hadal_queue* queue, const hadal_tape* tape, uint32_t first,
                           uint32_t count, const hadal_step* step, hadal_error* error) {
  (void)queue;
  if (first > tape->op_count || count > tape->op_count - first)
    return fail(error, HADAL_INVALID, "operators %u + %u of a tape of %u", first, count,
                tape->op_count);
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    if (step->rows[dim] < 0 || step->rows[dim] > tape->limits[dim])
      return fail(error, HADAL_INVALID,
                  "the step brings %" PRId64 " rows, the tape's limit is %" PRId64, step->rows[dim],
                  tape->limits[dim]);
  hadal_status status = HADAL_OK;
  for (uint32_t i = first; i < first + count && status == HADAL_OK; ++i) {
    if (step->stop && __atomic_load_n(step->stop, __ATOMIC_RELAXED) != 0)
      return fail(error, HADAL_STOPPED, "stopped");
    status = run_one(tape, &tape->ops[i], step, error);
  }
  return status;
}

/* ---- the one exported symbol ---- */

__attribute__((visibility("default"))) hadal_status hadal_chip_query(const hadal_host* host,
                                                                     uint32_t abi,
                                                                     hadal_chip* out) {
  if (abi >> 16 != HADAL_ABI_MAJOR)
    return fail(KNOWS(hadal_host, host, query_error) ? host->query_error : NULL, HADAL_UNSUPPORTED,
                "built for contract %u.%u, the host speaks %u.%u; take the build for that version",
                HADAL_ABI_MAJOR, HADAL_ABI_MINOR, abi >> 16, abi & 0xffffu);
  hadal_chip chip = {.abi = abi < HADAL_ABI ? abi : HADAL_ABI,
                     .close = chip_close,
                     .context = (void*)(uintptr_t)host,
                     .name = CHIP,
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
  fill_sized(out, &chip, sizeof chip);
  return HADAL_OK;
}
