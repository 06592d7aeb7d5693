// The part of Engine that changes adapters between two steps.
#include <algorithm>

#include "checkpoint/printable.h"
#include "engine/engine.h"

namespace hadal {
namespace {

bool stays(const std::vector<NamedAdapter>& now, const std::vector<NamedAdapter>& next,
           size_t number) {
  return number < next.size() && next[number] == now[number];
}

}  // namespace

Status Engine::set_adapters(std::vector<NamedAdapter> adapters) {
  const std::vector<NamedAdapter>& now = runner_->adapters();
  std::vector<int64_t> users(now.size());
  for (const auto* sequences : {&scheduler_.waiting(), &scheduler_.running()})
    for (const auto& seq : *sequences)
      if (seq->request.adapter >= 0) ++users[static_cast<size_t>(seq->request.adapter)];
  for (size_t i = 0; i < users.size(); ++i)
    if (users[i] > 0 && !stays(now, adapters, i))
      return usage_error("adapter " + quote(now[i].name) + " is used by " +
                         std::to_string(users[i]) +
                         " requests: it must keep its place until they have ended");
  if (ahead_) HADAL_TRY(settle(runner_->sync()));
  return runner_->set_adapters(std::move(adapters));
}

}  // namespace hadal
