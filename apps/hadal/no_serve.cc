// hadal serve, where the program was built without Boost: it says so.
#include <memory>

#include "command.h"

namespace hadal::app {

void add_serve(CLI::App& app, Run& chosen, std::vector<std::string> /*arguments*/) {
  CLI::App* c = app.add_subcommand("serve", "not in this build: it needs Boost 1.81 or later");
  c->allow_extras();
  c->callback([&chosen] {
    chosen = [](Output&) -> Status {
      return usage_error(
          "serve: this program was built without Boost 1.81 or later, which it needs; install "
          "libboost1.81-dev (or later) and build again");
    };
  });
}

}  // namespace hadal::app
