// Placement: which part of a model runs on which device, in the user's words.
//
// "layers 0-20: opencl; experts: cpu; head: cpu:0". Parts: layers A-B (or A-, to the last one),
// experts (of all layers, or "experts of layers A-B"), embedding, head, all. A later rule goes
// before an earlier one; experts without a rule are where their layer is. A device is a chip's name
// or path, its number behind a colon, and "#2" for a second instance of the same device.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ops/sink.h"

namespace hadal {

/// A device as it is named: "opencl:1".
struct DeviceName {
  std::string chip;
  int32_t index = 0;
  int32_t instance = 1;
  friend bool operator==(const DeviceName&, const DeviceName&) = default;
  [[nodiscard]] std::string text() const;
};

/// "CHIP", "CHIP:1", "./libX.so:0#2". An error of code kUsage.
Result<DeviceName> parse_device_name(std::string_view text);

class Placement {
 public:
  /// Everything on one device.
  explicit Placement(DeviceName home) : devices_{std::move(home)} {}
  /// Rules for what is not at `home`. An error of code kUsage that says what was expected.
  static Result<Placement> parse(std::string_view text, DeviceName home);

  /// The devices, the home first.
  [[nodiscard]] const std::vector<DeviceName>& devices() const { return devices_; }
  /// The number of the device that is added if it is not there.
  size_t add(const DeviceName& device);
  /// Another device in the place of one.
  void replace(size_t device, DeviceName by) { devices_[device] = std::move(by); }
  /// Takes the last device out again, unless a rule names it; whether it did.
  bool drop_last_unless_named();
  /// Where the rules put a part: the number of a device.
  [[nodiscard]] size_t of(const Region& region) const;
  /// An error of code kUsage if a rule names a layer that a model of so many lacks.
  [[nodiscard]] Status check(int64_t layers) const;
  /// The rules, with `name` of each device's number.
  [[nodiscard]] std::string text(const std::function<std::string(size_t device)>& name) const;
  /// The first rule about experts, if there is one.
  [[nodiscard]] std::string experts_rule() const;

 private:
  struct Rule {
    Region::Part part = Region::Part::kLayer;
    int64_t first = 0, last = INT64_MAX;  ///< layers
    size_t device = 0;
    std::string text;
  };
  Result<std::vector<Rule>> parse_rule(std::string_view text);

  std::vector<DeviceName> devices_;
  std::vector<Rule> rules_;
};

}  // namespace hadal
