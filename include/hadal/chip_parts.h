/* Parts of a chip that every plug-in needs and in which none differs: the texts of its refusals,
 * the checks of what the host passes, where an operand lies in a step, number formats.
 *
 * Optional, and no part of the contract: all of it is `static inline` and is compiled into the
 * plug-in, nothing of it crosses the border, and a plug-in may take what it likes or write its own.
 * It needs chip.h and the C library; C11 and C++20. It allocates nothing, keeps no state, and reads
 * the memory of no device: handles are the chip's own, which tells their sizes where they matter.
 *
 *     #define HADAL_CHIP_NAME "mychip"
 *     #include "hadal/chip_parts.h"
 *
 * Texts begin with that name; without one they begin with what is wrong, for a chip that adds its
 * own.
 *
 * What takes a hadal_error fills it whenever it does not return HADAL_OK; it may be NULL. Texts
 * name operators, operands and element types as operators.inc and dtypes.inc do. HADAL_UNSUPPORTED
 * is returned for what a newer host may rightly ask, HADAL_INVALID for what breaks the contract.
 */
#ifndef HADAL_CHIP_PARTS_H
#define HADAL_CHIP_PARTS_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hadal/chip.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef HADAL_CHIP_NAME
#define HADAL_PARTS_HEAD HADAL_CHIP_NAME ": "
#else
#define HADAL_PARTS_HEAD ""
#endif

/* Which parameter is the format, and the first that it speaks of. */
#define HADAL_PARTS_PRINTF(text, rest) __attribute__((format(printf, text, rest)))

/* ---- errors, and structs that grow ---- */

/* Did the caller know this field? Ask before reading one that came after 1.0. */
#define HADAL_KNOWS(type, p, field) ((p)->size >= offsetof(type, field) + sizeof((p)->field))

/* Returns what `call` returns, if that is not HADAL_OK. */
#define HADAL_OR_RETURN(call)                                          \
  do {                                                                 \
    const hadal_status hadal_status_of_call = (call);                  \
    if (hadal_status_of_call != HADAL_OK) return hadal_status_of_call; \
  } while (0)

/* Writes the chip's name and the text to `error` and returns `status`, so that a refusal is one
 * statement: return hadal_fail(error, HADAL_INVALID, "…", …). The text becomes one line, and is cut
 * between two characters where it is too long. */
HADAL_PARTS_PRINTF(3, 4)
static inline hadal_status hadal_fail(hadal_error* error, hadal_status status, const char* format,
                                      ...) {
  const size_t head = sizeof HADAL_PARTS_HEAD - 1, before = offsetof(hadal_error, text);
  if (!error || error->size <= before + head) return status;
  size_t room = error->size - before;
  if (room > sizeof error->text) room = sizeof error->text; /* a newer host's may be larger */
  memcpy(error->text, HADAL_PARTS_HEAD, head);
  va_list args;
  va_start(args, format);
  const int length = vsnprintf(error->text + head, room - head, format, args);
  va_end(args);
  char* end = error->text + head;
  for (; *end; ++end)
    if ((unsigned char)*end < ' ' || *end == 127) *end = ' ';
  if (length < 0 || (size_t)length < room - head) return status;
  while (end > error->text && ((unsigned char)end[-1] & 0xc0) == 0x80) --end;
  if (end > error->text && ((unsigned char)end[-1] & 0x80) != 0) --end;
  *end = '\0';
  return status;
}

/* Writes `from`, which begins with its size, to `*out` up to the size in *out, which stays: the
 * caller may know less of the struct, or more. `bytes`: sizeof *from. */
static inline void hadal_fill_sized(void* out, const void* from, size_t bytes) {
  uint32_t room = 0;
  memcpy(&room, out, sizeof room);
  if (room < bytes) bytes = room;
  if (bytes > sizeof room)
    memcpy((char*)out + sizeof room, (const char*)from + sizeof room, bytes - sizeof room);
}

/* ---- names ---- */

typedef struct hadal_name {
  char text[32];
} hadal_name;

/* `name` in lower case, or, if it is NULL, what it is and its number: "operator 99". */
static inline hadal_name hadal_name_of(const char* name, const char* what, uint32_t number) {
  hadal_name made;
  if (name)
    snprintf(made.text, sizeof made.text, "%s", name);
  else
    snprintf(made.text, sizeof made.text, "%s %" PRIu32, what, number);
  for (char* c = made.text; *c; ++c)
    if (*c >= 'A' && *c <= 'Z') *c = (char)(*c + 32);
  return made;
}

/* "Q4_K"; of a code that dtypes.inc does not have "type 99". */
static inline hadal_name hadal_dtype_name(uint32_t dtype) {
  hadal_name made;
  switch (dtype) {
#define HADAL_DTYPE(name, code, values, bytes, ggml, safetensors) \
  case HADAL_##name:                                              \
    snprintf(made.text, sizeof made.text, #name);                 \
    break;
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
    default:
      return hadal_name_of(NULL, "type", dtype);
  }
  return made;
}

/* The code of the type with this name; HADAL_DTYPE_NONE if dtypes.inc does not have it. */
static inline uint32_t hadal_dtype_called(const char* text, size_t length) {
#define HADAL_DTYPE(name, code, values, bytes, ggml, safetensors) \
  if (length == sizeof #name - 1 && memcmp(text, #name, length) == 0) return HADAL_##name;
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
  return HADAL_DTYPE_NONE;
}

/* Bytes of `values` values of an element type, which lie side by side; -1 if the type is not in
 * dtypes.inc, if they are no whole blocks of it, or if the size overflows. */
static inline int64_t hadal_bytes_of(uint32_t dtype, int64_t values) {
  int64_t block = 0, size = 0;
  switch (dtype) {
#define HADAL_DTYPE(name, code, values_of_block, bytes_of_block, ggml, safetensors) \
  case HADAL_##name:                                                                \
    block = values_of_block, size = bytes_of_block;                                 \
    break;
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
    default:
      return -1;
  }
  if (values < 0 || values % block != 0) return -1;
  return __builtin_mul_overflow(values / block, size, &size) ? -1 : size;
}

/* A line of operators.inc: what the contract says of an operand. */
typedef struct hadal_operand_row {
  uint32_t op;        /* hadal_op_id */
  uint32_t role;      /* hadal_role */
  const char* name;   /* "BLOCK_TABLE" */
  const char* shape;  /* "[M, K] or [M, B, K]", "as OUT" */
  const char* dtypes; /* names with blanks between, or "any" */
} hadal_operand_row;

/* The operands of an operator in their order, and how many; NULL and 0 if this header does not know
 * it. */
static inline const hadal_operand_row* hadal_operands_of(uint32_t id, uint32_t* count) {
  static const hadal_operand_row rows[] = {
#define HADAL_OP(name, code, level, formula, detail)
#define HADAL_OPERAND(op, name, role, shape, dtypes, meaning) \
  {HADAL_OP_##op, HADAL_ROLE_##role, #name, shape, dtypes},
#include "hadal/operators.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
  };
  const hadal_operand_row *end = rows + sizeof rows / sizeof *rows, *first = rows;
  while (first < end && first->op != id) ++first;
  *count = 0;
  while (first + *count < end && first[*count].op == id) ++*count;
  return *count > 0 ? first : NULL;
}

/* "gqa_attention"; of one that operators.inc does not have "operator 99". */
static inline hadal_name hadal_op_name(uint32_t id) {
  switch (id) {
#define HADAL_OP(name, code, level, formula, detail) \
  case HADAL_OP_##name:                              \
    return hadal_name_of(#name, "", 0);
#define HADAL_OPERAND(op, name, role, shape, dtypes, meaning)
#include "hadal/operators.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
    default:
      return hadal_name_of(NULL, "operator", id);
  }
}

/* "block_table". */
static inline hadal_name hadal_operand_name(uint32_t id, uint32_t operand) {
  uint32_t count = 0;
  const hadal_operand_row* rows = hadal_operands_of(id, &count);
  return hadal_name_of(operand < count ? rows[operand].name : NULL, "operand", operand);
}

/* Is `word` one of the words of `list`, with one blank between them? */
static inline int hadal_lists(const char* list, const char* word) {
  const size_t length = strlen(word);
  for (; list; list = strchr(list, ' '), list = list ? list + 1 : NULL)
    if (length > 0 && strncmp(list, word, length) == 0 && strchr(" ", list[length])) return 1;
  return 0;
}

/* ---- refusals ---- */

/* "matmul: w [1536, 576] Q4_K: <limit>": operator, operand, shape, type, then what is wrong with it
 * and what would not be. `tensor` belongs to `operand`. */
HADAL_PARTS_PRINTF(6, 7)
static inline hadal_status hadal_refuse_operand(uint32_t id, uint32_t operand,
                                                const hadal_tensor* tensor, hadal_status status,
                                                hadal_error* error, const char* limit, ...) {
  char shape[HADAL_MAX_RANK * 24] = "", *at = shape, why[256];
  const int absent = tensor->space == HADAL_SPACE_NONE;
  for (uint32_t d = 0; !absent && d < tensor->rank && d < HADAL_MAX_RANK; ++d)
    at += snprintf(at, 24, "%s%" PRId64, d > 0 ? ", " : "", tensor->extents[d]);
  va_list args;
  va_start(args, limit);
  vsnprintf(why, sizeof why, limit, args);
  va_end(args);
  return hadal_fail(error, status, "%s: %s %s%s%s%s: %s", hadal_op_name(id).text,
                    hadal_operand_name(id, operand).text, absent ? "(absent)" : "[", shape,
                    absent ? "" : "] ", absent ? "" : hadal_dtype_name(tensor->dtype).text, why);
}

/* "router: logits [32, 64] F32: not offered: <remedy>", HADAL_UNSUPPORTED: the host looks for
 * another way. Of an operator that is unknown, its number alone. */
static inline hadal_status hadal_refuse_operator(uint32_t id, const hadal_tensor* tensors,
                                                 const char* remedy, hadal_error* error) {
  uint32_t count = 0;
  if (!hadal_operands_of(id, &count))
    return hadal_fail(error, HADAL_UNSUPPORTED, "%s: unknown to this chip: %s",
                      hadal_op_name(id).text, remedy);
  return hadal_refuse_operand(id, 0, tensors, HADAL_UNSUPPORTED, error, "not offered: %s", remedy);
}

/* "embed: token[3] = 50000, expected a mapped one of [0, 49152)", HADAL_INVALID: for a chip that
 * looks at the values of indices. */
static inline hadal_status hadal_refuse_index(uint32_t id, uint32_t operand, int64_t at,
                                              int64_t value, int64_t end, hadal_error* error) {
  return hadal_fail(error, HADAL_INVALID,
                    "%s: %s[%" PRId64 "] = %" PRId64 ", expected a mapped one of [0, %" PRId64 ")",
                    hadal_op_name(id).text, hadal_operand_name(id, operand).text, at, value, end);
}

/* "weight [1, 1536, 576] Q4_K: <limit>", and with block scales "… F8_E4M3, scales F32 by 128 x 128:
 * <limit>". */
HADAL_PARTS_PRINTF(4, 5)
static inline hadal_status hadal_refuse_weight(const hadal_weight_desc* desc, hadal_status status,
                                               hadal_error* error, const char* limit, ...) {
  char scales[96] = "", why[256];
  if (desc->scale_dtype != HADAL_DTYPE_NONE)
    snprintf(scales, sizeof scales, ", scales %s by %" PRId64 " x %" PRId64,
             hadal_dtype_name(desc->scale_dtype).text, desc->scale_block_rows,
             desc->scale_block_cols);
  va_list args;
  va_start(args, limit);
  vsnprintf(why, sizeof why, limit, args);
  va_end(args);
  return hadal_fail(error, status, "weight [%" PRId64 ", %" PRId64 ", %" PRId64 "] %s%s: %s",
                    desc->batch, desc->rows, desc->cols, hadal_dtype_name(desc->dtype).text, scales,
                    why);
}

/* ---- opening ---- */

/* For hadal_chip_query: HADAL_UNSUPPORTED for a host of another major version, told by its
 * query_error. */
static inline hadal_status hadal_check_abi(const hadal_host* host, uint32_t abi) {
  if (abi >> 16 == HADAL_ABI_MAJOR) return HADAL_OK;
  return hadal_fail(
      HADAL_KNOWS(hadal_host, host, query_error) ? host->query_error : NULL, HADAL_UNSUPPORTED,
      "built for contract %u.%u, the host speaks %u.%u; take the build for that version",
      HADAL_ABI_MAJOR, HADAL_ABI_MINOR, (unsigned)(abi >> 16), (unsigned)(abi & 0xffffu));
}

/* For device_open: is there such a device, such a table of kernels, are there such options?
 * `devices`: how many device_count tells; `kernels`, `options`: their names with a blank between,
 * "" for none; `asked` may be NULL. */
static inline hadal_status hadal_check_open(int32_t index, int32_t devices, const char* kernels,
                                            const char* options, const hadal_device_options* asked,
                                            hadal_error* error) {
  if (index < 0 || index >= devices)
    return hadal_fail(error, HADAL_INVALID, "there is no device %d, expected one of [0, %d)",
                      (int)index, (int)devices);
  if (!asked) return HADAL_OK;
  if (asked->kernels && !hadal_lists(kernels, asked->kernels))
    return hadal_fail(error, HADAL_UNSUPPORTED,
                      "there is no kernel table \"%s\", expected one of: %s", asked->kernels,
                      kernels);
  if (!HADAL_KNOWS(hadal_device_options, asked, option_values)) return HADAL_OK;
  for (uint32_t i = 0; i < asked->option_count; ++i)
    if (!hadal_lists(options, asked->option_names[i]))
      return hadal_fail(
          error, HADAL_INVALID, "there is no option \"%s\", %s%s", asked->option_names[i],
          *options ? "expected one of: " : "this chip has none; leave --chip-option out", options);
  return HADAL_OK;
}

/* ---- memories and weights ---- */

/* Do bytes [offset, offset + bytes) lie in a memory of `size` bytes? No sum wraps. `what` is done
 * there: "copy_in". */
static inline hadal_status hadal_check_range(const char* what, uint64_t size, uint64_t offset,
                                             uint64_t bytes, hadal_error* error) {
  if (offset <= size && bytes <= size - offset) return HADAL_OK;
  return hadal_fail(error, HADAL_INVALID,
                    "%s: bytes %" PRIu64 " + %" PRIu64 " lie outside a memory of %" PRIu64, what,
                    offset, bytes, size);
}

/* Where a memory of the chip lies, on the host or on the device, and how many bytes it has. */
typedef struct hadal_place {
  void* data;
  uint64_t bytes;
} hadal_place;

/* The first thing of weight_bytes: are the extents of a weight at least 1, is its type one of
 * `types` (names with a blank between; of a vector F32 alone), are its rows whole blocks? Then
 * *bytes is what it takes as it is stored. Scales are not looked at. */
static inline hadal_status hadal_check_weight(const hadal_weight_desc* desc, const char* types,
                                              uint64_t* bytes, hadal_error* error) {
  int64_t total = 0;
  *bytes = 0;
  if (desc->batch < 1 || desc->rows < 1 || desc->cols < 1)
    return hadal_refuse_weight(desc, HADAL_INVALID, error, "extents must be at least 1");
  if ((desc->uses & HADAL_USE_VECTOR) != 0) types = "F32";
  if (!hadal_lists(types, hadal_dtype_name(desc->dtype).text))
    return hadal_refuse_weight(desc, HADAL_UNSUPPORTED, error,
                               "not taken; convert it to one of: %s", types);
  const int64_t row = hadal_bytes_of(desc->dtype, desc->cols);
  if (row < 0)
    return hadal_refuse_weight(desc, HADAL_INVALID, error, "rows must be whole blocks of the type");
  if (__builtin_mul_overflow(desc->batch, desc->rows, &total) ||
      __builtin_mul_overflow(total, row, &total))
    return hadal_refuse_weight(desc, HADAL_INVALID, error, "larger than any memory");
  *bytes = (uint64_t)total;
  return HADAL_OK;
}

/* Behind weight_bytes, the first thing of weight_create: do the pieces hold the rows of all
 * matrices, no fewer and no more, and does each lie inside its memory? `row_bytes`: of a row as it
 * is stored. Scales are not looked at. */
static inline hadal_status hadal_check_pieces(const hadal_weight_desc* desc, int64_t row_bytes,
                                              const hadal_piece* pieces, uint32_t count,
                                              hadal_place (*place_of)(hadal_memory*),
                                              hadal_error* error) {
  int64_t held = 0, span = 0;
  for (const hadal_piece* p = pieces; p < pieces + count; ++p) {
    if (!p->memory || p->rows < 0 || p->row_stride < 0 ||
        __builtin_add_overflow(held, p->rows, &held) ||
        __builtin_mul_overflow(p->rows > 0 ? p->rows - 1 : 0, p->row_stride, &span) ||
        __builtin_add_overflow(span, p->rows > 0 ? row_bytes : 0, &span))
      return hadal_refuse_weight(desc, HADAL_INVALID, error,
                                 "piece %d has no memory, or %" PRId64 " rows by %" PRId64 " bytes",
                                 (int)(p - pieces), p->rows, p->row_stride);
    HADAL_OR_RETURN(hadal_check_range("piece of a weight", place_of(p->memory).bytes, p->offset,
                                      (uint64_t)span, error));
  }
  if (held == desc->batch * desc->rows) return HADAL_OK;
  return hadal_refuse_weight(desc, HADAL_INVALID, error,
                             "its pieces hold %" PRId64 " rows, expected %" PRId64, held,
                             desc->batch * desc->rows);
}

/* Is a weight of `rows` rows in all its matrices, of `cols` values of `dtype`, the one that the
 * tensor says? */
static inline int hadal_is_weight_of(const hadal_tensor* tensor, uint32_t dtype, int64_t rows,
                                     int64_t cols) {
  int64_t product = 1;
  for (uint32_t d = 0; d + 1 < tensor->rank; ++d)
    if (__builtin_mul_overflow(product, tensor->extents[d], &product)) return 0;
  return tensor->dtype == dtype && product == rows && tensor->extents[tensor->rank - 1] == cols;
}

/* Answers weight_forms with a list, the best first, of which the host may have room for a part. */
static inline hadal_status hadal_fill_forms(const hadal_weight_form* list, uint32_t listed,
                                            hadal_weight_form* forms, uint32_t* count) {
  for (uint32_t i = 0; i < listed && i < *count; ++i)
    hadal_fill_sized(&forms[i], &list[i], sizeof list[i]);
  *count = listed;
  return HADAL_OK;
}

/* The same for a chip that takes no scales and computes on all types in one class: `types` as in
 * hadal_check_weight, eight at most; vectors in F32. */
static inline hadal_status hadal_plain_forms(uint32_t use, const char* types,
                                             hadal_numerics numerics, hadal_weight_form* forms,
                                             uint32_t* count) {
  hadal_weight_form list[8];
  uint32_t listed = 0;
  memset(list, 0, sizeof list);
  if (use == HADAL_USE_VECTOR) types = "F32";
  for (const char* at = types; at && listed < 8; at = strchr(at, ' '), at = at ? at + 1 : NULL) {
    list[listed].dtype = hadal_dtype_called(at, strcspn(at, " "));
    list[listed++].numerics = (uint32_t)numerics;
  }
  return hadal_fill_forms(list, listed, forms, count);
}

/* ---- operators ---- */

/* The tensors of an operator of a tape, in the order of its operands; absent ones have space NONE,
 * as have those behind the last that operators.inc gives it (of a private operator all are taken).
 */
static inline hadal_status hadal_gather_operands(const hadal_tape* tape, const hadal_op* op,
                                                 hadal_tensor tensors[HADAL_MAX_OPERANDS],
                                                 hadal_error* error) {
  uint32_t count = 0;
  memset(tensors, 0, HADAL_MAX_OPERANDS * sizeof *tensors);
  if (!hadal_operands_of(op->id, &count)) count = HADAL_MAX_OPERANDS;
  for (uint32_t i = 0; i < count; ++i) {
    if (op->operands[i] < 0) continue;
    if (op->operands[i] >= (int64_t)tape->tensor_count)
      return hadal_refuse_operand(op->id, i, &tensors[i], HADAL_INVALID, error,
                                  "it is tensor %d of a tape of %u", (int)op->operands[i],
                                  (unsigned)tape->tensor_count);
    tensors[i] = tape->tensors[op->operands[i]];
  }
  return HADAL_OK;
}

/* A name in the shapes of an operator, and the extent that it was first seen to mean. */
typedef struct hadal_extent_name {
  const char* text;
  size_t length;
  int64_t extent;
} hadal_extent_name;

/* Which of the shapes "… or …" has `rank` extents: its text behind the bracket; NULL: none. */
static inline const char* hadal_shape_of_rank(const char* shape, uint32_t rank) {
  while ((shape = strchr(shape, '[')) != NULL) {
    uint32_t extents = 1;
    for (const char* c = ++shape; *c != ']'; ++c) extents += *c == ',';
    if (extents == rank) return shape;
  }
  return NULL;
}

/* Do the extents of an operand mean what they mean in the operands before it? Names alone are
 * compared: "K", not "kv_heads * D". `shape`: of hadal_shape_of_rank; `names` has room for *known
 * and as many as the rank more. */
static inline hadal_status hadal_check_extents(uint32_t id, uint32_t operand,
                                               const hadal_tensor* tensor, const char* shape,
                                               hadal_extent_name* names, uint32_t* known,
                                               hadal_error* error) {
  for (uint32_t d = 0; d < tensor->rank; ++d) {
    const char* text = shape;
    const size_t length = strcspn(text, ",]");
    shape = text + length + (text[length] == ',' ? 2 : 0);
    if (strcspn(text, "*/+(0123456789") < length) continue;
    uint32_t i = 0;
    while (i < *known && (names[i].length != length || memcmp(names[i].text, text, length) != 0))
      ++i;
    if (i == *known) {
      names[i].text = text, names[i].length = length, names[i].extent = tensor->extents[d];
      ++*known;
    }
    if (names[i].extent != tensor->extents[d])
      return hadal_refuse_operand(id, operand, tensor, HADAL_INVALID, error,
                                  "%.*s is %" PRId64 ", expected %" PRId64
                                  " as in the operands before",
                                  (int)length, text, tensor->extents[d], names[i].extent);
  }
  return HADAL_OK;
}

/* The number of the operand of this name. */
static inline uint32_t hadal_operand_called(const hadal_operand_row* rows, uint32_t count,
                                            const char* name) {
  uint32_t i = 0;
  while (i + 1 < count && strcmp(rows[i].name, name) != 0) ++i;
  return i;
}

/* What is wrong with the place of an operand, by its line of operators.inc; NULL if nothing is. */
static inline const char* hadal_wrong_place(const hadal_operand_row* row, const hadal_tensor* t) {
  const int weight = row->role == HADAL_ROLE_WEIGHT || row->role == HADAL_ROLE_OPT_WEIGHT;
  const int plane = strncmp(row->shape, "[blocks", 7) == 0;
  if (t->space == HADAL_SPACE_NONE)
    return row->role == HADAL_ROLE_OPT_IN || row->role == HADAL_ROLE_OPT_INOUT ||
                   row->role == HADAL_ROLE_OPT_WEIGHT
               ? NULL
               : "expected, and not given";
  if (t->space > HADAL_SPACE_WEIGHT || t->rank < 1 || t->rank > HADAL_MAX_RANK ||
      t->row_dim >= HADAL_DIM_COUNT)
    return "no such space, rank or row count";
  if (weight != (t->space == HADAL_SPACE_WEIGHT))
    return weight ? "expected a weight" : "expected no weight";
  if (plane != (t->space == HADAL_SPACE_PLANE))
    return plane ? "expected a plane" : "expected no plane";
  for (uint32_t d = 0; d < t->rank; ++d)
    if (t->extents[d] < 0 || t->strides[d] < 0 || (plane && t->strides[d] == 0))
      return "expected no negative extent or stride, and of a plane none of 0";
  return NULL;
}

/* The limit that the attributes of an operator break, or types that must be one; NULL if none.
 * Operators of dense models alone: attributes of the others are looked at by whoever takes them. */
static inline const char* hadal_broken_limit(const hadal_op* op, const hadal_tensor* tensors) {
  const hadal_attributes* a = &op->attr;
  const int64_t* x = tensors[0].extents;
  switch (op->id) {
    case HADAL_OP_NORM:
      if (!(a->norm.eps >= 0) || a->norm.layer > 1) return "eps must not be negative, layer 0 or 1";
      return a->norm.layer == 0 && tensors[HADAL_NORM_B].space != HADAL_SPACE_NONE
                 ? "b belongs to a layer norm"
                 : NULL;
    case HADAL_OP_ROPE:
      if (a->rope.dims % 2 != 0 || a->rope.first + (int64_t)a->rope.dims > x[2])
        return "dims must be even and lie inside a head";
      return a->rope.ratio < 1 ? "ratio must be at least 1" : NULL;
    case HADAL_OP_SWIGLU:
    case HADAL_OP_GATED_MATMUL:
      return a->swiglu.clamp >= 0 ? NULL : "clamp must not be negative";
    case HADAL_OP_KV_WRITE:
      return a->kv_write.ratio < 1 ? "ratio must be at least 1" : NULL;
    case HADAL_OP_GQA_ATTENTION:
      return a->attention.kv_heads < 1 || x[1] % a->attention.kv_heads != 0
                 ? "the heads must be a multiple of kv_heads"
                 : NULL;
    case HADAL_OP_GATHER_ROWS:
      return tensors[0].dtype == tensors[HADAL_GATHER_ROWS_OUT].dtype
                 ? NULL
                 : "x and out must be of one type";
    default:
      return NULL;
  }
}

/* What operators.inc says of the operands of an operator, for op_support and op_run: which must be
 * given, which are weights or planes, their types, ranks, and the extents of one name; and
 * hadal_broken_limit. `weights`: the types of those that the chip takes, names with a blank
 * between; NULL for all. tensors[i] belongs to operand i. */
static inline hadal_status hadal_check_operands(const hadal_op* op, const hadal_tensor* tensors,
                                                const char* weights, hadal_error* error) {
  hadal_extent_name names[HADAL_MAX_OPERANDS * HADAL_MAX_RANK];
  uint32_t count = 0, known = 0, rank = 0;
  const hadal_operand_row* rows = hadal_operands_of(op->id, &count);
  if (!rows) return hadal_refuse_operator(op->id, tensors, "choose another chip", error);
  for (uint32_t i = 0; i < count; ++i) {
    const hadal_tensor* t = &tensors[i];
    const char *wrong = hadal_wrong_place(&rows[i], t), *dtypes = rows[i].dtypes;
    if (wrong) return hadal_refuse_operand(op->id, i, t, HADAL_INVALID, error, "%s", wrong);
    if (t->space == HADAL_SPACE_NONE) continue;
    if (strcmp(dtypes, "any") == 0 && weights) dtypes = weights;
    if (strcmp(dtypes, "any") == 0 ? t->dtype == HADAL_BOOL || hadal_bytes_of(t->dtype, 0) < 0
                                   : !hadal_lists(dtypes, hadal_dtype_name(t->dtype).text))
      return hadal_refuse_operand(op->id, i, t, HADAL_UNSUPPORTED, error,
                                  "not taken; convert it to one of: %s", dtypes);
    if (strncmp(rows[i].shape, "as ", 3) == 0) {
      const uint32_t same = hadal_operand_called(rows, count, rows[i].shape + 3);
      if (t->rank != tensors[same].rank ||
          memcmp(t->extents, tensors[same].extents, sizeof t->extents) != 0)
        return hadal_refuse_operand(op->id, i, t, HADAL_INVALID, error, "expected the shape of %s",
                                    hadal_operand_name(op->id, same).text);
      continue;
    }
    const char* shape = hadal_shape_of_rank(rows[i].shape, t->rank);
    if (!shape || (rank != 0 && rank != t->rank && strstr(rows[i].shape, " or ")))
      return hadal_refuse_operand(op->id, i, t, HADAL_UNSUPPORTED, error,
                                  "the shape is not %s, with one rank for all", rows[i].shape);
    if (strstr(rows[i].shape, " or ")) rank = t->rank;
    const hadal_status status = hadal_check_extents(op->id, i, t, shape, names, &known, error);
    if (status != HADAL_OK) return status;
  }
  const char* limit = hadal_broken_limit(op, tensors);
  return limit ? hadal_refuse_operand(op->id, 0, tensors, HADAL_INVALID, error, "%s", limit)
               : HADAL_OK;
}

/* ---- steps ---- */

/* The first thing of op_run: do operators [first, first + count) lie in the tape, and are the rows
 * of the step within its limits? */
static inline hadal_status hadal_check_step(const hadal_tape* tape, uint32_t first, uint32_t count,
                                            const hadal_step* step, hadal_error* error) {
  if (first > tape->op_count || count > tape->op_count - first)
    return hadal_fail(error, HADAL_INVALID, "operators %u + %u of a tape of %u", (unsigned)first,
                      (unsigned)count, (unsigned)tape->op_count);
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    if (step->rows[dim] < 0 || step->rows[dim] > tape->limits[dim])
      return hadal_fail(error, HADAL_INVALID,
                        "the step brings %" PRId64 " rows, the tape's limit is %" PRId64,
                        step->rows[dim], tape->limits[dim]);
  return HADAL_OK;
}

/* Is the step asked to give up? Another thread may ask at any time. */
static inline int hadal_stop_asked(const hadal_step* step) {
  return step->stop && __atomic_load_n(step->stop, __ATOMIC_RELAXED) != 0;
}

/* The memory that the offset of a tensor counts from; NULL for a weight, an absent operand, and
 * where the step does not bring it. */
static inline hadal_memory* hadal_memory_of(const hadal_tensor* tensor, const hadal_step* step) {
  switch (tensor->space) {
    case HADAL_SPACE_SCRATCH:
      return step->scratch;
    case HADAL_SPACE_INPUT:
      return step->inputs;
    case HADAL_SPACE_OUTPUT:
      return step->outputs;
    case HADAL_SPACE_PLANE:
      return tensor->index < step->plane_count ? step->planes[tensor->index] : NULL;
    default:
      return NULL;
  }
}

/* An operand as it stands in a step. */
typedef struct hadal_view {
  char* data;                     /* its first number, or NULL: a weight, absent, or of 0 rows */
  int64_t n[HADAL_MAX_RANK];      /* numbers along each dimension, outermost first, 1 behind the
                                     last: n[0] is this step's rows, or the blocks a plane holds */
  int64_t stride[HADAL_MAX_RANK]; /* bytes along each: an offset may lie beyond 2^31 */
  uint32_t dtype, rank;           /* rank 0: absent */
  hadal_weight* weight;           /* or NULL */
} hadal_view;

/* Fills the view of a tensor that hadal_check_operands let pass; `place`: of hadal_memory_of. 0 if
 * what it spans does not lie inside. Of a plane it is as many blocks as do; whether a weight is the
 * one that the tensor says, the chip alone can tell. */
static inline int hadal_make_view(const hadal_tensor* tensor, const hadal_step* step,
                                  hadal_place place, hadal_view* view) {
  memset(view, 0, sizeof *view);
  if (tensor->rank > HADAL_MAX_RANK || tensor->row_dim >= HADAL_DIM_COUNT) return 0;
  view->dtype = tensor->dtype;
  view->rank = tensor->rank;
  for (uint32_t d = 0; d < HADAL_MAX_RANK; ++d) {
    view->n[d] = d < tensor->rank ? tensor->extents[d] : 1;
    view->stride[d] = tensor->strides[d];
  }
  if (__builtin_mul_overflow(view->n[0], step->rows[tensor->row_dim], &view->n[0])) return 0;
  view->weight = tensor->space == HADAL_SPACE_WEIGHT ? tensor->weight : NULL;
  if (tensor->space == HADAL_SPACE_WEIGHT) return view->weight != NULL;
  const uint64_t room = tensor->offset < place.bytes ? place.bytes - tensor->offset : 0;
  if (tensor->space == HADAL_SPACE_PLANE && view->stride[0] > 0 && view->n[0] > 0 &&
      room / (uint64_t)view->stride[0] < (uint64_t)view->n[0])
    view->n[0] = (int64_t)(room / (uint64_t)view->stride[0]);
  int64_t end = hadal_bytes_of(tensor->dtype, 1), span = 0;
  for (uint32_t d = 0; d < view->rank; ++d) {
    if (view->n[d] == 0) return 1;
    if (__builtin_mul_overflow(view->n[d] - 1, view->stride[d], &span) ||
        __builtin_add_overflow(end, span, &end))
      return 0;
  }
  if (!place.data || (uint64_t)end > room) return 0;
  view->data = (char*)place.data + tensor->offset;
  return 1;
}

/* The views of all operands of an operator in a step: behind hadal_check_operands. `place_of` tells
 * where a memory lies; it is not asked for weights. */
static inline hadal_status hadal_view_operands(const hadal_op* op, const hadal_tensor* tensors,
                                               const hadal_step* step,
                                               hadal_place (*place_of)(hadal_memory*),
                                               hadal_view views[HADAL_MAX_OPERANDS],
                                               hadal_error* error) {
  memset(views, 0, HADAL_MAX_OPERANDS * sizeof *views);
  for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i) {
    if (tensors[i].space == HADAL_SPACE_NONE) continue;
    hadal_memory* memory = hadal_memory_of(&tensors[i], step);
    const hadal_place nowhere = {NULL, 0};
    if (!hadal_make_view(&tensors[i], step, memory ? place_of(memory) : nowhere, &views[i]))
      return hadal_refuse_operand(op->id, i, &tensors[i], HADAL_INVALID, error,
                                  "it does not lie inside a memory of the step");
  }
  return HADAL_OK;
}

/* The block of a plane in which position `at` of a sequence lies, by the block table: -1 if it is
 * not mapped, -2 if the table or the plane ends before it. Both views are read on the host. */
static inline int64_t hadal_block_of(const hadal_view* plane, const hadal_view* table,
                                     int64_t sequence, int64_t at) {
  const int64_t slots = plane->n[1];
  if (at < 0 || at / slots >= table->n[1]) return -2;
  const char* row = table->data + sequence * table->stride[0];
  const int32_t block = ((const int32_t*)(const void*)row)[at / slots];
  return block >= -1 && block < plane->n[0] ? block : -2;
}

/* Number `first` of that position's slot, in a plane whose rows lie side by side; only where
 * hadal_block_of is at least 0. */
static inline char* hadal_slot_of(const hadal_view* plane, const hadal_view* table,
                                  int64_t sequence, int64_t at, int64_t first) {
  return plane->data + hadal_block_of(plane, table, sequence, at) * plane->stride[0] +
         at % plane->n[1] * plane->stride[1] + first * plane->stride[2];
}

/* ---- numbers ---- */

static inline float hadal_f16_to_f32(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u,
                 low = half & 1023u;
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)low * (1.0f / 16777216.0f);
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | low << 13;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* To nearest, ties to even, as the contract rounds; from 65520 on infinity; NaN stays NaN. */
static inline uint16_t hadal_f32_to_f16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (bits < 0x38800000u) { /* below 2^-14: what 0.5 + it rounds to is a multiple of 2^-24 */
    memcpy(&value, &bits, sizeof value);
    value += 0.5f;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(sign | (bits - 0x3f000000u));
  }
  return (uint16_t)(sign | (bits + 0xfff + ((bits >> 13) & 1) - 0x38000000u) >> 13);
}

static inline float hadal_bf16_to_f32(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* As hadal_f32_to_f16. */
static inline uint16_t hadal_f32_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* `count` numbers in F32, F16 or BF16 from `from`, maybe unaligned, as fp32: what is stored. */
static inline void hadal_load(uint32_t dtype, const void* from, int64_t count, float* to) {
  const char* at = (const char*)from;
  uint16_t half;
  if (dtype == HADAL_F32) {
    memcpy(to, from, (size_t)count * sizeof *to);
  } else if (dtype == HADAL_F16) {
    for (int64_t i = 0; i < count; ++i) {
      memcpy(&half, at + 2 * i, sizeof half);
      to[i] = hadal_f16_to_f32(half);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      memcpy(&half, at + 2 * i, sizeof half);
      to[i] = hadal_bf16_to_f32(half);
    }
  }
}

/* The other way, rounded once. */
static inline void hadal_store(uint32_t dtype, const float* from, int64_t count, void* to) {
  if (dtype == HADAL_F32) {
    memcpy(to, from, (size_t)count * sizeof *from);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t half =
        dtype == HADAL_F16 ? hadal_f32_to_f16(from[i]) : hadal_f32_to_bf16(from[i]);
    memcpy((char*)to + 2 * i, &half, sizeof half);
  }
}

#ifdef __cplusplus
}
#endif
#endif
