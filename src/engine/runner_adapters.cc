// The part of ModelRunner that changes adapters while the model stays.
#include <algorithm>

#include "checkpoint/printable.h"
#include "engine/model_runner.h"

namespace hadal {
namespace {

/// Each name once; a place without a name has no folder.
Status check_names(const std::vector<NamedAdapter>& adapters) {
  for (size_t i = 0; i < adapters.size(); ++i) {
    const NamedAdapter& a = adapters[i];
    if (a.empty() && !a.folder.empty())
      return usage_error("the adapter in " + a.folder.string() + " has no name");
    if (a.empty()) continue;
    if (a.folder.empty()) return usage_error("adapter " + quote(a.name) + " has no folder");
    for (size_t j = 0; j < i; ++j)
      if (adapters[j].name == a.name)
        return usage_error("two adapters are called " + quote(a.name));
  }
  return {};
}

}  // namespace

Result<int32_t> ModelRunner::adapter_number(std::string_view name) const {
  std::vector<std::string> known;
  for (size_t i = 0; i < options_.adapters.size(); ++i) {
    const NamedAdapter& a = options_.adapters[i];
    if (a.empty()) continue;
    if (a.name == name) return static_cast<int32_t>(i);
    known.push_back(printable(a.name));
  }
  return usage_error("adapter " + quote(name) + " is not loaded; " +
                     (known.empty() ? std::string("none is") : "loaded are " + listed(known)));
}

Result<ModelRunner::Adapters> ModelRunner::plan_adapters(const std::vector<NamedAdapter>& named) {
  HADAL_TRY(check_names(named));
  Adapters adapters;
  for (size_t i = 0; i < named.size(); ++i) {
    std::shared_ptr<const AdapterFile> file;
    if (i < options_.adapters.size() && i < adapter_files_.size() &&
        named[i] == options_.adapters[i])
      file = adapter_files_[i];
    if (!file && !named[i].empty()) {
      HADAL_TRY(file, AdapterFile::open(named[i].folder));
    }
    adapters.files.push_back(std::move(file));
  }
  HADAL_TRY(adapters.banks,
            AdapterBanks::plan(device(), model_->weights(), model_->spec().family, adapters.files));
  if (places_.size() > 1 && !adapters.banks->empty())
    return usage_error(
        "adapters are not built for a model on several devices; leave --place out, "
        "or --lora");
  if (banks_) banks_->detach();
  adapters.banks->attach();
  const auto limits = layout_->limits.dims();
  std::set<const AdapterBank*> used;
  adapters.costs = costs(limits, static_cast<double>(context_), &adapters.scratch_bytes, &used);
  adapters.banks->detach();
  if (banks_) banks_->attach();
  for (size_t i = 0; i < places_.size(); ++i) {
    const auto& declined = adapters.costs[i].declined;
    const auto lora = std::find_if(declined.begin(), declined.end(), [](const auto& entry) {
      return entry.first.starts_with("lora_add(");
    });
    if (lora != declined.end())
      return failed("chip " + std::string(places_[i].device->chip_name()) +
                    " declines lora_add, which adapters need: " + lora->second);
    if (declined.empty()) continue;
    Error error = declined_operators(places_[i].name, declined);
    if (options_.fallback) return error;
    error.message += "; let the cpu run them (--fallback allow), or choose another chip";
    return error;
  }
  if (const std::string name = adapters.banks->first_unused(used); !name.empty())
    return failed("an adapter targets " + name + ", which this model multiplies together with " +
                  "other things; adapters of such matrices are not built");
  return adapters;
}

void ModelRunner::use_adapters(std::vector<NamedAdapter> named, Adapters adapters) {
  if (banks_) banks_->detach();
  banks_ = std::move(adapters.banks);
  banks_->attach();
  adapter_files_ = std::move(adapters.files);
  options_.adapters = std::move(named);
}

Status ModelRunner::set_adapters(std::vector<NamedAdapter> named) {
  if (!layout_->limits.adapters)
    return usage_error("the model was opened without adapters: they need an input of their own");
  if (lost())
    return failed(
        "the device is lost: the next request opens it again, adapters can be loaded after that");
  HADAL_TRY(Adapters adapters, plan_adapters(named));
  if (options_.check_memory) {
    const MemoryPlan m = memory_plan();
    if (adapters.banks->bytes() > m.available)
      return memory_error("the adapters need " + std::to_string(adapters.banks->bytes() >> 20) +
                          " MiB of memory, " + std::to_string(m.available >> 20) + " MiB are free");
  }
  HADAL_TRY(sync());
  HADAL_TRY(adapters.banks->load());
  DeviceMemory scratch, workspace;
  Place& place = places_[0];  // adapters are refused where there are more
  const uint64_t workspace_bytes = adapters.costs[0].workspace_bytes;
  if (adapters.scratch_bytes > scratch_bytes_) {
    HADAL_TRY(scratch, device().allocate(adapters.scratch_bytes));
  }
  if (place.workspace && workspace_bytes > place.workspace_bytes) {
    HADAL_TRY(workspace, device().allocate(workspace_bytes));
  }
  // Nothing is left that can fail but the programs: what was recorded reads the old banks.
  for (Pass& pass : main_) pass.tape.clear();
  for (auto& forms : draft_)
    for (Pass& pass : forms) pass.tape.clear();
  if (scratch) {
    place.scratch = std::move(scratch);
    scratch_bytes_ = adapters.scratch_bytes;
  }
  if (workspace) place.workspace = std::move(workspace);
  place.workspace_bytes = std::max(place.workspace_bytes, workspace_bytes);
  use_adapters(std::move(named), std::move(adapters));
  return record_all();
}

}  // namespace hadal
