#include "world.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "command.h"
#include "device/world.h"

namespace hadal::app {
namespace {

std::unique_ptr<Communicator>& joined() {
  static std::unique_ptr<Communicator> communicator;
  return communicator;
}

/// What the launcher says of this process.
int64_t launched(const char* variable, int64_t alone) {
  const char* said = std::getenv(variable);
  return said ? std::atoll(said) : alone;
}

/// While it lives, threads are started that leave all signals to the program's own.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_{};
};

/// How many processes the launcher started.
int64_t started_together() { return launched("OMPI_COMM_WORLD_SIZE", 1); }

}  // namespace

Status join_others() {
  if (joined() || started_together() <= 1) return {};
  {
    const SignalsHeld held;  // a server takes them in a thread of its own, which is not there yet
    HADAL_TRY(joined(), join_world("mpi", chip_folders()));
  }
  if (joined()->rank() == 0) return {};
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0 || ::dup2(nowhere, STDOUT_FILENO) < 0)
    return failed("/dev/null cannot be opened");
  ::close(nowhere);
  return {};
}

Communicator* world() { return joined().get(); }

void let_rank_0_speak() {
  if (!joined() && launched("OMPI_COMM_WORLD_RANK", 0) > 0)
    std::this_thread::sleep_for(std::chrono::seconds(2));
}

Status leave_others() { return joined() ? send_leave(*joined()) : Status(); }

void follow_and_end(const std::function<Result<RankModel>()>& open) {
  const Status followed = follow_rank_0(*joined(), open);
  if (!followed) joined()->abort(followed.error().message);
  std::fflush(nullptr);
  std::_Exit(0);
}

}  // namespace hadal::app
