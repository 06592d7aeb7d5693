/* The Hadal chip contract: what an inference chip gives to run every DeepSeek model. C11; nothing
 * but C crosses it.
 *
 * A chip is a table of functions, filled by one exported symbol, hadal_chip_query(). Every struct
 * that may grow begins with its size: the caller writes the size that it knows, the callee fills at
 * most that, an unknown tail is zero and means "absent". Fields are only appended. Nothing aborts,
 * exits or throws across this border: a function returns a hadal_status and, where it takes one,
 * fills a hadal_error that names the operator, the shapes, the limit that was broken, the remedy.
 * Codes of operators, element types and attributes from 0x10000 on are private to a chip.
 *
 * Words. A *tape* is one step of a model: an array of operators over an array of tensors, in
 * program order. It is recorded once per model, chip and options and is valid for every step up to
 * its limits; nothing in it is patched. What changes from step to step lies in the *step*: row
 * counts, and the memories that tensors are relative to. A tensor's first extent is a constant, or
 * a multiple of one of the step's row counts (T token rows, S sequences, R rows whose logits are
 * wanted, U rows of the model's tail, its last layers): 0 rows are legal. *Planes* are caches,
 * paged in blocks of slots, a memory for each layer.
 *
 * The rule of bits, for a chip that declares row_invariant: the bits of a row are a function of the
 * weights, the chip's kernel table and that row's own inputs; never of the batch, the cut of a
 * prompt, the number of threads, or a neighbour. A fused operator gives the bits of its lowering,
 * or is chosen by the limits alone, never by a step's rows. Of a chip that does not declare it,
 * bounds are asked, not bits, and lists need not ascend.
 *
 * Completion and lifetime.
 *  1. Arguments (steps, plane arrays, descriptions, errors, tapes given to op_run) are the caller's
 *     and may be overwritten when the call returns; but the tape given to program.prepare lives,
 * and stays as it is, until the program is destroyed.
 *  2. copy_in has read its source when it returns.
 *  3. copy_out has written its target when the next queue_sync returns; the host reads it no
 *     sooner.
 *  4. Work of a queue is done in the order of the calls. Frees and destroys are ordered behind the
 *     work that was queued before them on any queue of the device, and have been done when
 *     queue_sync has returned for each of those; mem_free of imported memory returns when nothing
 *     reads it any more, since its owner may then take it away.
 *  5. Pieces of a weight with keeps_source = 0 may die when its creation returns; others live until
 *     weight_destroy.
 *  6. One thread at a time calls a device. Another may set the stop flag of a step at any time: the
 * flag itself lives until the next queue_sync.
 *  7. What work that was queued did wrong is told by the next call on that queue that can tell,
 *     queue_sync at the latest; a call that tells it does nothing else. What stood behind it in the
 *     queue is not done, copies and uploads of weights included, but for frees and destroys. After
 *     an error the queue is idle and may be used again, unless the status was HADAL_DEVICE_FAILED.
 *     A call that refuses its arguments (HADAL_INVALID, HADAL_UNSUPPORTED) leaves what was queued
 *     before it as it is.
 *  8. Rows above a step's count may be read or written up to the limit, but never into planes: they
 *     hold nothing of value. (Chips with row_invariant leave them alone.)
 *
 * Mandatory is every function of hadal_chip up to op_run. What stands behind it may be NULL, and is
 * absent in a chip that was built for 1.0: each says what is assumed then.
 */
#ifndef HADAL_CHIP_H
#define HADAL_CHIP_H

#include <stddef.h>
#include <stdint.h>

#include "hadal/operators.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HADAL_ABI_MAJOR 1u
#define HADAL_ABI_MINOR 1u
#define HADAL_ABI ((HADAL_ABI_MAJOR << 16) | HADAL_ABI_MINOR)

#define HADAL_MAX_OPERANDS 16
#define HADAL_MAX_RANK 4

/* ---- errors ---- */

typedef enum hadal_status {
  HADAL_OK = 0,
  HADAL_UNSUPPORTED =
      1,             /* a no that carries its reason: this shape, type or attribute is not taken */
  HADAL_INVALID = 2, /* the call breaks the contract */
  HADAL_OUT_OF_MEMORY = 3,
  HADAL_DEVICE_FAILED = 4, /* the device is in a failed state from now on */
  HADAL_STOPPED = 5,       /* the stop flag was seen; the step's outputs are undefined */
  HADAL_STATUS_FORCE_32BIT = 0x7fffffff
} hadal_status;

/* Filled when a function that takes one does not return HADAL_OK. May be NULL. */
typedef struct hadal_error {
  uint32_t size;
  char text[508]; /* one line, UTF-8, NUL at its end */
} hadal_error;

/* ---- numerics ---- */

/* What an operator of a chip may round, beside the last rounding of its results. A chip answers
 * with the class in which it computes, for each operator on concrete types; the bounds of the
 * conformance kit follow from it. */
typedef enum hadal_numerics {
  HADAL_NUMERICS_UNSAID = 0, /* by a chip of 1.0: block8 where weights are quantised, else exact */
  HADAL_NUMERICS_EXACT = 1,  /* nothing: fp32 operands and sums */
  HADAL_NUMERICS_BLOCK8 = 2, /* activations to int8, a scale for each block of a row */
  HADAL_NUMERICS_HALF = 3,   /* both operands to bf16 or f16, also q, k, v and p of attention; sums
                                in fp32 */
  HADAL_NUMERICS_FP8 = 4,  /* activations to e4m3 by 1 x 128, weights to e4m3 by 128 x 128; sums in
                              fp32 */
  HADAL_NUMERICS_ROW8 = 5, /* activations to int8 by rows, weights to int8 (or int4) by output
                              channels */
  HADAL_NUMERICS_COUNT = 6,
  HADAL_NUMERICS_FORCE_32BIT = 0x7fffffff
} hadal_numerics;

/* ---- opaque objects of the chip ---- */

typedef struct hadal_device hadal_device;
typedef struct hadal_queue hadal_queue;
typedef struct hadal_memory hadal_memory;
typedef struct hadal_weight hadal_weight;
typedef struct hadal_program hadal_program;

/* ---- tensors, operators, tapes ---- */

/* The row counts of a step. */
typedef enum hadal_dim {
  HADAL_DIM_CONST = 0, /* the first extent is what it says */
  HADAL_DIM_T = 1,     /* token rows of this step */
  HADAL_DIM_S = 2,     /* sequences */
  HADAL_DIM_R = 3,     /* rows whose logits are wanted */
  HADAL_DIM_U = 4, /* rows that the model's tail, its last layers, computes (T unless it has one) */
  HADAL_DIM_COUNT = 5
} hadal_dim;

/* Which memory of the step a tensor's offset counts from. */
typedef enum hadal_space {
  HADAL_SPACE_NONE = 0,    /* an absent optional operand */
  HADAL_SPACE_SCRATCH = 1, /* temporaries of the tape */
  HADAL_SPACE_INPUT = 2,   /* the flat block of step inputs */
  HADAL_SPACE_OUTPUT = 3,  /* the flat block of step outputs */
  HADAL_SPACE_PLANE = 4, /* step->planes[index]: one layer of a cache plane, [blocks, slots, width];
                            the memory may hold fewer blocks than the extent says, which is a limit:
                            block tables name only what it holds. What lies where within a block is
                            the chip's own: the host allocates, copies and keeps whole blocks */
  HADAL_SPACE_WEIGHT = 5 /* a weight handle */
} hadal_space;

typedef struct hadal_tensor {
  uint32_t dtype;   /* hadal_dtype */
  uint32_t space;   /* hadal_space */
  uint32_t rank;    /* 1 … HADAL_MAX_RANK */
  uint32_t row_dim; /* hadal_dim: extents[0] is multiplied by the step's count of it */
  int64_t extents[HADAL_MAX_RANK]; /* outermost first; unused ones are 1 */
  int64_t strides[HADAL_MAX_RANK]; /* bytes; the innermost is the element's size, except in weights,
                                      where strides are 0. Of a plane the first is the bytes of a
                                      block as plane_bytes told, the others those of rows side by
                                      side, and mean nothing to a chip with a layout of its own */
  uint64_t offset;                 /* bytes from the start of the space's memory */
  uint32_t index;                  /* HADAL_SPACE_PLANE: which of step->planes */
  uint32_t flags;                  /* HADAL_TENSOR_… */
  hadal_weight* weight;            /* HADAL_SPACE_WEIGHT; NULL while only op_query is asked */
} hadal_tensor;

/* Bits of hadal_tensor.flags (0 from a host of 1.0). */
#define HADAL_TENSOR_PLANE_ROLE 0xffu /* HADAL_SPACE_PLANE: its hadal_plane_role */
#define HADAL_TENSOR_COLUMNS                                                                     \
  0x100u /* a view of some columns: its offset is a multiple of its element, not of the device's \
            alignment */

/* Roles of operands. OPT may be absent. */
typedef enum hadal_role {
  HADAL_ROLE_IN = 0,
  HADAL_ROLE_OUT = 1,
  HADAL_ROLE_INOUT = 2,
  HADAL_ROLE_OPT_IN = 3,
  HADAL_ROLE_OPT_INOUT = 4,
  HADAL_ROLE_WEIGHT = 5,
  HADAL_ROLE_OPT_WEIGHT = 6
} hadal_role;

/* Attributes, one member per operator that has any. Unused bytes are zero. */
typedef struct hadal_norm_attr {
  float eps;
  uint32_t layer; /* 0: RMS norm, 1: layer norm */
} hadal_norm_attr;

typedef struct hadal_rope_attr {
  uint32_t first;       /* first dimension of a head that turns */
  uint32_t dims;        /* how many turn, even */
  uint32_t interleaved; /* 1: pairs (2i, 2i+1); 0: pairs (i, i + dims/2) */
  uint32_t inverse;     /* 1: by the negative angle */
  uint32_t ratio;  /* position is t + 1 - ratio, only rows with (t+1) mod ratio = 0 are turned; 1:
                      every row */
  float amplitude; /* cos and sin are multiplied by it */
} hadal_rope_attr;

typedef struct hadal_swiglu_attr {
  float clamp; /* gate <= clamp, |up| <= clamp before silu; 0: none */
} hadal_swiglu_attr;

typedef struct hadal_kv_write_attr {
  uint32_t ratio; /* slot t div ratio, written only where (t+1) mod ratio = 0; 1: every row */
} hadal_kv_write_attr;

typedef struct hadal_attention_attr {
  float scale;
  uint32_t kv_heads;
  uint32_t window; /* only the last `window` positions, the query's own included; 0: all */
} hadal_attention_attr;

typedef struct hadal_sample_attr {
  uint32_t top; /* how many of the most likely tokens are reported: the width of TOP_TOKEN */
} hadal_sample_attr;

typedef enum hadal_router_score {
  HADAL_ROUTER_SOFTMAX = 0,
  HADAL_ROUTER_SIGMOID = 1,
  HADAL_ROUTER_SQRT_SOFTPLUS = 2
} hadal_router_score;

typedef struct hadal_router_attr {
  uint32_t score;       /* hadal_router_score */
  uint32_t groups;      /* equal runs of experts; 1: no grouping */
  uint32_t groups_kept; /* runs that are searched */
  uint32_t group_best;  /* a run's score is the sum of its so many largest: 1 or 2 */
  uint32_t normalise;   /* 1: the weights are divided by their sum */
  float scale;
} hadal_router_attr;

typedef struct hadal_experts_attr {
  float clamp;  /* of swiglu; 0: none */
  uint32_t fan; /* pairs of a token row: experts chosen for it (grouped_matmul, moe_combine) */
  /* 1.1, of moe_experts and moe_sort: EXPERT names one of `of` experts, of which the E matrices
   * here are [first, first + E); the others belong to other devices and add nothing. of = 0: all
   * are here. */
  uint32_t first;
  uint32_t of;
} hadal_experts_attr;

typedef struct hadal_segment_attr {
  uint32_t ratio;  /* positions an entry */
  uint32_t window; /* only the last so many visible entries; 0: all */
} hadal_segment_attr;

typedef struct hadal_latent_attr {
  float scale;
  hadal_segment_attr segments[2]; /* the second counts if its plane is given */
} hadal_latent_attr;

typedef struct hadal_index_attr {
  uint32_t ratio;      /* positions an entry */
  uint32_t block_size; /* entries a candidate block; 0 where there are no candidates */
} hadal_index_attr;

typedef struct hadal_compress_attr {
  uint32_t ratio;   /* rows an entry */
  uint32_t overlap; /* 1: an entry also takes the rows of the one before */
} hadal_compress_attr;

typedef struct hadal_hc_attr {
  float norm_eps;
  float eps;
  uint32_t iterations; /* of the Sinkhorn normalisation */
} hadal_hc_attr;

typedef struct hadal_engram_attr {
  float eps;   /* of the two norms */
  float floor; /* of the product's size, before the root */
} hadal_engram_attr;

typedef union hadal_attributes {
  hadal_norm_attr norm;
  hadal_rope_attr rope;
  hadal_swiglu_attr swiglu; /* also gated_matmul */
  hadal_kv_write_attr kv_write;
  hadal_attention_attr attention;
  hadal_sample_attr sample;
  hadal_router_attr router;
  hadal_experts_attr experts; /* grouped_matmul, moe_combine, moe_experts */
  hadal_latent_attr latent;   /* also mla_attention: its first segment */
  hadal_index_attr index;     /* also index_blocks */
  hadal_compress_attr compress;
  hadal_hc_attr hc;
  hadal_engram_attr engram;
  uint8_t bytes[64];
} hadal_attributes;

typedef struct hadal_op {
  uint32_t id;       /* hadal_op_id */
  uint32_t last_use; /* bit i: the memory of operand i is dead after this operator */
  int32_t operands[HADAL_MAX_OPERANDS]; /* indices into the tape's tensors, -1: absent */
  hadal_attributes attr;
} hadal_op;

typedef struct hadal_tape {
  uint32_t size;
  uint32_t tensor_count;
  uint32_t op_count;
  uint32_t reserved;
  const hadal_tensor* tensors;
  const hadal_op* ops;
  int64_t
      limits[HADAL_DIM_COUNT]; /* the most rows of each kind that a step may bring; [CONST] is 1 */
  uint64_t scratch_bytes;
  uint64_t input_bytes;
  uint64_t output_bytes;
  uint32_t plane_count;
  uint32_t reserved2;
} hadal_tape;

/* Row of per-row sampling parameters (the PARAMS operand of sample): fp32 [R, HADAL_PARAM_COUNT].
 */
typedef enum hadal_sample_param {
  HADAL_PARAM_TEMPERATURE = 0, /* 0: greedy */
  HADAL_PARAM_TOP_K,           /* 0: off; 1: greedy */
  HADAL_PARAM_TOP_P,           /* 1: off */
  HADAL_PARAM_MIN_P,           /* 0: off */
  HADAL_PARAM_REPETITION,      /* 1: off */
  HADAL_PARAM_PRESENCE,        /* 0: off */
  HADAL_PARAM_FREQUENCY,       /* 0: off */
  HADAL_PARAM_RESERVED,
  HADAL_PARAM_COUNT
} hadal_sample_param;

/* One step: what a tape is run on. */
typedef struct hadal_step {
  uint32_t size;
  uint32_t plane_count;
  int64_t rows[HADAL_DIM_COUNT]; /* this step's counts; [CONST] is 1 */
  hadal_memory* scratch;
  hadal_memory* inputs;
  hadal_memory* outputs;
  hadal_memory* workspace; /* for op_run: at least what op_query asked; NULL for a program */
  hadal_memory* const* planes;
  const volatile int32_t* stop; /* non-zero: give up at the next natural border; another thread may
                                   set it, so it is read atomically; may be NULL */
  const void* host_inputs; /* 1.1: the host's copy of `inputs`, for lengths and tables that decide
                              how to launch; valid until the call returns; may be NULL */
} hadal_step;

/* ---- weights ---- */

#define HADAL_USE_MATMUL 1u
#define HADAL_USE_GATHER 2u
#define HADAL_USE_VECTOR 4u /* read as it is by norm, bias, rope: rank 1, fp32 */

/* A run of rows of a weight, somewhere in host memory, maybe unaligned. */
typedef struct hadal_piece {
  hadal_memory* memory; /* imported */
  uint64_t offset;
  int64_t rows;
  int64_t row_stride;         /* bytes from row to row */
  hadal_memory* scale_memory; /* block scales (FP8 and FP4 checkpoints), or NULL */
  uint64_t scale_offset;
  int64_t scale_row_stride; /* bytes from one row of blocks to the next */
} hadal_piece;

typedef struct hadal_weight_desc {
  uint32_t size;
  uint32_t dtype;
  uint32_t uses;         /* HADAL_USE_… bits */
  uint32_t keeps_source; /* 1: the pieces stay readable while the handle lives, so that they may be
                            read in place */
  int64_t batch; /* matrices in the handle (experts, heads); 1 for a plain one. Pieces hold batch ·
                    rows rows in all */
  int64_t rows;  /* output features of a matrix; of a vector: 1 */
  int64_t cols;  /* input features */
  uint32_t scale_dtype; /* HADAL_DTYPE_NONE: no block scales */
  uint32_t reserved;
  int64_t scale_block_rows; /* value = element · scale[row div block_rows][col div block_cols]; the
                               last may be partial */
  int64_t scale_block_cols; /* `cols` where a form of whole rows (block_cols 0) was asked for */
} hadal_weight_desc;

/* ---- the table ---- */

typedef enum hadal_log_level {
  HADAL_LOG_DEBUG = 0,
  HADAL_LOG_INFO = 1,
  HADAL_LOG_WARNING = 2,
  HADAL_LOG_ERROR = 3
} hadal_log_level;

/* Valid until the chip is closed. What is logged from HADAL_LOG_WARNING on reaches the user. */
typedef struct hadal_host {
  uint32_t size;
  uint32_t reserved;
  void* context;
  void (*log)(void* context, uint32_t level, const char* text);
  hadal_error* query_error; /* 1.1: where a query that fails says why; may be NULL */
} hadal_host;

typedef struct hadal_device_options {
  uint32_t size;
  int32_t threads; /* workers of a CPU-like chip; 0: the chip chooses within the limits of its
                      process */
  const char*
      kernels; /* name of a kernel table to force, as reported in device_info; NULL: the best */
  uint32_t numerics; /* 1.1: HADAL_NUMERICS_EXACT asks for the exact form of every operator that has
                        one; HADAL_NUMERICS_UNSAID: the chip chooses */
  uint32_t option_count;           /* 1.1: the user's --chip-option NAME=VALUE */
  const char* const* option_names; /* an unknown name is HADAL_INVALID */
  const char* const* option_values;
} hadal_device_options;

typedef struct hadal_device_info {
  uint32_t size;
  int32_t threads;
  char name[128];
  char kernels[64];      /* the kernel table in use */
  char all_kernels[192]; /* every table built in that this device can run, best first, blanks
                            between */
  char instruction_sets[256];
  uint64_t memory_total;
  uint64_t memory_free;
  uint32_t host_memory;   /* 1: device memory is host memory, mem_host gives pointers */
  uint32_t row_invariant; /* the rule of bits is kept */
  uint32_t alignment; /* of offsets within memories: a power of two up to 4096. The host obeys the
                         larger of it and 64, but for views of columns (HADAL_TENSOR_COLUMNS) */
  uint32_t kernels_version;     /* 1.1: another number means other bits from the same table */
  uint64_t largest_allocation;  /* 1.1: bytes of one mem_alloc; 0: as memory_total */
  double bf16_flops_per_second; /* 1.1: the data sheet's; 0: unknown */
  uint32_t captures_graphs; /* 1.1: programs are captured: launching costs nothing per operator */
  uint32_t reserved[7];
  uint32_t row_buckets[16]; /* 1.1: counts of token rows to which the host fills steps up,
                               ascending, 0 ends them: a step of fewer rows gets rows of no sequence
                               (row_seq -1, position 0), which write nothing and whose results
                               nobody reads; of more rows than the last: none */
} hadal_device_info;

/* A form in which a chip takes weights: values of `dtype`, with a scale of scale_dtype for each
 * block of block_rows x block_cols values (0 columns: the whole row). In arrays: it cannot grow. */
typedef struct hadal_weight_form {
  uint32_t size;
  uint32_t dtype;
  uint32_t scale_dtype; /* HADAL_DTYPE_NONE: no scales; block_rows and block_cols are 0 */
  uint32_t numerics;    /* the hadal_numerics in which the use computes on it */
  int64_t block_rows;
  int64_t block_cols;
} hadal_weight_form;

/* What the numbers of a plane are. */
typedef enum hadal_plane_role {
  HADAL_PLANE_UNSAID = 0,
  HADAL_PLANE_KEY = 1,            /* keys of gqa_attention */
  HADAL_PLANE_VALUE = 2,          /* its values */
  HADAL_PLANE_LATENT = 3,         /* MLA: latent and rotated key, of which K and V are made */
  HADAL_PLANE_WINDOW = 4,         /* keys that are values as well, of the last positions */
  HADAL_PLANE_COMPRESSOR_ROW = 5, /* what `compress` pools; always F32 */
  HADAL_PLANE_ENTRY = 6,          /* compressed keys that are values as well */
  HADAL_PLANE_INDEX_KEY = 7       /* keys by which an indexer chooses */
} hadal_plane_role;

typedef struct hadal_plane_desc {
  uint32_t size;
  uint32_t role;  /* hadal_plane_role */
  uint32_t dtype; /* what the user chose for the cache */
  uint32_t heads; /* KEY and VALUE: the width is so many heads side by side; else 1 */
  int64_t slots;  /* of a block */
  int64_t width;  /* numbers of a slot */
} hadal_plane_desc;

/* Optional: a second queue beside the first, so that copies go on while operators run. A queue that
 * waits for an event goes on when the work that stood before record() is done, or given up for an
 * error; the record that was made last before the call of wait() counts, and if there is none, it
 * does not wait. */
typedef struct hadal_event hadal_event;
typedef struct hadal_events_table {
  uint32_t size;
  uint32_t queues; /* how many queues of a device may be in use at once, at least 2 */
  hadal_status (*create)(hadal_device*, hadal_event** out, hadal_error*);
  void (*destroy)(hadal_event*); /* ordered behind the waits that were queued before it */
  hadal_status (*record)(hadal_event*, hadal_queue*, hadal_error*);
  hadal_status (*wait)(hadal_event*, hadal_queue*, hadal_error*); /* of any device of the chip */
  /* Host memory from which copies are fastest; may be NULL. */
  hadal_status (*pinned_alloc)(hadal_device*, uint64_t bytes, void** out, hadal_error*);
  void (*pinned_free)(hadal_device*, void*);
  /* From a memory of another device of the chip (whichever of its tables opened that), on the queue
   * of the target; may be NULL. The host frees `from` only behind a queue_sync of that queue. */
  hadal_status (*peer_copy)(hadal_queue*, hadal_memory* to, uint64_t to_offset, hadal_memory* from,
                            uint64_t from_offset, uint64_t bytes, hadal_error*);
} hadal_events_table;

/* Optional: sums and exchanges between the devices that run one model in parts. All are queued and
 * are called by every rank in the same order; counts are of fp32 numbers; sums are made in the
 * ascending order of the ranks, so that every rank has the same bits. A chip with this table takes
 * all_reduce in its tapes; without it the host cuts the tape there and sums itself. */
typedef struct hadal_comm hadal_comm;
typedef struct hadal_comm_id {
  uint8_t bytes[128]; /* made by one rank, brought to the others by the host */
} hadal_comm_id;
typedef struct hadal_comm_table {
  uint32_t size;
  uint32_t reserved;
  hadal_status (*create_id)(hadal_device*, hadal_comm_id* out, hadal_error*);
  /* Returns when every rank has called it; HADAL_UNSUPPORTED if they cannot reach each other, and
   * then the host sums. Operators of the device that need a communicator use
   * the one that was made last. */
  hadal_status (*init)(hadal_device*, const hadal_comm_id*, int32_t rank, int32_t ranks,
                       hadal_comm** out, hadal_error*);
  /* At once, unlike other destroys: what is queued on it here may fail, and ranks that wait for
   * this one, now or later, do. */
  void (*destroy)(hadal_comm*);
  hadal_status (*all_reduce)(hadal_comm*, hadal_queue*, hadal_memory*, uint64_t offset,
                             uint64_t count, hadal_error*);
  /* `count` numbers of each rank, one rank after another at `to`. */
  hadal_status (*all_gather)(hadal_comm*, hadal_queue*, hadal_memory* to, uint64_t to_offset,
                             hadal_memory* from, uint64_t from_offset, uint64_t count,
                             hadal_error*);
  /* Of ranks x count numbers of every rank, the sums of this rank's `count`. */
  hadal_status (*reduce_scatter)(hadal_comm*, hadal_queue*, hadal_memory* to, uint64_t to_offset,
                                 hadal_memory* from, uint64_t from_offset, uint64_t count,
                                 hadal_error*);
  /* `count` numbers to and from every rank. */
  hadal_status (*all_to_all)(hadal_comm*, hadal_queue*, hadal_memory* to, uint64_t to_offset,
                             hadal_memory* from, uint64_t from_offset, uint64_t count,
                             hadal_error*);
  hadal_status (*send)(hadal_comm*, hadal_queue*, int32_t to_rank, hadal_memory* from,
                       uint64_t offset, uint64_t bytes, hadal_error*);
  hadal_status (*recv)(hadal_comm*, hadal_queue*, int32_t from_rank, hadal_memory* to,
                       uint64_t offset, uint64_t bytes, hadal_error*);
} hadal_comm_table;

typedef struct hadal_op_answer {
  uint32_t size;
  uint32_t numerics; /* hadal_numerics */
  uint32_t block;    /* BLOCK8: values that share a scale, 32 or 256 */
  uint32_t reserved;
  uint64_t workspace_bytes;
} hadal_op_answer;

/* Optional: a chip that fuses, captures or walks the tape in one parallel region. */
typedef struct hadal_program_table {
  uint32_t size;
  uint32_t reserved;
  hadal_status (*prepare)(hadal_device*, const hadal_tape*, hadal_program** out, hadal_error*);
  hadal_status (*run)(hadal_program*, hadal_queue*, const hadal_step*, hadal_error*);
  void (*destroy)(hadal_program*);
  uint64_t (*bytes)(hadal_program*); /* 1.1, may be NULL: device memory that the program holds */
} hadal_program_table;

/* Optional: the machine's own peaks, measured. */
typedef struct hadal_profile_table {
  uint32_t size;
  uint32_t reserved;
  hadal_status (*measure)(hadal_device*, double* read_bytes_per_second, double* int8_ops_per_second,
                          double* fp32_flops_per_second, hadal_error*);
} hadal_profile_table;

typedef struct hadal_chip {
  uint32_t size;
  uint32_t abi;                      /* the highest minor that both sides know */
  void (*close)(struct hadal_chip*); /* stays here for ever */
  void* context;
  char name[32];

  int32_t (*device_count)(struct hadal_chip*);
  hadal_status (*device_open)(struct hadal_chip*, int32_t index, const hadal_device_options*,
                              hadal_device** out, hadal_error*);
  void (*device_close)(hadal_device*);
  hadal_status (*device_info)(hadal_device*, hadal_device_info* out);

  hadal_status (*mem_alloc)(hadal_device*, uint64_t bytes, hadal_memory** out, hadal_error*);
  /* Host memory that the chip may read in place (the mapped file). `bytes` stay valid until
   * mem_free. Pieces of weights and sources of copies lie in it, never what an operator reads;
   * mem_host may give NULL. */
  hadal_status (*mem_import)(hadal_device*, const void* data, uint64_t bytes, hadal_memory** out,
                             hadal_error*);
  void (*mem_free)(hadal_memory*);
  void* (*mem_host)(
      hadal_memory*); /* its address if the host may touch it (after queue_sync), else NULL */
  hadal_status (*copy_in)(hadal_queue*, hadal_memory* to, uint64_t offset, const void* from,
                          uint64_t bytes, hadal_error*);
  hadal_status (*copy_out)(hadal_queue*, void* to, hadal_memory* from, uint64_t offset,
                           uint64_t bytes, hadal_error*);
  hadal_status (*copy)(hadal_queue*, hadal_memory* to, uint64_t to_offset, hadal_memory* from,
                       uint64_t from_offset, uint64_t bytes, hadal_error*);
  hadal_status (*fill)(hadal_queue*, hadal_memory*, uint64_t offset, uint64_t bytes, uint8_t value,
                       hadal_error*);

  hadal_status (*queue_create)(hadal_device*, hadal_queue** out, hadal_error*);
  void (*queue_destroy)(hadal_queue*);
  hadal_status (*queue_sync)(hadal_queue*, hadal_error*);

  /* Bytes that the handle will need beside its source; HADAL_UNSUPPORTED: convert it first. */
  hadal_status (*weight_bytes)(hadal_device*, const hadal_weight_desc*, uint64_t* bytes,
                               hadal_error*);
  hadal_status (*weight_create)(hadal_device*, const hadal_weight_desc*, const hadal_piece* pieces,
                                uint32_t piece_count, hadal_weight** out, hadal_error*);
  void (*weight_destroy)(hadal_weight*);

  /* Is this operator taken with these operands, rows at their limits? `tensors` has
   * HADAL_MAX_OPERANDS entries: tensors[i] for operand i; absent ones, and those behind the last,
   * are of HADAL_SPACE_NONE. */
  hadal_status (*op_query)(hadal_device*, const hadal_op*, const hadal_tensor* tensors,
                           const int64_t* limits, uint64_t* workspace_bytes, hadal_error*);
  /* Runs ops [first, first + count) of a tape in order. May return before the work is done:
   * queue_sync. */
  hadal_status (*op_run)(hadal_queue*, const hadal_tape*, uint32_t first, uint32_t count,
                         const hadal_step*, hadal_error*);

  const hadal_program_table* program; /* NULL: absent */
  const hadal_profile_table* profile; /* NULL: absent */

  /* ---- 1.1 ---- */

  /* As op_query, and with the class of numerics. Absent: op_query, HADAL_NUMERICS_UNSAID. */
  hadal_status (*op_support)(hadal_device*, const hadal_op*, const hadal_tensor* tensors,
                             const int64_t* limits, hadal_op_answer* out, hadal_error*);
  /* The forms taken for a use (one HADAL_USE_… bit; of a weight with both, those of MATMUL, which
   * embed must then read), the one that the chip likes best first.
   * *count: room in `forms`, then how many there are. The host takes a weight as it is stored if
   * weight_bytes takes that, else the first form that the user's class permits and that is no
   * larger than the source, else the smallest, of equals the first. Absent: F32 is tried. */
  hadal_status (*weight_forms)(hadal_device*, uint32_t use, hadal_weight_form* forms,
                               uint32_t* count, hadal_error*);
  /* weight_create on a queue: the upload may go on after the call. Absent: weight_create. */
  hadal_status (*weight_create_on)(hadal_queue*, const hadal_weight_desc*,
                                   const hadal_piece* pieces, uint32_t piece_count,
                                   hadal_weight** out, hadal_error*);
  /* Bytes of a block of a plane, a multiple of the alignment; HADAL_UNSUPPORTED: not in this type.
   * Absent: slots x width numbers side by side. */
  hadal_status (*plane_bytes)(hadal_device*, const hadal_plane_desc*, uint64_t* block_bytes,
                              hadal_error*);
  const hadal_events_table* events; /* NULL: absent */
  const hadal_comm_table* comm;     /* NULL: absent */
} hadal_chip;

/* The one exported symbol of a plug-in, whatever -fvisibility says. `abi`: the host's; out->size:
 * what the host knows. HADAL_OK, or HADAL_UNSUPPORTED for another major version. */
typedef hadal_status (*hadal_chip_query_fn)(const hadal_host* host, uint32_t abi, hadal_chip* out);
__attribute__((visibility("default"))) hadal_status hadal_chip_query(const hadal_host* host,
                                                                     uint32_t abi, hadal_chip* out);

#ifdef __cplusplus
}
#endif
#endif
