// libhadal_comm_mpi.so: the processes that `mpirun` of Open MPI started, as one world
// (hadal/comm.h).
//
// Open MPI's library is opened when it is asked for, so that a machine without it can have this
// file; what its header calls MPI_COMM_WORLD and the like are data of that library, found by name.
// Refuses a process that mpirun did not start, and a library that several threads may not use.
// Sums are made here, in the ascending order of the ranks: MPI promises no order.
#include <dlfcn.h>
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "hadal/comm.h"

#ifndef OPEN_MPI
#error "this plug-in speaks Open MPI"
#endif

namespace {

/// Numbers that one round of a sum takes, and bytes of a broadcast: MPI counts in int.
constexpr uint64_t kRun = uint64_t{1} << 24;

/// What is used of the library, under its own names.
struct Library {
  decltype(&::MPI_Init_thread) Init_thread;
  decltype(&::MPI_Finalize) Finalize;
  decltype(&::MPI_Abort) Abort;
  decltype(&::MPI_Comm_rank) Comm_rank;
  decltype(&::MPI_Comm_size) Comm_size;
  decltype(&::MPI_Comm_set_errhandler) Comm_set_errhandler;
  decltype(&::MPI_Error_string) Error_string;
  decltype(&::MPI_Alltoallv) Alltoallv;
  decltype(&::MPI_Allgatherv) Allgatherv;
  decltype(&::MPI_Bcast) Bcast;
  decltype(&::MPI_Barrier) Barrier;
  MPI_Comm world;
  MPI_Datatype floats, bytes;
  MPI_Errhandler errors_return;
};

struct State {
  Library mpi{};
  std::vector<float> received;  ///< of each rank, the numbers that are summed here
  std::vector<int> counts, at, own_counts, own_at;
};

hadal_status report(hadal_error* error, hadal_status status, const std::string& text) {
  if (error) std::snprintf(error->text, sizeof error->text, "%s", text.c_str());
  return status;
}

/// The name that could not be found; empty if all were.
std::string load(void* from, Library& to) {
  std::string missing;
  const auto find = [&](const char* name, auto& slot) {
    slot = reinterpret_cast<std::decay_t<decltype(slot)>>(::dlsym(from, name));
    if (!slot) missing = name;
  };
  find("MPI_Init_thread", to.Init_thread);
  find("MPI_Finalize", to.Finalize);
  find("MPI_Abort", to.Abort);
  find("MPI_Comm_rank", to.Comm_rank);
  find("MPI_Comm_size", to.Comm_size);
  find("MPI_Comm_set_errhandler", to.Comm_set_errhandler);
  find("MPI_Error_string", to.Error_string);
  find("MPI_Alltoallv", to.Alltoallv);
  find("MPI_Allgatherv", to.Allgatherv);
  find("MPI_Bcast", to.Bcast);
  find("MPI_Barrier", to.Barrier);
  find("ompi_mpi_comm_world", to.world);
  find("ompi_mpi_float", to.floats);
  find("ompi_mpi_byte", to.bytes);
  find("ompi_mpi_errors_return", to.errors_return);
  return missing;
}

State& state(hadal_world* world) { return *static_cast<State*>(world->context); }

/// HADAL_OK, or MPI's own words for the code.
hadal_status check(const Library& mpi, int code, const char* what, hadal_error* error) {
  if (code == MPI_SUCCESS) return HADAL_OK;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (mpi.Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
  return report(error, HADAL_DEVICE_FAILED,
                std::string(what) + ": " +
                    (length > 0 ? std::string(text, static_cast<size_t>(length))
                                : "error " + std::to_string(code)));
}

/// Where each rank's share of `count` numbers lies.
void divide(std::vector<int>& counts, std::vector<int>& at, uint64_t count, size_t ranks) {
  counts.resize(ranks);
  at.resize(ranks);
  for (size_t r = 0; r < ranks; ++r) {
    at[r] = static_cast<int>(count * r / ranks);
    counts[r] = static_cast<int>(count * (r + 1) / ranks) - at[r];
  }
}

/// One round of at most kRun numbers: each rank gets its share of all of them, adds, and gives the
/// sums to all.
hadal_status sum(hadal_world* world, float* values, uint64_t count, hadal_error* error) try {
  State& s = state(world);
  const Library& mpi = s.mpi;
  const auto ranks = static_cast<size_t>(world->ranks), rank = static_cast<size_t>(world->rank);
  divide(s.counts, s.at, count, ranks);
  const auto own = static_cast<size_t>(s.counts[rank]);
  s.own_counts.assign(ranks, s.counts[rank]);
  s.own_at.resize(ranks);
  for (size_t r = 0; r < ranks; ++r) s.own_at[r] = static_cast<int>(r * own);
  if (s.received.size() < std::max<size_t>(1, own * ranks))
    s.received.resize(std::max<size_t>(1, own * ranks));
  if (const hadal_status status =
          check(mpi,
                mpi.Alltoallv(values, s.counts.data(), s.at.data(), mpi.floats, s.received.data(),
                              s.own_counts.data(), s.own_at.data(), mpi.floats, mpi.world),
                "MPI_Alltoallv", error);
      status != HADAL_OK)
    return status;
  float* to = s.received.data();
  for (size_t r = 1; r < ranks; ++r)
    for (size_t i = 0; i < own; ++i) to[i] += s.received[r * own + i];
  return check(mpi,
               mpi.Allgatherv(to, s.counts[rank], mpi.floats, values, s.counts.data(), s.at.data(),
                              mpi.floats, mpi.world),
               "MPI_Allgatherv", error);
} catch (const std::bad_alloc&) {
  return report(error, HADAL_OUT_OF_MEMORY, "no memory for the numbers of all ranks");
}

hadal_status all_reduce(hadal_world* world, float* values, uint64_t count, hadal_error* error) {
  for (uint64_t done = 0; done < count; done += kRun)
    if (const hadal_status status = sum(world, values + done, std::min(kRun, count - done), error);
        status != HADAL_OK)
      return status;
  return HADAL_OK;
}

hadal_status broadcast(hadal_world* world, void* bytes, uint64_t count, hadal_error* error) {
  const Library& mpi = state(world).mpi;
  for (uint64_t done = 0; done < count; done += kRun) {
    const int code =
        mpi.Bcast(static_cast<char*>(bytes) + done, static_cast<int>(std::min(kRun, count - done)),
                  mpi.bytes, 0, mpi.world);
    if (const hadal_status status = check(mpi, code, "MPI_Bcast", error); status != HADAL_OK)
      return status;
  }
  return HADAL_OK;
}

hadal_status barrier(hadal_world* world, hadal_error* error) {
  const Library& mpi = state(world).mpi;
  return check(mpi, mpi.Barrier(mpi.world), "MPI_Barrier", error);
}

void end(hadal_world* world, const char* why) {
  std::fprintf(stderr, "hadal: rank %d of %d ends the run: %s\n", static_cast<int>(world->rank),
               static_cast<int>(world->ranks), why);
  std::fflush(stderr);
  const Library& mpi = state(world).mpi;
  mpi.Abort(mpi.world, 1);
  std::_Exit(1);
}

void close(hadal_world* world) {
  State* s = &state(world);
  s->mpi.Finalize();
  delete s;
  world->context = nullptr;
}

hadal_status join(State& s, hadal_world* out, hadal_error* error) {
  void* library = ::dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL);
  if (!library) library = ::dlopen("libmpi.so", RTLD_NOW | RTLD_GLOBAL);
  if (!library)
    return report(error, HADAL_UNSUPPORTED,
                  std::string("Open MPI is not there: ") + ::dlerror() + " (package openmpi-bin)");
  Library& mpi = s.mpi;
  if (const std::string missing = load(library, mpi); !missing.empty())
    return report(error, HADAL_UNSUPPORTED,
                  "the library libmpi.so lacks " + missing + ": Open MPI 4 is known");
  int threads = MPI_THREAD_SINGLE, rank = 0, ranks = 0;
  if (const hadal_status status =
          check(mpi, mpi.Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &threads),
                "MPI_Init_thread", error);
      status != HADAL_OK)
    return status;
  if (threads < MPI_THREAD_SERIALIZED)
    return report(error, HADAL_UNSUPPORTED,
                  "this MPI may be called by its first thread alone (thread level " +
                      std::to_string(threads) + "), the engine has one of its own");
  for (const auto& [code, what] :
       {std::pair{mpi.Comm_set_errhandler(mpi.world, mpi.errors_return), "MPI_Comm_set_errhandler"},
        std::pair{mpi.Comm_rank(mpi.world, &rank), "MPI_Comm_rank"},
        std::pair{mpi.Comm_size(mpi.world, &ranks), "MPI_Comm_size"}})
    if (const hadal_status status = check(mpi, code, what, error); status != HADAL_OK)
      return status;
  out->rank = rank;
  out->ranks = ranks;
  return HADAL_OK;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) hadal_status
hadal_world_query(uint32_t abi, hadal_world* out, hadal_error* error) try {
  if (abi >> 16 != HADAL_WORLD_ABI_MAJOR || out->size < sizeof(hadal_world))
    return report(error, HADAL_UNSUPPORTED, "it speaks version 1 of hadal/comm.h");
  if (!std::getenv("OMPI_COMM_WORLD_SIZE"))
    return report(error, HADAL_UNSUPPORTED,
                  "this process was not started by mpirun of Open MPI: mpirun -n 2 hadal …");
  auto s = std::make_unique<State>();
  if (const hadal_status status = join(*s, out, error); status != HADAL_OK) return status;
  out->abi = HADAL_WORLD_ABI;
  out->close = close;
  out->context = s.release();
  std::snprintf(out->name, sizeof out->name, "mpi");
  out->all_reduce = all_reduce;
  out->broadcast = broadcast;
  out->barrier = barrier;
  out->abort = end;
  return HADAL_OK;
} catch (const std::bad_alloc&) {
  return report(error, HADAL_OUT_OF_MEMORY, "no memory left");
}
