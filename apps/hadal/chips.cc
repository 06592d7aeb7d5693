// hadal chips, hadal version: what runs here.
#include <memory>
#include <nlohmann/json.hpp>

#include "base/dtype.h"
#include "command.h"
#include "device/device.h"
#include "device/plugins.h"
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
  HADAL_TRY(const std::unique_ptr<Device> device,
            Device::open({.chip = name, .plugin_folders = chip_folders(), .log = print_chip_line}));
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
  j["kernels_version"] = info.kernels_version;
  j["host_memory"] = info.host_memory != 0;
  Json forms = Json::array();
  for (const hadal_weight_form& f : device->weight_forms(HADAL_USE_MATMUL))
    forms.push_back(dtype_name(static_cast<DType>(f.dtype)));
  j["weight_forms"] = forms;
  j["program"] = device->has_program();
  if (measure && device->has_profile()) {
    HADAL_TRY(const Device::Peaks peaks, device->measure());
    j["read_bytes_per_second"] = peaks.read_bytes_per_second;
    j["int8_ops_per_second"] = peaks.int8_ops_per_second;
    j["fp32_flops_per_second"] = peaks.fp32_flops_per_second;
  }
  return j;
}

void print(Output& out, const Json& j) {
  const double gib = 1024.0 * 1024 * 1024;
  const auto text = [&j](const char* key) { return j[key].get<std::string>(); };
  const auto number = [&j](const char* key) { return j[key].get<double>(); };
  out.print("{}: {}\n", text("chip"), text("device"));
  out.print("  threads           {}\n", j["threads"].get<int>());
  if (!text("instruction_sets").empty())
    out.print("  instruction sets  {}\n", text("instruction_sets"));
  out.print("  kernel table      {} (of: {})\n", text("kernels"), text("all_kernels"));
  out.print("  memory            {:.1f} GiB, {:.1f} free\n", number("memory_total") / gib,
            number("memory_free") / gib);
  out.print("  same bits alone and in a batch: {}\n",
            j["row_invariant"].get<bool>() ? "yes" : "no");
  if (j.contains("read_bytes_per_second"))
    out.print("  measured          read {:.1f} GB/s, int8 {:.0f} GOP/s, fp32 {:.0f} GFLOP/s\n",
              number("read_bytes_per_second") / 1e9, number("int8_ops_per_second") / 1e9,
              number("fp32_flops_per_second") / 1e9);
}

Status run_chips(const Options& o, Output& out) {
  std::vector<std::string> names = o.chips;
  if (names.empty()) {
    for (const std::string_view name : builtin_chips()) names.emplace_back(name);
    for (const std::string& name : plugin_names(chip_folders())) names.push_back(name);
  }
  Status status;
  for (const std::string& name : names) {
    const Result<Json> j = describe(name, o.measure);
    if (!j) {  // the others are shown nevertheless
      if (!status) print_error(status.error());
      status = j.error();
      continue;
    }
    if (o.json)
      out.print("{}\n", j->dump(-1, ' ', false, Json::error_handler_t::replace));
    else
      print(out, *j);
    HADAL_TRY(out.flush());
  }
  return status;
}

Status run_version(bool json, Output& out) {
  if (json) {
    out.print("{}\n",
              Json({{"version", HADAL_VERSION},
                    {"chip_contract", fmt::format("{}.{}", HADAL_ABI_MAJOR, HADAL_ABI_MINOR)},
                    {"families", known_families()}})
                  .dump());
    return {};
  }
  std::string families;
  for (const std::string& f : known_families()) families += (families.empty() ? "" : ", ") + f;
  out.print("hadal {}\nchip contract {}.{}\narchitectures: {}\n", HADAL_VERSION, HADAL_ABI_MAJOR,
            HADAL_ABI_MINOR, families);
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
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run_chips(*o, out); }; });
}

void add_version(CLI::App& app, Run& chosen) {
  auto json = std::make_shared<bool>(false);
  CLI::App* c = app.add_subcommand("version", "version, chip contract, known architectures");
  c->add_flag("--json", *json, "one JSON object");
  c->callback(
      [json, &chosen] { chosen = [json](Output& out) { return run_version(*json, out); }; });
}

}  // namespace hadal::app
