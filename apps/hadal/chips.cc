// hadal chips, hadal version: what runs here.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "device/device.h"
#include "hadal/version.h"
#include "models/model.h"

namespace hadal::app {
namespace {

struct Options {
  std::vector<std::string> chips;
  bool json = false, measure = false;
};

using Json = nlohmann::ordered_json;

Result<Json> describe(const std::string& name, bool measure) {
  HADAL_TRY(const std::unique_ptr<Device> device, Device::open({.chip = name}));
  const hadal_device_info& info = device->info();
  Json j;
  j["chip"] = name;
  j["device"] = info.name;
  j["threads"] = info.threads;
  j["instruction_sets"] = info.instruction_sets;
  j["kernels"] = info.kernels;
  j["all_kernels"] = info.all_kernels;
  j["memory_total"] = info.memory_total;
  j["memory_free"] = info.memory_free;
  j["row_invariant"] = info.row_invariant != 0;
  j["program"] = device->has_program();
  if (measure && device->has_profile()) {
    HADAL_TRY(const Device::Peaks peaks, device->measure());
    j["read_bytes_per_second"] = peaks.read_bytes_per_second;
    j["int8_ops_per_second"] = peaks.int8_ops_per_second;
    j["fp32_flops_per_second"] = peaks.fp32_flops_per_second;
  }
  return j;
}

void print(const Json& j) {
  const double gib = 1024.0 * 1024 * 1024;
  std::printf("%s: %s\n", j["chip"].get<std::string>().c_str(),
              j["device"].get<std::string>().c_str());
  std::printf("  threads           %d\n", j["threads"].get<int>());
  if (!j["instruction_sets"].get<std::string>().empty())
    std::printf("  instruction sets  %s\n", j["instruction_sets"].get<std::string>().c_str());
  std::printf("  kernel table      %s (of: %s)\n", j["kernels"].get<std::string>().c_str(),
              j["all_kernels"].get<std::string>().c_str());
  std::printf("  memory            %.1f GiB, %.1f free\n", j["memory_total"].get<double>() / gib,
              j["memory_free"].get<double>() / gib);
  std::printf("  same bits alone and in a batch: %s\n",
              j["row_invariant"].get<bool>() ? "yes" : "no");
  if (j.contains("read_bytes_per_second"))
    std::printf("  measured          read %.1f GB/s, int8 %.0f GOP/s, fp32 %.0f GFLOP/s\n",
                j["read_bytes_per_second"].get<double>() / 1e9,
                j["int8_ops_per_second"].get<double>() / 1e9,
                j["fp32_flops_per_second"].get<double>() / 1e9);
}

Status run_chips(const Options& o) {
  std::vector<std::string> names = o.chips;
  if (names.empty())
    for (const std::string_view name : builtin_chips()) names.emplace_back(name);
  for (const std::string& name : names) {
    HADAL_TRY(const Json j, describe(name, o.measure));
    if (o.json)
      std::printf("%s\n", j.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    else
      print(j);
  }
  return {};
}

Status run_version(bool json) {
  if (json) {
    std::printf("%s\n", Json({{"version", HADAL_VERSION},
                              {"chip_contract", std::to_string(HADAL_ABI_MAJOR) + "." +
                                                    std::to_string(HADAL_ABI_MINOR)},
                              {"families", known_families()}})
                            .dump()
                            .c_str());
    return {};
  }
  std::string families;
  for (const std::string& f : known_families()) families += (families.empty() ? "" : ", ") + f;
  std::printf("hadal %s\nchip contract %u.%u\narchitectures: %s\n", HADAL_VERSION, HADAL_ABI_MAJOR,
              HADAL_ABI_MINOR, families.c_str());
  return {};
}

}  // namespace

void add_chips(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "chips", "the chips of this machine, their instruction sets and the kernel table chosen");
  c->add_option("CHIP", o->chips, "only these; a plug-in by its path");
  c->add_flag("--measure", o->measure,
              "measure memory bandwidth and arithmetic peaks (a second or two)");
  c->add_flag("--json", o->json, "a JSON object a chip");
  c->callback([o, &chosen] { chosen = [o] { return run_chips(*o); }; });
}

void add_version(CLI::App& app, Run& chosen) {
  auto json = std::make_shared<bool>(false);
  CLI::App* c = app.add_subcommand("version", "version, chip contract, known architectures");
  c->add_flag("--json", *json, "one JSON object");
  c->callback([json, &chosen] { chosen = [json] { return run_version(*json); }; });
}

}  // namespace hadal::app
