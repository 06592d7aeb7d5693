// The checks of `hadal doctor`: each gives findings, a finding says what was looked at, whether it
// is as it should be, and the one command that mends it. They read and measure; they change
// nothing.
#pragma once

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/plugins.h"
#include "machine.h"
#include "messages.h"

namespace hadal::app {

struct ModelFlags;

enum class Verdict : uint8_t { kOk, kMissing, kWrong };

struct Finding {
  std::string check;    ///< stable, for programs: "huge_pages"
  std::string subject;  ///< shown in place of the label, if there is one: a maker, a plug-in
  Message label = Message::kNone;
  Verdict verdict = Verdict::kOk;
  bool needed = false;  ///< nothing runs while it is not ok
  Message text = Message::kNone;
  std::vector<std::string> arguments;
  std::string command = {};  ///< "" where there is nothing to do, or none that mends it
};

using Findings = std::vector<Finding>;

/// What a chip says of itself when it is opened; `fault` instead, if it cannot be.
struct ChipFacts {
  std::string kernels, instruction_sets;
  std::vector<std::string> devices;
  std::set<std::string> stored_types;  ///< of weights that it multiplies by as they are stored
  std::string fault;
};

/// Program, processor, memory and limits. `cpu`: the chip of that name.
Findings check_machine(const Machine& machine, const ChipFacts& cpu);

/// Accelerators: hardware, device nodes, runtimes, and whether Hadal has a chip for them; and what
/// joins processes.
/// `places`: where plug-ins are looked for; `open`: opens one by its path.
Findings check_chips(const Machine& machine, std::span<const PluginFolder> places,
                     const std::function<ChipFacts(const std::string& chip)>& open);

/// What a folder of plug-ins is, if it is not there as it should be.
Message message_of(PluginFolder::State state);

/// A model on a chip, a device and a place: does it open, what is converted, does it fit. `chip`:
/// what the chip says of itself.
Findings check_model(const ModelFlags& model, const ChipFacts& chip);

/// What is not ok and needed.
size_t count_needed(const Findings& findings);

}  // namespace hadal::app
