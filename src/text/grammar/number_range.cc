#include "text/grammar/number_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text/grammar/limits.h"

namespace hadal {
namespace {

using Bound = NumberBounds::Bound;

/// Digits that may follow where nothing bounds them: what a double tells apart.
constexpr std::string_view kSomeDigits = "[0-9]{0,17}";
constexpr std::string_view kAnyFraction = "(\".\" [0-9]{1,17})?";
/// Digits behind which something greater than zero stands.
constexpr std::string_view kAboveZero = "\"0\"{0,15} [1-9] [0-9]{0,15}";
/// At most so many multiples between two bounds are listed.
constexpr int64_t kListedMultiples = 1000;

std::string in_quotes(std::string_view digits) { return "\"" + std::string(digits) + "\""; }
std::string digit_class(char first, char last) {
  return first == last ? in_quotes({&first, 1}) : fmt::format("[{}-{}]", first, last);
}
std::string digits(size_t count) { return count == 0 ? "" : fmt::format("[0-9]{{{}}}", count); }

std::string joined(const std::vector<std::string>& choices) {
  std::string out;
  for (const std::string& choice : choices) out += (out.empty() ? "" : " | ") + choice;
  return choices.size() > 1 ? "(" + out + ")" : out;
}

int compare_whole(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  return a.compare(b);
}

/// The next larger number of as many digits, or one more.
std::string plus_one(std::string number) {
  size_t at = number.size();
  while (at > 0 && number[at - 1] == '9') number[--at] = '0';
  if (at == 0) return "1" + number;
  ++number[at - 1];
  return number;
}
/// The next smaller number of as many digits; `number` is not zero.
std::string minus_one(std::string number) {
  size_t at = number.size();
  while (number[at - 1] == '0') number[--at] = '9';
  --number[at - 1];
  return number;
}
std::string without_zeros(std::string number) {
  return number.erase(0, std::min(number.find_first_not_of('0'), number.size() - 1));
}

bool all(std::string_view text, char c) { return text.find_first_not_of(c) == text.npos; }

std::string at_least(std::string_view low) {
  if (low.empty() || all(low, '0')) return digits(low.size());
  std::vector<std::string> choices = {in_quotes(low.substr(0, 1)) + " " + at_least(low.substr(1))};
  if (low[0] < '9')
    choices.push_back(digit_class(static_cast<char>(low[0] + 1), '9') + " " +
                      digits(low.size() - 1));
  return joined(choices);
}
std::string at_most(std::string_view high) {
  if (high.empty() || all(high, '9')) return digits(high.size());
  std::vector<std::string> choices = {in_quotes(high.substr(0, 1)) + " " + at_most(high.substr(1))};
  if (high[0] > '0')
    choices.push_back(digit_class('0', static_cast<char>(high[0] - 1)) + " " +
                      digits(high.size() - 1));
  return joined(choices);
}
/// All numbers from low to high, which have as many digits each.
std::string between(std::string_view low, std::string_view high) {
  if (low == high) return low.empty() ? "" : in_quotes(low);
  if (low[0] == high[0])
    return in_quotes(low.substr(0, 1)) + " " + between(low.substr(1), high.substr(1));
  std::vector<std::string> choices = {in_quotes(low.substr(0, 1)) + " " + at_least(low.substr(1)),
                                      in_quotes(high.substr(0, 1)) + " " + at_most(high.substr(1))};
  if (high[0] - low[0] > 1)
    choices.push_back(digit_class(static_cast<char>(low[0] + 1), static_cast<char>(high[0] - 1)) +
                      " " + digits(low.size() - 1));
  return joined(choices);
}

/// Whole numbers from low on, up to high if there is one. "" where there are none.
std::string whole_numbers(const std::string& low, const std::optional<std::string>& high) {
  if (high && compare_whole(low, *high) > 0) return "";
  std::vector<std::string> choices;
  const size_t last = high ? high->size() : low.size();
  for (size_t size = low.size(); size <= last; ++size) {
    const std::string from = size == low.size() ? low : "1" + std::string(size - 1, '0');
    const std::string to = high && size == high->size() ? *high : std::string(size, '9');
    // "0" alone may begin with a zero.
    if (from == "0" && to != "0") {
      choices.push_back("\"0\"");
      choices.push_back(between("1", to));
    } else {
      choices.push_back(between(from, to));
    }
  }
  if (!high) choices.push_back(fmt::format("[1-9] [0-9]{{{},{}}}", low.size(), low.size() + 17));
  return joined(choices);
}

std::string fraction_at_least(std::string_view low, bool exclusive) {
  if (low.empty()) return std::string(exclusive ? kAboveZero : kSomeDigits);
  std::vector<std::string> choices = {in_quotes(low.substr(0, 1)) + " " +
                                      fraction_at_least(low.substr(1), exclusive)};
  if (low[0] < '9')
    choices.push_back(digit_class(static_cast<char>(low[0] + 1), '9') + " " +
                      std::string(kSomeDigits));
  return joined(choices);
}
/// `high` is not empty.
std::string fraction_at_most(std::string_view high, bool exclusive) {
  std::vector<std::string> choices;
  if (high[0] > '0')
    choices.push_back(digit_class('0', static_cast<char>(high[0] - 1)) + " " +
                      std::string(kSomeDigits));
  if (high.size() > 1)
    choices.push_back(in_quotes(high.substr(0, 1)) + " (" +
                      fraction_at_most(high.substr(1), exclusive) + ")?");
  else if (!exclusive)
    choices.push_back(in_quotes(high));
  return joined(choices);
}

/// Magnitudes from low to high.
class Magnitudes {
 public:
  Magnitudes(Bound low, std::optional<Bound> high) : low_(std::move(low)), high_(std::move(high)) {}

  std::string integers() const {
    std::string from = low_.value.whole;
    if (!low_.value.fraction.empty() || low_.exclusive) from = plus_one(from);
    if (!high_) return whole_numbers(from, std::nullopt);
    std::string to = high_->value.whole;
    if (high_->value.fraction.empty() && high_->exclusive) {
      if (to == "0") return "";
      to = without_zeros(minus_one(to));
    }
    return whole_numbers(from, to);
  }

  std::string reals() const {
    const Decimal& low = low_.value;
    if (high_ && high_->value.whole == low.whole) return same_whole();
    if (high_ && compare_whole(high_->value.whole, low.whole) < 0) return "";
    std::vector<std::string> choices;
    std::string fraction = "\".\" " + fraction_at_least(low.fraction, low_.exclusive);
    if (low.fraction.empty() && !low_.exclusive) fraction = kAnyFraction;
    choices.push_back(in_quotes(low.whole) + " " + fraction);
    const std::string next = plus_one(low.whole);
    std::optional<std::string> before;
    if (high_) before = without_zeros(minus_one(high_->value.whole));
    if (const std::string middle = whole_numbers(next, before); !middle.empty())
      choices.push_back(middle + " " + std::string(kAnyFraction));
    if (high_ && !high_->value.fraction.empty())
      choices.push_back(in_quotes(high_->value.whole) + " (\".\" " +
                        fraction_at_most(high_->value.fraction, high_->exclusive) + ")?");
    else if (high_ && !high_->exclusive)
      choices.push_back(in_quotes(high_->value.whole));
    return joined(choices);
  }

 private:
  /// Both bounds have the same digits before the point.
  std::string same_whole() const {
    std::string low = low_.value.fraction, high = high_->value.fraction;
    const size_t size = std::max(low.size(), high.size());
    const std::string whole = in_quotes(low_.value.whole);
    low.resize(size, '0');
    high.resize(size, '0');
    const bool exact = low == high;
    if (low > high || (exact && (low_.exclusive || high_->exclusive))) return "";
    std::vector<std::string> choices;
    if (all(low, '0') && !low_.exclusive) choices.push_back(whole);
    if (size == 0) return joined(choices);
    if (exact) return whole + " \".\" " + in_quotes(low);
    choices.push_back(whole + " \".\" " + in_quotes(low) + " " +
                      std::string(low_.exclusive ? kAboveZero : kSomeDigits));
    if (!high_->exclusive) choices.push_back(whole + " \".\" " + in_quotes(high));
    if (plus_one(low) != high)
      choices.push_back(whole + " \".\" " + between(plus_one(low), minus_one(high)) + " " +
                        std::string(kSomeDigits));
    return joined(choices);
  }

  Bound low_;
  std::optional<Bound> high_;
};

Result<std::string> multiples(EbnfWriter& out, const NumberBounds& bounds) {
  const int64_t n = bounds.multiple_of;
  if (bounds.low && bounds.high) {
    const auto number = [](const Bound& bound) -> int64_t {
      const int64_t size =
          bound.value.whole.size() > 17 ? INT64_MAX / 4 : std::stoll(bound.value.whole);
      return bound.value.negative ? -size : size;
    };
    const int64_t low = number(*bounds.low) - 1, high = number(*bounds.high) + 1;
    if ((high - low) / n <= kListedMultiples) {
      std::vector<std::string> choices;
      for (int64_t value = low / n * n - n; value <= high; value += n) {
        HADAL_TRY(const Decimal decimal, Decimal::of(value));
        if (bounds.holds(decimal)) choices.push_back(in_quotes(std::to_string(value)));
      }
      return joined(choices);
    }
  }
  if (bounds.low || bounds.high)
    return usage_error(
        fmt::format("`multipleOf` with bounds is supported where both are there and at most {} "
                    "multiples lie between them",
                    kListedMultiples));
  const std::string name = out.name("multiple");
  const auto of_rest = [&](int64_t rest) { return name + "r" + std::to_string(rest); };
  const auto digits_from = [&](int64_t rest, char first) {
    std::string body;
    for (char digit = first; digit <= '9'; ++digit)
      body += fmt::format("{}\"{}\" {}", body.empty() ? "" : " | ", digit,
                          of_rest((rest * 10 + (digit - '0')) % n));
    return body;
  };
  for (int64_t rest = 0; rest < n; ++rest)
    out.rule(of_rest(rest), (rest == 0 ? "\"\" | " : "") + digits_from(rest, '0'));
  out.rule(name, digits_from(0, '1'));
  return "\"0\" | \"-\"? " + name;
}

}  // namespace

Result<Decimal> Decimal::of(const nlohmann::ordered_json& number) {
  std::string text =
      number.is_number_float() ? fmt::format("{}", number.get<double>()) : number.dump();
  Decimal out;
  out.negative = text[0] == '-';
  if (out.negative) text.erase(0, 1);
  int exponent = 0;
  if (const size_t e = text.find('e'); e != text.npos) {
    exponent = std::stoi(text.substr(e + 1));
    text.resize(e);
  }
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits = text.substr(0, point);
  if (point < text.size()) digits += text.substr(point + 1);
  const int64_t whole = static_cast<int64_t>(point) + exponent;
  const auto limit = static_cast<int64_t>(grammar_limits::kNumberDigits);
  if (whole > limit || static_cast<int64_t>(digits.size()) - whole > limit)
    return usage_error(fmt::format("a number has more than {} digits", limit));
  if (whole < 0) digits.insert(0, static_cast<size_t>(-whole), '0');
  if (whole > static_cast<int64_t>(digits.size())) digits.resize(static_cast<size_t>(whole), '0');
  const size_t split = whole < 0 ? 0 : static_cast<size_t>(whole);
  out.fraction = digits.substr(split);
  out.fraction.erase(out.fraction.find_last_not_of('0') + 1);
  digits.resize(split);
  out.whole = digits.empty() ? "0" : without_zeros(digits);
  if (out.whole == "0" && out.fraction.empty()) out.negative = false;
  return out;
}

int Decimal::compare(const Decimal& other) const {
  if (negative != other.negative) return negative ? -1 : 1;
  int size = compare_whole(whole, other.whole);
  if (size == 0) size = fraction.compare(other.fraction);
  return negative ? -size : size;
}

void NumberBounds::raise(Bound bound) {
  const int order = low ? bound.value.compare(low->value) : 1;
  if (order > 0 || (order == 0 && bound.exclusive)) low = std::move(bound);
}
void NumberBounds::lower(Bound bound) {
  const int order = high ? bound.value.compare(high->value) : -1;
  if (order < 0 || (order == 0 && bound.exclusive)) high = std::move(bound);
}

bool NumberBounds::holds(const Decimal& number) const {
  const int above = low ? number.compare(low->value) : 1;
  const int below = high ? number.compare(high->value) : -1;
  if (above < 0 || (above == 0 && low->exclusive)) return false;
  if (below > 0 || (below == 0 && high->exclusive)) return false;
  if (multiple_of == 1) return !integers || number.fraction.empty();
  int64_t rest = 0;
  for (const char digit : number.whole) rest = (rest * 10 + (digit - '0')) % multiple_of;
  return number.fraction.empty() && rest == 0;
}

Result<std::string> number_rule(EbnfWriter& out, const NumberBounds& bounds) {
  if (bounds.multiple_of != 1) return multiples(out, bounds);
  if (!bounds.low && !bounds.high) {
    constexpr std::string_view kWhole = "\"-\"? (\"0\" | [1-9] [0-9]{0,17})";
    if (bounds.integers) return std::string(kWhole);
    return fmt::format("{} {} ([eE] [+\\-]? [0-9]{{1,2}})?", kWhole, kAnyFraction);
  }
  // Those from zero on, and the others by their magnitudes.
  const Bound zero{};
  std::vector<std::string> choices;
  const auto add = [&](std::string_view sign, const Bound& low, const std::optional<Bound>& high) {
    const Magnitudes sizes(low, high);
    const std::string body = bounds.integers ? sizes.integers() : sizes.reals();
    if (!body.empty()) choices.push_back(std::string(sign) + body);
  };
  const auto mirrored = [](const Bound& bound) {
    Bound positive = bound;
    positive.value.negative = false;
    return positive;
  };
  const bool below_zero = bounds.high && bounds.high->value.negative;
  if (!below_zero)
    add("", bounds.low && !bounds.low->value.negative ? *bounds.low : zero, bounds.high);
  if (!bounds.low || bounds.low->value.negative) {
    const std::optional<Bound> largest =
        bounds.low ? std::optional(mirrored(*bounds.low)) : std::nullopt;
    // "-0" is left to those from zero on.
    add("\"-\" ", below_zero ? mirrored(*bounds.high) : Bound{.value = {}, .exclusive = true},
        largest);
  }
  return joined(choices);
}

}  // namespace hadal
