/* How processes that run one model in parts speak to each other: what a plug-in such as
 * libhadal_comm_mpi.so gives. C11; nothing but C crosses it. The rules of hadal/chip.h hold:
 * structs begin with their size, fields are only appended, nothing throws, and a function that
 * fails says why in a hadal_error.
 *
 * All ranks call the same functions in the same order with the same counts, one thread at a time,
 * not always the same one. A call returns when its result is there. After an error of any rank the
 * group is of no use: whoever meets one says so by abort(), and no other rank may be left waiting.
 */
#ifndef HADAL_COMM_H
#define HADAL_COMM_H

#include "hadal/chip.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HADAL_WORLD_ABI_MAJOR 1u
#define HADAL_WORLD_ABI_MINOR 0u
#define HADAL_WORLD_ABI ((HADAL_WORLD_ABI_MAJOR << 16) | HADAL_WORLD_ABI_MINOR)

/* The processes of a run. */
typedef struct hadal_world {
  uint32_t size;
  uint32_t abi; /* the highest minor that both sides know */
  /* Every rank has done its part: waits for the others. */
  void (*close)(struct hadal_world*);
  void* context;
  char name[32];
  int32_t rank; /* 0 to ranks - 1 */
  int32_t ranks;
  /* values <- the sums of the values of all ranks, added in fp32 in the ascending order of the
   * ranks: the same bits everywhere. */
  hadal_status (*all_reduce)(struct hadal_world*, float* values, uint64_t count, hadal_error*);
  /* bytes <- those of rank 0. */
  hadal_status (*broadcast)(struct hadal_world*, void* bytes, uint64_t count, hadal_error*);
  hadal_status (*barrier)(struct hadal_world*, hadal_error*);
  /* Says on stderr which rank ends the run and why, in one line, and ends all ranks. Does not
   * return. */
  void (*abort)(struct hadal_world*, const char* why);
} hadal_world;

/* The one exported symbol, hadal_world_query. `abi`: the host's; out->size: what the host knows.
 * HADAL_UNSUPPORTED: another major version, or the process was not started as one of several; with
 * a text. Joins the group: may be called once in a process. */
typedef hadal_status (*hadal_world_query_fn)(uint32_t abi, hadal_world* out, hadal_error*);

#ifdef __cplusplus
}
#endif
#endif
