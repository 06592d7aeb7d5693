/* A chip that can do nothing but be loaded: for device_test. C, as a plug-in may be.
 * HADAL_TESTING_CHIP says what is wrong with it. */
#include <stdlib.h>
#include <string.h>

#include "hadal/chip.h"

static const hadal_host* host;

static int is(const char* fault) {
  const char* chosen = getenv("HADAL_TESTING_CHIP");
  return chosen && strcmp(chosen, fault) == 0;
}

static hadal_status fail(hadal_error* error, hadal_status status, const char* text) {
  if (error) strncpy(error->text, text, sizeof error->text - 1);
  return status;
}

static int begins(const char* version) {
  const char* chosen = getenv("HADAL_TESTING_CHIP");
  return chosen && strncmp(chosen, version, strlen(version)) == 0;
}

/* Copies what a chip of 1.2 fills, whose structs are longer than ours, as far as the host knows. */
static void fill_sized(void* to, const void* from, size_t size) {
  uint32_t known;
  memcpy(&known, to, sizeof known);
  memcpy(to, from, size < known ? size : known);
  memcpy(to, &known, sizeof known);
}

struct hadal_device {
  int unused;
};
static hadal_device the_device;

static void close_chip(hadal_chip* chip) { (void)chip; }
static int32_t device_count(hadal_chip* chip) {
  (void)chip;
  return is("no device") ? 0 : 1;
}
static hadal_status device_open(hadal_chip* chip, int32_t index,
                                const hadal_device_options* options, hadal_device** out,
                                hadal_error* error) {
  (void)chip, (void)index;
  if (is("crash when opened")) abort();
  for (uint32_t i = 0; i < options->option_count; ++i)
    if (strcmp(options->option_names[i], "speed") != 0)
      return fail(error, HADAL_INVALID, "there is only the option speed");
  host->log(host->context, HADAL_LOG_INFO, "a device was opened");
  host->log(host->context, HADAL_LOG_WARNING, "the fan is loud");
  *out = &the_device;
  return HADAL_OK;
}
static void device_close(hadal_device* device) { (void)device; }
static hadal_status device_info(hadal_device* device, hadal_device_info* out) {
  struct {
    hadal_device_info now;
    char more[200];
  } info;
  (void)device;
  memset(&info, begins("1.2") ? 0x5a : 0, sizeof info); /* the tail is not for today's host */
  memset(&info.now, 0, sizeof info.now);
  strcpy(info.now.name, "testing");
  info.now.alignment = is("alignment") || is("1.0 alignment") ? 48 : 256;
  fill_sized(out, &info,
             begins("1.2")   ? sizeof info
             : begins("1.0") ? offsetof(hadal_device_info, kernels_version)
                             : sizeof info.now);
  if (is("info size")) memset((char*)out + out->size, 1, 8);
  return HADAL_OK;
}
static hadal_status mem_alloc(hadal_device* d, uint64_t n, hadal_memory** out, hadal_error* error) {
  (void)d, (void)n;
  *out = NULL;
  return fail(error, HADAL_OUT_OF_MEMORY, "this chip has no memory");
}
static hadal_status mem_import(hadal_device* d, const void* data, uint64_t n, hadal_memory** out,
                               hadal_error* error) {
  (void)data;
  return mem_alloc(d, n, out, error);
}
static void mem_free(hadal_memory* m) { (void)m; }
static void* mem_host(hadal_memory* m) { return (void)m, NULL; }
static hadal_status copy_in(hadal_queue* q, hadal_memory* to, uint64_t at, const void* from,
                            uint64_t n, hadal_error* e) {
  return (void)q, (void)to, (void)at, (void)from, (void)n, (void)e, HADAL_OK;
}
static hadal_status copy_out(hadal_queue* q, void* to, hadal_memory* from, uint64_t at, uint64_t n,
                             hadal_error* e) {
  return (void)q, (void)to, (void)from, (void)at, (void)n, (void)e, HADAL_OK;
}
static hadal_status copy(hadal_queue* q, hadal_memory* to, uint64_t at, hadal_memory* from,
                         uint64_t from_at, uint64_t n, hadal_error* e) {
  return (void)q, (void)to, (void)at, (void)from, (void)from_at, (void)n, (void)e, HADAL_OK;
}
static hadal_status fill(hadal_queue* q, hadal_memory* m, uint64_t at, uint64_t n, uint8_t value,
                         hadal_error* e) {
  return (void)q, (void)m, (void)at, (void)n, (void)value, (void)e, HADAL_OK;
}
static hadal_status queue_create(hadal_device* d, hadal_queue** out, hadal_error* e) {
  *out = NULL;
  return (void)d, (void)e, HADAL_OK;
}
static void queue_destroy(hadal_queue* q) { (void)q; }
static hadal_status queue_sync(hadal_queue* q, hadal_error* e) {
  return (void)q, (void)e, HADAL_OK;
}
static hadal_status weight_bytes(hadal_device* d, const hadal_weight_desc* desc, uint64_t* bytes,
                                 hadal_error* error) {
  (void)d;
  *bytes = 0;
  return desc->dtype == HADAL_F32 ? HADAL_OK : fail(error, HADAL_UNSUPPORTED, "only F32 is taken");
}
static hadal_status weight_create(hadal_device* d, const hadal_weight_desc* desc,
                                  const hadal_piece* pieces, uint32_t n, hadal_weight** out,
                                  hadal_error* error) {
  (void)d, (void)desc, (void)pieces, (void)n, (void)out;
  return fail(error, HADAL_OUT_OF_MEMORY, "this chip has no memory");
}
static void weight_destroy(hadal_weight* w) { (void)w; }
static hadal_status op_query(hadal_device* d, const hadal_op* op, const hadal_tensor* t,
                             const int64_t* limits, uint64_t* workspace, hadal_error* error) {
  (void)d, (void)t, (void)limits;
  *workspace = 4096;
  if (op->id == HADAL_OP_ADD) return HADAL_OK;
  return is("no reason") ? HADAL_UNSUPPORTED : fail(error, HADAL_UNSUPPORTED, "only add is taken");
}
static hadal_status op_run(hadal_queue* q, const hadal_tape* t, uint32_t first, uint32_t n,
                           const hadal_step* s, hadal_error* e) {
  return (void)q, (void)t, (void)first, (void)n, (void)s, (void)e, HADAL_OK;
}

static hadal_status op_support(hadal_device* d, const hadal_op* op, const hadal_tensor* t,
                               const int64_t* limits, hadal_op_answer* out, hadal_error* error) {
  struct {
    hadal_op_answer now;
    uint64_t more[4];
  } answer;
  hadal_status status;
  memset(&answer, 0x5a, sizeof answer);
  memset(&answer.now, 0, sizeof answer.now);
  answer.now.numerics = HADAL_NUMERICS_BLOCK8;
  answer.now.block = 256;
  status = op_query(d, op, t, limits, &answer.now.workspace_bytes, error);
  fill_sized(out, &answer, begins("1.2") ? sizeof answer : sizeof answer.now);
  return status;
}
static hadal_status weight_forms(hadal_device* d, uint32_t use, hadal_weight_form* forms,
                                 uint32_t* count, hadal_error* error) {
  (void)d, (void)error;
  if (*count > 0) forms[0].dtype = use == HADAL_USE_VECTOR ? HADAL_F32 : HADAL_BF16;
  *count = 1;
  return HADAL_OK;
}
static hadal_status plane_bytes(hadal_device* d, const hadal_plane_desc* desc, uint64_t* bytes,
                                hadal_error* error) {
  (void)d;
  if (desc->dtype == HADAL_F32)
    return fail(error, HADAL_UNSUPPORTED, "a cache of F32 is too large");
  *bytes = is("plane bytes") ? 1000 : 4096;
  return HADAL_OK;
}

HADAL_TESTING_EXPORT hadal_status hadal_chip_query(const hadal_host* from, uint32_t abi,
                                                   hadal_chip* out) {
  const uint32_t size = out->size;
  hadal_chip chip;
  struct {
    hadal_chip now;
    void* more[16];
  } newer;
  host = from;
  if (is("crash")) abort();
  if (is("other major")) {
    if (from->query_error)
      strcpy(from->query_error->text, "built for contract 9.0, of the year 2040");
    return HADAL_UNSUPPORTED;
  }
  memset(&chip, 0, sizeof chip);
  chip.abi = HADAL_ABI;
  strcpy(chip.name, "testing");
  chip.close = close_chip;
  chip.device_count = device_count;
  chip.device_open = device_open;
  chip.device_close = device_close;
  chip.device_info = device_info;
  chip.mem_alloc = mem_alloc;
  chip.mem_import = mem_import;
  chip.mem_free = mem_free;
  chip.mem_host = mem_host;
  chip.copy_in = copy_in;
  chip.copy_out = copy_out;
  chip.copy = copy;
  chip.fill = fill;
  chip.queue_create = queue_create;
  chip.queue_destroy = queue_destroy;
  chip.queue_sync = queue_sync;
  chip.weight_bytes = weight_bytes;
  chip.weight_create = weight_create;
  chip.weight_destroy = weight_destroy;
  chip.op_query = op_query;
  chip.op_run = is("no op_run") ? NULL : op_run;
  chip.op_support = op_support;
  chip.weight_forms = weight_forms;
  chip.plane_bytes = plane_bytes;
  if (begins("1.0")) {
    chip.abi = 1u << 16;
    memcpy(out, &chip, offsetof(hadal_chip, op_support));
  } else if (begins("1.2")) {
    chip.abi = is("1.2 unasked") || abi > (1u << 16 | 2u) ? 1u << 16 | 2u : abi;
    memset(&newer, 0x5a, sizeof newer);
    newer.now = chip;
    memcpy(out, &newer, sizeof newer < size ? sizeof newer : size);
  } else {
    memcpy(out, &chip, sizeof chip < size ? sizeof chip : size);
  }
  out->size = size;
  if (is("table size")) memset((char*)out + size, 1, 8);
  return HADAL_OK;
}
