// Numbers within bounds, as a grammar: what JSON Schema's minimum, maximum, exclusiveMinimum,
// exclusiveMaximum and multipleOf say of the digits that may be written.
//
// Works on the decimal digits of the bounds, so that no rounding moves one. Called by the JSON
// schema compiler.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "text/grammar/ebnf_writer.h"

namespace hadal {

/// A number by its digits: no zeros in front of `whole` ("0" alone aside) or behind `fraction`.
struct Decimal {
  bool negative = false;
  std::string whole = "0", fraction = {};

  /// An error for a number of more than limits.h's digits.
  static Result<Decimal> of(const nlohmann::ordered_json& number);
  /// < 0, 0 or > 0.
  [[nodiscard]] int compare(const Decimal& other) const;
};

struct NumberBounds {
  struct Bound {
    Decimal value;
    bool exclusive = false;
  };
  std::optional<Bound> low = {}, high = {};
  bool integers = false;    ///< only those without a fraction
  int64_t multiple_of = 1;  ///< of integers

  /// The stricter of what stands and `bound`.
  void raise(Bound bound);
  void lower(Bound bound);
  [[nodiscard]] bool holds(const Decimal& number) const;
};

/// The body of a rule for the numbers that `bounds` admit; "" where there are none. Errors: a
/// combination that is not supported, without a place.
Result<std::string> number_rule(EbnfWriter& out, const NumberBounds& bounds);

}  // namespace hadal
