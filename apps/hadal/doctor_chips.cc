// What `hadal doctor` looks at for chips beside the processor: which maker's hardware is there, its
// driver and runtime, and whether Hadal has a chip that uses them.
//
// Names of nodes and libraries are those of the makers' runtimes; where a maker gives its driver
// only to registered users, the command shows what the kernel knows of the device.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "doctor.h"

namespace hadal::app {
namespace {

namespace fs = std::filesystem;

struct Maker {
  const char* id;    ///< for programs
  const char* name;  ///< for people
  uint32_t vendor;
  std::vector<const char*> nodes;      ///< prefixes of files in /dev, the first one of its own
  bool node_tells;                     ///< the first node is no other maker's
  std::vector<const char*> libraries;  ///< any of these is its runtime
  const char* family;                  ///< what a chip of Hadal's for it would speak
  bool opencl;                         ///< its driver is known to bring OpenCL
  const char* driver;                  ///< the command that brings driver and runtime
};

const std::vector<Maker>& makers() {
  static const std::vector<Maker> all = {
      {"nvidia",
       "NVIDIA",
       0x10de,
       {"nvidia0"},
       true,
       {"libcuda.so.1"},
       "CUDA",
       true,
       "sudo apt-get install nvidia-driver nvidia-opencl-icd"},
      {"amd",
       "AMD",
       0x1002,
       {"kfd", "dri/renderD"},
       false,
       {"libamdhip64.so", "libamdhip64.so.6", "libamdhip64.so.5"},
       "HIP",
       true,
       "sudo apt-get install mesa-opencl-icd"},
      {"huawei",
       "Huawei Ascend",
       0x19e5,
       {"davinci"},
       true,
       {"libascendcl.so"},
       "CANN",
       false,
       "source /usr/local/Ascend/ascend-toolkit/set_env.sh"},
      {"hygon",
       "Hygon DCU",
       0x1d94,
       {"kfd", "dri/renderD"},
       false,
       {"libamdhip64.so"},
       "HIP (DTK)",
       false,
       "source /opt/dtk/env.sh"},
      {"enflame",
       "EnFlame",
       0x1e36,
       {"gcu"},
       true,
       {"libtopsrt.so"},
       "TopsRider",
       false,
       "export LD_LIBRARY_PATH=/opt/tops/lib:$LD_LIBRARY_PATH"},
      {"moorethreads",
       "Moore Threads",
       0x1ed5,
       {"mtgpu"},
       true,
       {"libmusart.so", "libmusart.so.5", "libmusart.so.4", "libmusa.so.1"},
       "MUSA",
       true,
       "export LD_LIBRARY_PATH=/usr/local/musa/lib:$LD_LIBRARY_PATH"},
      {"intel",
       "Intel",
       0x8086,
       {"dri/renderD"},
       false,
       {"libze_loader.so.1"},
       "Level Zero",
       true,
       "sudo apt-get install intel-opencl-icd"},
  };
  return all;
}

/// A maker's hardware as it is found here.
struct Present {
  const Maker* maker;
  std::vector<std::string> addresses;
  std::vector<std::string> nodes;  ///< under /dev, of the first kind only
};

std::vector<std::string> nodes_of(const Machine& m, const std::string& prefix) {
  const size_t slash = prefix.find('/');
  if (slash == std::string::npos) return m.files_in("/dev", prefix);
  std::vector<std::string> names;
  const std::string folder = prefix.substr(0, slash);
  for (const std::string& name : m.files_in(("/dev/" + folder).c_str(), prefix.substr(slash + 1)))
    names.push_back(folder + "/" + name);
  return names;
}

std::vector<Present> find_hardware(const Machine& m, Findings& out) {
  std::vector<Present> found;
  const std::vector<PciDevice> devices = pci_devices(m);
  for (const Maker& maker : makers()) {
    Present here{.maker = &maker, .addresses = {}, .nodes = nodes_of(m, maker.nodes[0])};
    for (const PciDevice& d : devices)
      if (d.vendor == maker.vendor && is_accelerator(d)) here.addresses.push_back(d.address);
    if (!here.addresses.empty() || (maker.node_tells && !here.nodes.empty()))
      found.push_back(std::move(here));
  }
  for (const PciDevice& d : devices) {
    const bool known = std::any_of(makers().begin(), makers().end(),
                                   [&](const Maker& maker) { return maker.vendor == d.vendor; });
    if (known || d.type >> 16 == 0x03 || !is_accelerator(d)) continue;  // a plain display
    const std::string vendor = fmt::format("{:04x}", d.vendor);
    out.push_back({.check = "unknown_accelerator",
                   .label = Message::kAccelerators,
                   .verdict = Verdict::kMissing,
                   .text = Message::kUnknownAccelerator,
                   .arguments = {d.address, vendor},
                   .command = "lspci -nnk -d " + vendor + ":"});
  }
  return found;
}

/// A finding about a maker's hardware.
Finding of(const Maker& maker, const char* what, Verdict verdict, Message text,
           std::vector<std::string> arguments, std::string command = {}) {
  return {.check = fmt::format("{}_{}", maker.id, what),
          .subject = maker.name,
          .verdict = verdict,
          .text = text,
          .arguments = std::move(arguments),
          .command = std::move(command)};
}

void check_nodes(const Machine& m, const Present& here, Findings& out) {
  const Maker& maker = *here.maker;
  if (here.nodes.empty()) {
    out.push_back(of(maker, "nodes", Verdict::kMissing, Message::kNodesNone, {maker.nodes[0]},
                     fmt::format("lspci -nnk -d {:04x}:", maker.vendor)));
    return;
  }
  for (const std::string& node : here.nodes)
    if (!m.may_use(m.at("/dev") / node)) {
      out.push_back(of(maker, "nodes", Verdict::kWrong, Message::kNodesLocked, {"/dev/" + node},
                       fmt::format("sudo usermod -aG \"$(stat -c %G /dev/{})\" \"$USER\"", node)));
      return;
    }
  out.push_back(of(maker, "nodes", Verdict::kOk, Message::kNodes,
                   {fmt::format("/dev/{}", fmt::join(here.nodes, ", /dev/"))}));
}

void check_runtime(const Machine& m, const Maker& maker, Findings& out) {
  std::optional<Finding> broken;
  for (const char* name : maker.libraries) {
    const LibraryState state = m.library(name);
    if (state.kind == LibraryState::Kind::kLoads) {
      out.push_back(of(maker, "runtime", Verdict::kOk, Message::kRuntime, {name}));
      return;
    }
    if (state.kind == LibraryState::Kind::kBroken && !broken)
      broken = of(maker, "runtime", Verdict::kWrong, Message::kRuntimeBroken, {name, state.reason},
                  maker.driver);
  }
  out.push_back(broken ? *broken
                       : of(maker, "runtime", Verdict::kMissing, Message::kRuntimeNone,
                            {maker.libraries[0]}, maker.driver));
}

/// The way over OpenCL: loader, implementations, the plug-in. `wanted`: hardware here needs it.
void check_opencl(const Machine& m, std::span<const fs::path> searched, bool wanted,
                  const std::string& driver, Findings& out) {
  const auto add = [&](Verdict verdict, Message text, std::vector<std::string> arguments,
                       std::string command) {
    out.push_back({.check = "opencl",
                   .subject = "OpenCL",
                   .verdict = verdict,
                   .text = text,
                   .arguments = std::move(arguments),
                   .command = std::move(command)});
  };
  const std::vector<std::string> vendors = m.files_in("/etc/OpenCL/vendors", "");
  const bool loader = m.library("libOpenCL.so.1").kind == LibraryState::Kind::kLoads;
  if (!loader && !wanted && vendors.empty())
    return add(Verdict::kOk, Message::kOpenclUnneeded, {}, "");
  if (loader)
    add(Verdict::kOk, Message::kOpenclLoader, {}, "");
  else
    add(Verdict::kMissing, Message::kOpenclLoaderNone, {},
        "sudo apt-get install ocl-icd-libopencl1");
  if (!vendors.empty())
    add(Verdict::kOk, Message::kOpenclIcd, {fmt::format("{}", fmt::join(vendors, ", "))}, "");
  else
    add(Verdict::kMissing, Message::kOpenclIcdNone, {},
        driver.empty() ? "sudo apt-get install pocl-opencl-icd" : driver);
  for (const PluginFile& plugin : plugin_files(searched))
    if (plugin.name == "opencl")
      return add(Verdict::kOk, Message::kOpenclPlugin, {plugin.file.string()}, "");
  const std::string target = searched.empty()
                                 ? "~/.local/share/hadal/chips"
                                 : searched[searched.size() > 1 ? searched.size() - 2 : 0].string();
  add(Verdict::kMissing, Message::kOpenclPluginNone, {},
      fmt::format("install -D -m 755 build/bin/libhadal_opencl.so {}/libhadal_opencl.so", target));
}

void check_plugins(std::span<const fs::path> searched,
                   const std::function<ChipFacts(const std::string& chip)>& open, Findings& out) {
  for (const PluginFile& plugin : plugin_files(searched)) {
    Finding f{.check = "plugin_" + plugin.name, .subject = plugin.name};
    if (!plugin.fault.empty()) {
      f.verdict = Verdict::kWrong;
      f.text = Message::kPluginDistrusted;
      f.arguments = {plugin.file.string(), plugin.fault};
      f.command = plugin.command;
    } else if (const ChipFacts facts = open(plugin.file.string()); !facts.fault.empty()) {
      f.verdict = Verdict::kWrong;
      f.text = Message::kPluginFails;
      f.arguments = {facts.fault};
      f.command = "hadal chips " + plugin.file.string();
    } else {
      f.text = Message::kPluginRuns;
      f.arguments = {fmt::to_string(facts.devices.size()),
                     fmt::format("{}", fmt::join(facts.devices, ", ")), plugin.file.string()};
    }
    out.push_back(std::move(f));
  }
  std::vector<std::string> folders;
  for (const fs::path& folder : searched) folders.push_back(folder.string());
  out.push_back({.check = "plugin_folders",
                 .subject = "HADAL_CHIPS",
                 .text = Message::kFoldersText,
                 .arguments = {fmt::format("{}", fmt::join(folders, ", "))}});
}

}  // namespace

Findings check_chips(const Machine& machine, std::span<const fs::path> searched,
                     const std::function<ChipFacts(const std::string& chip)>& open) {
  Findings out;
  const std::vector<Present> hardware = find_hardware(machine, out);
  bool opencl = false;
  std::string driver;
  for (const Present& here : hardware) {
    const Maker& maker = *here.maker;
    const std::string count = fmt::to_string(here.addresses.size());
    out.push_back(here.addresses.empty()
                      ? of(maker, "hardware", Verdict::kOk, Message::kHardwareNodes,
                           {"/dev/" + here.nodes[0]})
                      : of(maker, "hardware", Verdict::kOk, Message::kHardware,
                           {count, fmt::format("{}", fmt::join(here.addresses, ", "))}));
    check_nodes(machine, here, out);
    check_runtime(machine, maker, out);
    out.push_back(
        of(maker, "chip", Verdict::kMissing,
           maker.opencl ? Message::kNoChipOpencl : Message::kNoChipYet, {maker.family},
           maker.opencl ? "hadal run MODEL --chip opencl" : "hadal run MODEL --chip cpu"));
    opencl = opencl || maker.opencl;
    if (maker.opencl && driver.empty()) driver = maker.driver;
  }
  if (out.empty())
    out.push_back({.check = "accelerators",
                   .label = Message::kAccelerators,
                   .text = Message::kNoAccelerators});
  check_opencl(machine, searched, opencl, driver, out);
  check_plugins(searched, open, out);
  return out;
}

}  // namespace hadal::app
