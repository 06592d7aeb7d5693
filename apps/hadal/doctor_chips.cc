// What `hadal doctor` looks at for chips beside the processor: which maker's hardware is there, its
// driver and runtime, and whether Hadal has a chip that uses them.
//
// Names of nodes and libraries are those of the makers' runtimes; where a maker gives its driver
// only to registered users, the command shows what the kernel knows of the device.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/text.h"
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
                       fmt::format("sudo usermod -aG \"$(stat -c %G {})\" \"$USER\"",
                                   shell_word("/dev/" + node))));
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

/// Where the loader of OpenCL looks for implementations, and which of them can be loaded.
struct Implementations {
  std::string where;            ///< a folder, a file, or a library
  std::string variable;         ///< of the environment, that says so; "": it is the usual folder
  std::string loaded, refused;  ///< their names; why the first one cannot be
  bool any = false;
};

void add_library(const Machine& m, const std::string& from, const std::string& library,
                 Implementations& all) {
  all.any = true;
  const LibraryState state = library.empty()
                                 ? LibraryState{LibraryState::Kind::kBroken, "the file is empty"}
                                 : m.library(library);
  if (state.kind == LibraryState::Kind::kLoads)
    all.loaded += (all.loaded.empty() ? "" : ", ") + from;
  else if (all.refused.empty())
    all.refused = fmt::format(
        "names {}, which cannot be loaded: {}", library.empty() ? "no library" : library,
        state.kind == LibraryState::Kind::kAbsent ? "there is no such file" : state.reason);
}

/// The rules are those of the loader ocl-icd: OCL_ICD_VENDORS is a folder, a file that ends with
/// .icd, or a library.
Implementations find_implementations(const Machine& m) {
  Implementations all{.where = "/etc/OpenCL/vendors"};
  const auto add_file = [&](const std::string& file) {
    std::string library = m.line_of(file.c_str());
    library.erase(library.find_last_not_of(" \t\r") + 1);
    add_library(m, fs::path(file).filename().string(), library, all);
  };
  for (const char* name : {"OPENCL_VENDOR_PATH", "OCL_ICD_VENDORS"})
    if (const std::string value = m.variable(name); !value.empty()) {
      all.variable = name;
      all.where = value;
    }
  std::error_code unused;
  const std::string path = fs::absolute(all.where, unused).string();
  if (all.variable == "OCL_ICD_VENDORS" && !fs::is_directory(m.at(path.c_str()), unused)) {
    if (!all.where.ends_with(".icd"))
      add_library(m, all.where, all.where, all);
    else
      add_file(all.where.find('/') == std::string::npos ? "/etc/OpenCL/vendors/" + all.where
                                                        : path);
    return all;
  }
  for (const std::string& file : m.files_in(path.c_str(), ""))
    if (file.ends_with(".icd")) add_file(path + "/" + file);
  return all;
}

/// The command that puts a library of Hadal's, which lies beside the program, where plug-ins are
/// looked for; "" if it does not lie there.
std::string install(const Machine& m, std::span<const PluginFolder> places, const char* library) {
  const fs::path file = m.program_folder / library;
  const auto target = std::find_if(places.begin(), places.end(),
                                   [](const PluginFolder& place) { return !place.listed; });
  std::error_code unused;
  if (target == places.end() || !fs::exists(file, unused)) return {};
  return fmt::format("install -D -m 755 {} {}", shell_word(file.string()),
                     shell_word((target->path / library).string()));
}

/// The way over OpenCL: loader, implementations, the plug-in. `wanted`: hardware here needs it.
void check_opencl(const Machine& m, std::span<const PluginFolder> places, bool wanted,
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
  const Implementations all = find_implementations(m);
  const bool loader = m.library("libOpenCL.so.1").kind == LibraryState::Kind::kLoads;
  if (!loader && !wanted && !all.any) return add(Verdict::kOk, Message::kOpenclUnneeded, {}, "");
  if (loader)
    add(Verdict::kOk, Message::kOpenclLoader, {}, "");
  else
    add(Verdict::kMissing, Message::kOpenclLoaderNone, {},
        "sudo apt-get install ocl-icd-libopencl1");
  const std::string install_one = driver.empty() ? "sudo apt-get install pocl-opencl-icd" : driver;
  if (!all.loaded.empty())
    add(Verdict::kOk, Message::kOpenclIcd, {all.where, all.loaded}, "");
  else if (!all.variable.empty())
    add(Verdict::kWrong, Message::kOpenclVariable, {all.variable, all.where},
        "unset " + all.variable);
  else if (all.any)
    add(Verdict::kWrong, Message::kOpenclIcdBroken, {all.where, all.refused}, install_one);
  else
    add(Verdict::kMissing, Message::kOpenclIcdNone, {}, install_one);
  for (const PluginFile& plugin : plugin_files(searched_folders(places)))
    if (plugin.name == "opencl")
      return add(Verdict::kOk, Message::kOpenclPlugin, {plugin.file.string()}, "");
  add(Verdict::kMissing, Message::kOpenclPluginNone, {}, install(m, places, "libhadal_opencl.so"));
}

void check_plugins(std::span<const PluginFolder> places,
                   const std::function<ChipFacts(const std::string& chip)>& open, Findings& out) {
  for (const PluginFile& plugin : plugin_files(searched_folders(places))) {
    Finding f{.check = "plugin_" + plugin.name, .subject = plugin.name};
    if (!plugin.fault.why.empty()) {
      f.verdict = Verdict::kWrong;
      f.text = Message::kPluginDistrusted;
      f.arguments = {plugin.file.string(), plugin.fault.why};
      f.command = plugin.fault.command;
    } else if (const ChipFacts facts = open(plugin.file.string()); !facts.fault.empty()) {
      f.verdict = Verdict::kWrong;
      f.text = Message::kPluginFails;
      f.arguments = {facts.fault};
    } else {
      f.text = Message::kPluginRuns;
      f.arguments = {fmt::to_string(facts.devices.size()),
                     fmt::format("{}", fmt::join(facts.devices, ", ")), plugin.file.string()};
    }
    out.push_back(std::move(f));
  }
}

/// Only what HADAL_CHIPS names must be there: the others are where a chip may be put.
void check_folders(std::span<const PluginFolder> places, Findings& out) {
  using State = PluginFolder::State;
  std::string there, all;
  for (const PluginFolder& place : places) {
    if (place.state == State::kThere) there += (there.empty() ? "" : ", ") + place.path.string();
    if (place.state != State::kRelative) all += (all.empty() ? "" : ", ") + place.path.string();
    if (place.state == State::kThere || (place.state == State::kAbsent && !place.listed)) continue;
    const std::string word = shell_word(place.path.string());
    out.push_back({.check = "plugin_folder",
                   .subject = place.listed ? "HADAL_CHIPS" : "",
                   .label = Message::kPluginFolders,
                   .verdict = place.state == State::kAbsent ? Verdict::kMissing : Verdict::kWrong,
                   .text = message_of(place.state),
                   .arguments = {place.path.string()},
                   .command = place.state == State::kLocked ? "sudo chmod a+rx " + word : ""});
  }
  out.push_back({.check = "plugin_folders",
                 .label = Message::kPluginFolders,
                 .text = there.empty() ? Message::kFoldersNone : Message::kFoldersText,
                 .arguments = {there.empty() ? all : there}});
}

/// The first file of this name in the folders of PATH.
fs::path program_in_path(const Machine& m, const std::string& name) {
  const std::string all = m.variable("PATH");
  for (size_t at = 0, end = 0; at < all.size(); at = end + 1) {
    end = std::min(all.find(':', at), all.size());
    const std::string folder = all.substr(at, end - at);
    std::error_code unused;
    if (folder.starts_with('/') && fs::exists(m.at(folder.c_str()) / name, unused))
      return fs::path(folder) / name;
  }
  return {};
}

/// What joins processes to a run.
Finding check_mpi(const Machine& machine, std::span<const PluginFolder> places) {
  Finding f{.check = "mpi", .label = Message::kMpi};
  const fs::path mpirun = program_in_path(machine, "mpirun");
  const std::string library = "libhadal_comm_mpi.so";
  fs::path plugin;
  for (const fs::path& folder : searched_folders(places))
    if (std::error_code unused; plugin.empty() && fs::exists(folder / library, unused))
      plugin = folder / library;
  const PluginFault fault = plugin.empty() ? PluginFault{} : plugin_fault(plugin);
  const LibraryState state = plugin.empty() || !fault.why.empty()
                                 ? LibraryState{LibraryState::Kind::kBroken, fault.why}
                                 : machine.library(plugin.string());
  if (mpirun.empty() && plugin.empty()) {
    f.text = Message::kMpiUnneeded;
  } else if (plugin.empty()) {
    f.verdict = Verdict::kMissing;
    f.text = Message::kMpiPluginNone;
    f.arguments = {mpirun.string()};
    f.command = install(machine, places, library.c_str());
  } else if (state.kind != LibraryState::Kind::kLoads) {
    f.verdict = Verdict::kWrong;
    f.text = Message::kMpiBroken;
    f.arguments = {plugin.string(), state.reason};
    f.command =
        fault.why.empty() && mpirun.empty() ? "sudo apt-get install openmpi-bin" : fault.command;
  } else if (mpirun.empty()) {
    f.verdict = Verdict::kMissing;
    f.text = Message::kMpiRunNone;
    f.arguments = {plugin.string()};
    f.command = "sudo apt-get install openmpi-bin";
  } else {
    f.text = Message::kMpiText;
    f.arguments = {mpirun.string(), plugin.string()};
  }
  return f;
}

}  // namespace

Message message_of(PluginFolder::State state) {
  switch (state) {
    case PluginFolder::State::kNoFolder:
      return Message::kFolderNone;
    case PluginFolder::State::kLocked:
      return Message::kFolderLocked;
    case PluginFolder::State::kRelative:
      return Message::kFolderRelative;
    default:
      return Message::kFolderAbsent;
  }
}

Findings check_chips(const Machine& machine, std::span<const PluginFolder> places,
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
  check_opencl(machine, places, opencl, driver, out);
  check_plugins(places, open, out);
  check_folders(places, out);
  out.push_back(check_mpi(machine, places));
  return out;
}

}  // namespace hadal::app
