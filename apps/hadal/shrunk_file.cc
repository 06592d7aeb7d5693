#include "shrunk_file.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

#include "base/file.h"

namespace hadal::app {
namespace {

void put(const char* text) { (void)!::write(STDERR_FILENO, text, std::strlen(text)); }

// Only what is safe in a signal handler.
void on_bus_error(int number, siginfo_t* info, void*) {
  if (const char* path = mapped_path_at(info->si_addr)) {
    put("hadal: ");
    put(path);
    put(": became shorter, or cannot be read any more, while it was in use; put the whole file in "
        "its "
        "place and start again\n");
    ::_exit(1);
  }
  std::signal(number, SIG_DFL);
  std::raise(number);
}

}  // namespace

void name_shrunk_files() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace hadal::app
