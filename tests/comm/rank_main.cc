// One rank of run_mpi.py: joins, sums, and ends as the first argument says.
//
//   comm_rank PLUGIN sum | abort | gone | killed
//
// Prints a line "rank R of N: …" for what it did. The last rank is the one that goes wrong.
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "device/world.h"

namespace {

float number(int64_t rank, size_t i) {
  return std::ldexp(
      1.0f + static_cast<float>((static_cast<size_t>(rank) * 7919 + i * 104729) % 1000) / 1024.0f,
      static_cast<int>((static_cast<size_t>(rank) * 5 + i) % 13) - 6);
}

hadal::Status sum(hadal::Communicator& c) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{7}, size_t{5000}, (size_t{1} << 24) + 3}) {
    std::vector<float> values(n);
    for (size_t i = 0; i < n; ++i) values[i] = number(c.rank(), i);
    HADAL_TRY(c.all_reduce(values));
    for (size_t i = 0; i < n; ++i) {
      float expected = number(0, i);
      for (int64_t r = 1; r < c.ranks(); ++r) expected += number(r, i);
      if (values[i] != expected)
        return hadal::failed("number " + std::to_string(i) + " of " + std::to_string(n) + " is " +
                             std::to_string(values[i]) + ", expected " + std::to_string(expected));
    }
  }
  std::vector<int32_t> tokens(3, c.rank() == 0 ? 42 : -1);
  HADAL_TRY(c.broadcast(std::as_writable_bytes(std::span(tokens))));
  if (tokens != std::vector<int32_t>(3, 42)) return hadal::failed("a broadcast did not come");
  return c.barrier();
}

hadal::Status run(hadal::Communicator& c, std::string_view how) {
  const bool wrong = c.rank() == c.ranks() - 1;
  std::vector<float> values(1000, 1.0f);
  HADAL_TRY(c.all_reduce(values));
  if (how == "sum") {
    HADAL_TRY(sum(c));
    std::printf("rank %d of %d: the sums are right\n", static_cast<int>(c.rank()),
                static_cast<int>(c.ranks()));
    return c.leave();
  }
  if (wrong && how == "abort") c.abort("no memory for its part of the model");
  if (wrong && how == "gone") return {};
  if (wrong && how == "killed") {
    std::printf("rank %d kills itself\n", static_cast<int>(c.rank()));
    std::fflush(stdout);
    ::kill(::getpid(), SIGKILL);
  }
  // The others wait in a sum that never comes.
  HADAL_TRY(c.all_reduce(values));
  return hadal::failed("a sum without one of the ranks came back");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto joined = hadal::join_world(argv[1], {});
  if (!joined) {
    std::fprintf(stderr, "%s\n", joined.error().message.c_str());
    return 1;
  }
  // An engine's thread is not the first of its process, either.
  hadal::Status status;
  std::thread([&] { status = run(**joined, argv[2]); }).join();
  if (!status) {
    (*joined)->abort(status.error().message);
    return 1;
  }
  return 0;
}
