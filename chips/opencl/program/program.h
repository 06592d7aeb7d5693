// The table `program`: a tape whose launches are resolved once.
//
// prepare() checks the tape, takes it apart (tape.h), chooses what shares a launch (fusion.h) and
// builds every kernel that a step may need. run() sets what has changed since the step before and
// launches. It refuses memories that are smaller than the tape says. Its bits are those of op_run.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ops/operators.h"
#include "program/encode.h"

namespace hadal::opencl {

class Program {
 public:
  static hadal_status prepare(Device& device, const hadal_tape& tape, std::unique_ptr<Program>* out,
                              hadal_error* error);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  hadal_status run(Queue& queue, const hadal_step& step, hadal_error* error);
  /// Of the device's memory; its workspace counts, which it shares with the device's other
  /// programs.
  [[nodiscard]] uint64_t bytes() const;

 private:
  /// One launch, or the launches of one operator. Exactly one of both is there.
  struct Part {
    explicit Part(Device& device) : memo(device) { call.device = &device; }

    std::unique_ptr<FusedLaunch> fused;
    const Operator* alone = nullptr;
    Call call;  ///< what does not change from step to step
    Memo memo;
    std::vector<const hadal_tensor*> operands;  ///< alone: those that a step brings, else null
  };

  explicit Program(Device& device) : device_(device) {}
  hadal_status check_places(hadal_error* error);
  void add(const Group& group);
  void add_alone(const ProgramOp& op);
  hadal_status upload(hadal_error* error);
  hadal_status build(hadal_error* error);
  hadal_status check_step(const hadal_step& step, hadal_error* error);
  hadal_status run_part(Part& part, Queue& queue, const hadal_step& step, hadal_error* error);
  hadal_status run_fused(Part& part, const int64_t* rows);
  void tell() const;

  Device& device_;
  ProgramTape tape_;
  std::vector<Part> parts_;
  std::vector<int64_t> plan_;
  std::map<uint32_t, std::string> needed_planes_;  ///< and which operand lies there
  cl_mem plan_buffer_ = nullptr;
  bool took_workspace_ = false;

  // Of the step that runs.
  cl_mem spaces_[HADAL_SPACE_PLANE] = {};
  cl_mem workspace_ = nullptr;
  std::vector<const Memory*> planes_;
};

extern const hadal_program_table kProgramTable;

}  // namespace hadal::opencl
