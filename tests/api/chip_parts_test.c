/* hadal/chip_parts.h, compiled as C11 and, by chip_parts_test.cc, as C++20. What is refused is told
 * by a text that is compared, since a user reads it. Returns the number of faults. */
#define HADAL_CHIP_NAME "parts"
#include "hadal/chip_parts.h"

#include <stdlib.h>

struct hadal_memory {
  char* data;
  uint64_t bytes;
};

static int faults = 0;

static void expect(int good, const char* what) {
  if (good) return;
  printf("fault: %s\n", what);
  ++faults;
}

static void expect_text(const char* found, const char* expected) {
  if (strcmp(found, expected) == 0) return;
  printf("fault: \"%s\"\n   not: \"%s\"\n", found, expected);
  ++faults;
}

/* The last refusal: its status and its text. */
static hadal_error error;
static hadal_error* fresh(void) {
  memset(&error, 0, sizeof error);
  error.size = sizeof error;
  return &error;
}
static void expect_refusal(hadal_status found, hadal_status expected, const char* text) {
  expect(found == expected, text);
  expect_text(error.text, text);
}

/* ---- errors, and structs that grow ---- */

static void check_errors(void) {
  expect_refusal(hadal_fail(fresh(), HADAL_INVALID, "%d\nlines\tof %s", 2, "text"), HADAL_INVALID,
                 "parts: 2 lines of text");
  expect(hadal_fail(NULL, HADAL_STOPPED, "x") == HADAL_STOPPED, "no error to fill");

  char text[1200];
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  hadal_fail(fresh(), HADAL_INVALID, "%s", text);
  expect(strlen(error.text) == sizeof error.text - 1, "a long text fills what there is");
  for (size_t i = 0; i + 2 < sizeof text; i += 2) memcpy(text + i, "\xc3\xa9", 2);
  for (uint32_t size = 0; size < sizeof error; ++size) { /* of any host, older or newer */
    fresh()->size = size;
    memset(error.text, 1, sizeof error.text);
    hadal_fail(&error, HADAL_INVALID, "%s", text);
    const size_t room = size > 4 ? size - 4 : 0, head = strlen("parts: ");
    if (room <= head) {
      expect(error.text[0] == 1, "an error without room stays as it is");
      continue;
    }
    const size_t length = strlen(error.text);
    expect(length < room && error.text[room] == 1, "no byte beyond the size");
    expect((length - head) % 2 == 0, "cut between two characters");
  }
  struct {
    hadal_error known;
    char more[8];
  } larger = {{sizeof larger, ""}, "more"};
  hadal_fail(&larger.known, HADAL_INVALID, "%s", text);
  expect_text(larger.more, "more");

  hadal_op_answer from = {0, HADAL_NUMERICS_HALF, 32, 0, 77}, out;
  memset(&out, 0, sizeof out);
  out.size = offsetof(hadal_op_answer, block);
  hadal_fill_sized(&out, &from, sizeof from);
  expect(out.size == offsetof(hadal_op_answer, block), "the size stays");
  expect(out.numerics == HADAL_NUMERICS_HALF && out.block == 0, "no more than the size");
  expect(HADAL_KNOWS(hadal_op_answer, &out, numerics), "a field that is known");
  expect(!HADAL_KNOWS(hadal_op_answer, &out, block), "a field that is not");
}

/* ---- names ---- */

static void check_names(void) {
  expect_text(hadal_dtype_name(HADAL_Q4_K).text, "Q4_K");
  expect_text(hadal_dtype_name(70000).text, "type 70000");
  expect_text(hadal_op_name(HADAL_OP_GQA_ATTENTION).text, "gqa_attention");
  expect_text(hadal_op_name(9999).text, "operator 9999");
  expect_text(hadal_operand_name(HADAL_OP_KV_WRITE, HADAL_KV_WRITE_ROW_SEQ).text, "row_seq");
  expect_text(hadal_operand_name(9999, 3).text, "operand 3");
  expect(hadal_bytes_of(HADAL_Q4_K, 512) == 288, "two blocks");
  expect(hadal_bytes_of(HADAL_Q4_K, 500) == -1, "no whole blocks");
  expect(hadal_bytes_of(HADAL_F64, INT64_MAX) == -1, "more than can be counted");
  expect(hadal_lists("a bc", "bc") && !hadal_lists("abc", "b") && !hadal_lists("", ""), "words");
  uint32_t count = 0;
  expect(!hadal_operands_of(9999, &count) && count == 0, "an operator that nobody knows");
#define HADAL_DTYPE(name, code, values, bytes, ggml, safetensors)                     \
  expect(hadal_dtype_called(#name, strlen(#name)) == HADAL_##name, "code of " #name); \
  expect_text(hadal_dtype_name(code).text, #name);
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
#define HADAL_OP(name, code, level, formula, detail) \
  expect(hadal_operands_of(code, &count) && count == HADAL_##name##_OPERANDS, #name);
#define HADAL_OPERAND(op, operand, role, shape, dtypes, meaning) \
  expect_text(hadal_operands_of(HADAL_OP_##op, &count)[HADAL_##op##_##operand].name, #operand);
#include "hadal/operators.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
}

/* ---- opening, memories, weights ---- */

static void check_opening(void) {
  hadal_host host;
  memset(&host, 0, sizeof host);
  host.size = sizeof host;
  host.query_error = fresh();
  expect_refusal(
      hadal_check_abi(&host, 2u << 16 | 3), HADAL_UNSUPPORTED,
      "parts: built for contract 1.1, the host speaks 2.3; take the build for that version");
  host.size = offsetof(hadal_host, query_error);
  fresh();
  expect(hadal_check_abi(&host, 2u << 16) == HADAL_UNSUPPORTED && !error.text[0], "a host of 1.0");
  expect(hadal_check_abi(&host, HADAL_ABI + 7) == HADAL_OK, "a newer minor version");

  const char *name = "speed", *value = "9";
  hadal_device_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.option_count = 1;
  options.option_names = &name;
  options.option_values = &value;
  expect(hadal_check_open(0, 1, "plain", "heat speed", &options, fresh()) == HADAL_OK, "an option");
  expect_refusal(hadal_check_open(0, 1, "plain", "heat", &options, fresh()), HADAL_INVALID,
                 "parts: there is no option \"speed\", expected one of: heat");
  expect_refusal(
      hadal_check_open(0, 1, "plain", "", &options, fresh()), HADAL_INVALID,
      "parts: there is no option \"speed\", this chip has none; leave --chip-option out");
  options.kernels = "fast";
  expect_refusal(hadal_check_open(0, 1, "plain wide", "", &options, fresh()), HADAL_UNSUPPORTED,
                 "parts: there is no kernel table \"fast\", expected one of: plain wide");
  expect_refusal(hadal_check_open(2, 2, "plain", "", NULL, fresh()), HADAL_INVALID,
                 "parts: there is no device 2, expected one of [0, 2)");
}

static hadal_place place_of(hadal_memory* memory) {
  hadal_place place;
  place.data = memory->data;
  place.bytes = memory->bytes;
  return place;
}

static void check_weights(void) {
  expect(hadal_check_range("x", 64, 64, 0, fresh()) == HADAL_OK, "nothing at the end");
  expect_refusal(hadal_check_range("copy_in", 64, UINT64_MAX, 2, fresh()), HADAL_INVALID,
                 "parts: copy_in: bytes 18446744073709551615 + 2 lie outside a memory of 64");
  hadal_weight_desc desc;
  memset(&desc, 0, sizeof desc);
  desc.size = sizeof desc;
  desc.dtype = HADAL_BF16;
  desc.batch = 2, desc.rows = 3, desc.cols = 8;
  uint64_t bytes = 0;
  expect(hadal_check_weight(&desc, "BF16 F32", &bytes, fresh()) == HADAL_OK && bytes == 96,
         "bytes");
  expect_refusal(hadal_check_weight(&desc, "F32", &bytes, fresh()), HADAL_UNSUPPORTED,
                 "parts: weight [2, 3, 8] BF16: not taken; convert it to one of: F32");
  desc.uses = HADAL_USE_VECTOR;
  expect(hadal_check_weight(&desc, "BF16 F32", &bytes, fresh()) == HADAL_UNSUPPORTED, "a vector");
  desc.uses = HADAL_USE_MATMUL;
  char data[128];
  hadal_memory memory = {data, 96 + 16};
  hadal_piece pieces[2];
  memset(pieces, 0, sizeof pieces);
  pieces[0].memory = pieces[1].memory = &memory;
  pieces[0].rows = 4, pieces[0].row_stride = 24; /* 3 * 24 + 16 bytes */
  pieces[1].rows = 2, pieces[1].row_stride = 16, pieces[1].offset = 80;
  expect(hadal_check_pieces(&desc, 16, pieces, 2, place_of, fresh()) == HADAL_OK, "two pieces");
  ++pieces[1].offset;
  expect_refusal(hadal_check_pieces(&desc, 16, pieces, 2, place_of, fresh()), HADAL_INVALID,
                 "parts: piece of a weight: bytes 81 + 32 lie outside a memory of 112");
  expect_refusal(hadal_check_pieces(&desc, 16, pieces, 1, place_of, fresh()), HADAL_INVALID,
                 "parts: weight [2, 3, 8] BF16: its pieces hold 4 rows, expected 6");
  pieces[0].row_stride = INT64_MAX / 2;
  expect(hadal_check_pieces(&desc, 16, pieces, 1, place_of, fresh()) == HADAL_INVALID, "a wrap");
  desc.scale_dtype = HADAL_F32;
  desc.scale_block_rows = 1, desc.scale_block_cols = 8;
  desc.cols = INT64_MAX / 4;
  expect_refusal(hadal_check_weight(&desc, "BF16", &bytes, fresh()), HADAL_INVALID,
                 "parts: weight [2, 3, 2305843009213693951] BF16, scales F32 by 1 x 8: larger than "
                 "any memory");
  hadal_weight_form forms[3];
  memset(forms, 0, sizeof forms);
  for (int i = 0; i < 3; ++i) forms[i].size = sizeof *forms;
  uint32_t count = 2;
  hadal_plain_forms(HADAL_USE_MATMUL, "BF16 F16 F32", HADAL_NUMERICS_HALF, forms, &count);
  expect(count == 3 && forms[1].dtype == HADAL_F16 && forms[1].numerics == HADAL_NUMERICS_HALF,
         "forms");
  expect(forms[2].dtype == 0, "no more forms than there is room for");
  hadal_plain_forms(HADAL_USE_VECTOR, "BF16 F16 F32", HADAL_NUMERICS_HALF, forms, &count);
  expect(count == 1 && forms[0].dtype == HADAL_F32, "forms of vectors");
}

/* ---- operators and steps ---- */

static hadal_tensor tensor(uint32_t dtype, uint32_t space, int64_t a, int64_t b) {
  hadal_tensor t;
  memset(&t, 0, sizeof t);
  t.dtype = dtype, t.space = space, t.rank = 2;
  t.extents[0] = a, t.extents[1] = b, t.extents[2] = t.extents[3] = 1;
  if (space == HADAL_SPACE_WEIGHT) return t;
  t.strides[1] = hadal_bytes_of(dtype, 1);
  t.strides[0] = t.strides[1] * b;
  return t;
}

static void check_operands(void) {
  hadal_op op;
  memset(&op, 0, sizeof op);
  op.id = HADAL_OP_MATMUL;
  hadal_tensor good[HADAL_MAX_OPERANDS], t[HADAL_MAX_OPERANDS];
  memset(good, 0, sizeof good);
  good[HADAL_MATMUL_X] = tensor(HADAL_F32, HADAL_SPACE_INPUT, 4, 64);
  good[HADAL_MATMUL_W] = tensor(HADAL_Q8_0, HADAL_SPACE_WEIGHT, 32, 64);
  good[HADAL_MATMUL_OUT] = good[HADAL_MATMUL_ADD] = tensor(HADAL_F32, HADAL_SPACE_OUTPUT, 4, 32);
  expect(hadal_check_operands(&op, good, NULL, fresh()) == HADAL_OK, error.text);
#define BROKEN(change, weights, status, text) \
  memcpy(t, good, sizeof t);                  \
  change;                                     \
  expect_refusal(hadal_check_operands(&op, t, weights, fresh()), status, text)
  BROKEN((void)0, "BF16 F32", HADAL_UNSUPPORTED,
         "parts: matmul: w [32, 64] Q8_0: not taken; convert it to one of: BF16 F32");
  BROKEN(t[HADAL_MATMUL_W].space = HADAL_SPACE_NONE, NULL, HADAL_INVALID,
         "parts: matmul: w (absent): expected, and not given");
  BROKEN(t[HADAL_MATMUL_W].space = HADAL_SPACE_INPUT, NULL, HADAL_INVALID,
         "parts: matmul: w [32, 64] Q8_0: expected a weight");
  BROKEN(t[HADAL_MATMUL_X].dtype = HADAL_F16, NULL, HADAL_UNSUPPORTED,
         "parts: matmul: x [4, 64] F16: not taken; convert it to one of: F32");
  BROKEN(t[HADAL_MATMUL_W].extents[1] = 96, NULL, HADAL_INVALID,
         "parts: matmul: w [32, 96] Q8_0: K is 96, expected 64 as in the operands before");
  BROKEN(t[HADAL_MATMUL_W].rank = 3, NULL, HADAL_UNSUPPORTED,
         "parts: matmul: w [32, 64, 1] Q8_0: the shape is not [N, K] or [B, N, K], with one rank "
         "for all");
  BROKEN(t[HADAL_MATMUL_ADD].extents[0] = 5, NULL, HADAL_INVALID,
         "parts: matmul: add [5, 32] F32: expected the shape of out");
  BROKEN(t[HADAL_MATMUL_X].row_dim = HADAL_DIM_COUNT, NULL, HADAL_INVALID,
         "parts: matmul: x [4, 64] F32: no such space, rank or row count");
  BROKEN(t[HADAL_MATMUL_X].strides[0] = -4, NULL, HADAL_INVALID,
         "parts: matmul: x [4, 64] F32: expected no negative extent or stride, and of a plane none "
         "of 0");
  BROKEN(op.id = 9999, NULL, HADAL_UNSUPPORTED,
         "parts: operator 9999: unknown to this chip: choose another chip");
  op.id = HADAL_OP_ROPE;
  memset(t, 0, sizeof t);
  t[HADAL_ROPE_X] = tensor(HADAL_F32, HADAL_SPACE_INPUT, 4, 2);
  t[HADAL_ROPE_X].rank = 3, t[HADAL_ROPE_X].extents[2] = 8, t[HADAL_ROPE_X].strides[2] = 4;
  t[HADAL_ROPE_POSITION] = tensor(HADAL_I32, HADAL_SPACE_INPUT, 4, 1);
  t[HADAL_ROPE_POSITION].rank = 1;
  t[HADAL_ROPE_INV_FREQ] = tensor(HADAL_F32, HADAL_SPACE_WEIGHT, 4, 1);
  t[HADAL_ROPE_INV_FREQ].rank = 1;
  op.attr.rope.dims = 8, op.attr.rope.ratio = 1;
  expect(hadal_check_operands(&op, t, NULL, fresh()) == HADAL_OK, error.text);
  op.attr.rope.first = 2;
  expect_refusal(hadal_check_operands(&op, t, NULL, fresh()), HADAL_INVALID,
                 "parts: rope: x [4, 2, 8] F32: dims must be even and lie inside a head");
}

static void check_steps(void) {
  hadal_tape tape;
  hadal_step step;
  hadal_op op;
  hadal_tensor t = tensor(HADAL_F32, HADAL_SPACE_INPUT, 1, 8), operands[HADAL_MAX_OPERANDS];
  memset(&tape, 0, sizeof tape);
  memset(&step, 0, sizeof step);
  memset(&op, 0, sizeof op);
  tape.op_count = 3, tape.tensor_count = 1, tape.tensors = &t, tape.limits[HADAL_DIM_T] = 4;
  step.rows[HADAL_DIM_T] = 4, step.rows[HADAL_DIM_CONST] = 1;
  expect(hadal_check_step(&tape, 1, 2, &step, fresh()) == HADAL_OK, "the last operators");
  expect_refusal(hadal_check_step(&tape, 1, UINT32_MAX, &step, fresh()), HADAL_INVALID,
                 "parts: operators 1 + 4294967295 of a tape of 3");
  step.rows[HADAL_DIM_T] = 5;
  expect_refusal(hadal_check_step(&tape, 0, 1, &step, fresh()), HADAL_INVALID,
                 "parts: the step brings 5 rows, the tape's limit is 4");
  const volatile int32_t stop = 1;
  expect(!hadal_stop_asked(&step), "no flag");
  step.stop = &stop;
  expect(hadal_stop_asked(&step), "a flag");
  op.id = HADAL_OP_ADD;
  for (int i = 0; i < HADAL_MAX_OPERANDS; ++i) op.operands[i] = -1;
  op.operands[HADAL_ADD_Y] = 1;
  expect_refusal(hadal_gather_operands(&tape, &op, operands, fresh()), HADAL_INVALID,
                 "parts: add: y (absent): it is tensor 1 of a tape of 1");
  op.operands[HADAL_ADD_Y] = 0, op.operands[HADAL_ADD_OPERANDS] = 7;
  expect(hadal_gather_operands(&tape, &op, operands, fresh()) == HADAL_OK, error.text);
  expect(operands[HADAL_ADD_Y].rank == 2 && operands[HADAL_ADD_X].rank == 0, "operands of a tape");
}

/* ---- views ---- */

static void check_views(void) {
  char data[256];
  hadal_memory inputs = {data, 8 + 3 * 40 + 32}, *planes[] = {&inputs};
  hadal_step step;
  memset(&step, 0, sizeof step);
  step.rows[HADAL_DIM_CONST] = 1, step.rows[HADAL_DIM_T] = 4;
  step.inputs = &inputs, step.planes = planes, step.plane_count = 1;
  hadal_tensor t[HADAL_MAX_OPERANDS];
  memset(t, 0, sizeof t);
  t[0] = tensor(HADAL_F32, HADAL_SPACE_INPUT, 1, 8);
  t[0].row_dim = HADAL_DIM_T, t[0].offset = 8, t[0].strides[0] = 40; /* ends with the memory */
  hadal_view v[HADAL_MAX_OPERANDS];
  hadal_op op;
  memset(&op, 0, sizeof op);
  op.id = HADAL_OP_ADD;
  expect(hadal_view_operands(&op, t, &step, place_of, v, fresh()) == HADAL_OK, error.text);
  expect(v[0].n[0] == 4 && v[0].n[2] == 1 && v[0].data == data + 8, "the view of an input");
  expect(v[1].rank == 0 && !v[1].data, "the view of what is absent");
  --inputs.bytes;
  expect_refusal(hadal_view_operands(&op, t, &step, place_of, v, fresh()), HADAL_INVALID,
                 "parts: add: x [1, 8] F32: it does not lie inside a memory of the step");
  ++inputs.bytes;
  t[0].offset = UINT64_MAX - 4;
  expect(!hadal_make_view(&t[0], &step, place_of(&inputs), v), "an offset that wraps");
  t[0].offset = 8, t[0].strides[0] = INT64_MAX / 2;
  expect(!hadal_make_view(&t[0], &step, place_of(&inputs), v), "a span that wraps");
  t[0].extents[0] = INT64_MAX / 2, t[0].strides[0] = 0;
  expect(!hadal_make_view(&t[0], &step, place_of(&inputs), v), "rows that wrap");
  step.inputs = NULL, t[0].extents[0] = 0;
  expect(hadal_view_operands(&op, t, &step, place_of, v, fresh()) == HADAL_OK,
         "no rows, no memory");

  hadal_tensor plane = tensor(HADAL_F16, HADAL_SPACE_PLANE, 9, 2);
  plane.rank = 3, plane.extents[2] = 16;
  plane.strides[0] = 64, plane.strides[1] = 32, plane.strides[2] = 2;
  expect(hadal_make_view(&plane, &step, place_of(hadal_memory_of(&plane, &step)), v), "a plane");
  expect(v[0].n[0] == 2, "as many blocks as the memory holds");
  plane.index = 1;
  expect(!hadal_memory_of(&plane, &step), "a plane that the step does not bring");
  int32_t blocks[] = {1, -1, -7, 2};
  hadal_tensor table = tensor(HADAL_I32, HADAL_SPACE_INPUT, 1, 4);
  hadal_place place;
  place.data = blocks, place.bytes = sizeof blocks;
  expect(hadal_make_view(&table, &step, place, &v[1]), "a block table");
  expect(hadal_block_of(&v[0], &v[1], 0, 1) == 1, "a block");
  expect(hadal_block_of(&v[0], &v[1], 0, 2) == -1, "a block that is not mapped");
  expect(hadal_block_of(&v[0], &v[1], 0, 4) == -2, "a block that cannot be");
  expect(hadal_block_of(&v[0], &v[1], 0, 6) == -2, "a block that the plane does not have");
  expect(hadal_block_of(&v[0], &v[1], 0, 8) == -2, "a position beyond the table");
  expect(hadal_block_of(&v[0], &v[1], 0, -1) == -2, "a position before it");
  expect(hadal_slot_of(&v[0], &v[1], 0, 1, 3) == data + 64 + 32 + 6, "a slot");
}

/* ---- numbers ---- */

static float next_to(float value, uint32_t step) { /* away from 0 */
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bits += step;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void check_numbers(void) {
  int wrong = 0;
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const uint32_t exponent = h >> 10 & 31, sign = h & 0x8000u;
    const float value = hadal_f16_to_f32((uint16_t)h);
    if (exponent == 31 && (h & 1023) != 0) {
      wrong += value == value || (hadal_f32_to_f16(value) & 0x7fffu) <= 0x7c00u;
      continue;
    }
    wrong += hadal_f32_to_f16(value) != h;
    if (exponent == 31) continue;
    /* halfway to the next one (behind the last, 65536 is none): the even one */
    const float above = exponent == 30 && (h & 1023) == 1023 ? (sign ? -65536.0f : 65536.0f)
                                                             : hadal_f16_to_f32((uint16_t)(h + 1));
    const float middle = value + (above - value) / 2;
    wrong += hadal_f32_to_f16(middle) != (h % 2 == 0 ? h : h + 1);
    wrong += hadal_f32_to_f16(next_to(middle, 1)) != h + 1;
    wrong += hadal_f32_to_f16(next_to(middle, UINT32_MAX)) != h;
  }
  expect(wrong == 0, "halves are rounded to nearest, ties to even");
  const float values[] = {1.0f, -2.5f, 65520.0f, 1.00390625f /* halfway in bf16 */};
  unsigned char bytes[1 + 8];
  float back[4];
  hadal_store(HADAL_F16, values, 4, bytes + 1);
  hadal_load(HADAL_F16, bytes + 1, 4, back);
  expect(back[0] == 1.0f && back[1] == -2.5f && back[2] > 3e38f, "through halves");
  hadal_store(HADAL_BF16, values, 4, bytes + 1);
  hadal_load(HADAL_BF16, bytes + 1, 4, back);
  expect(back[1] == -2.5f && back[2] == 65536.0f && back[3] == 1.0f, "through bf16");
  const uint16_t nan = hadal_f32_to_bf16(hadal_f16_to_f32(0x7c01));
  expect(hadal_bf16_to_f32(nan) != hadal_bf16_to_f32(nan), "NaN stays NaN");
}

int main(void) {
  check_errors();
  check_names();
  check_opening();
  check_weights();
  check_operands();
  check_steps();
  check_views();
  check_numbers();
  printf("%d faults\n", faults);
  return faults != 0;
}
