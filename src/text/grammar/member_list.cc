#include "text/grammar/member_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "text/grammar/limits.h"

namespace hadal {
namespace {

class Writer {
 public:
  Writer(EbnfWriter& out, const MemberList& list)
      : out_(out), list_(list), name_(out.name("members")) {
    // Counts matter where a bound can be broken at all.
    const auto size = static_cast<int64_t>(list.members.size());
    int64_t required = 0;
    for (const MemberList::Member& member : list.members) required += member.required;
    const bool low = list.min > required;
    const bool high = list.max >= 0 && (!list.others.empty() || list.max < size);
    counts_ = low || high;
  }

  Result<MemberRules> write() {
    MemberRules rules;
    rules.may_be_empty =
        list_.min == 0 && std::none_of(list_.members.begin(), list_.members.end(),
                                       [](const MemberList::Member& m) { return m.required; });
    // From the back: a rule is written only if what follows can be.
    const size_t size = list_.members.size();
    const auto most = counts_ ? static_cast<int64_t>(size) : int64_t{0};
    for (size_t i = size + 1; i-- > 0;)
      for (int64_t count = 0; count <= most; ++count) {
        if (count > static_cast<int64_t>(i)) break;
        tail(i, count);
        if (out_.too_large()) return usage_error("an object's members make too large a grammar");
      }
    for (size_t i = size + 1; i-- > 0;) head(i);
    if (heads_[0]) rules.filled = *heads_[0];
    return rules;
  }

 private:
  using Key = std::pair<size_t, int64_t>;
  int64_t counted(int64_t count) const { return counts_ ? count : 0; }

  /// What may follow member i - 1, of `count` written ones; "\"\"" where only nothing may, absent
  /// where nothing can.
  void tail(size_t i, int64_t count) {
    if (i == list_.members.size()) {
      if (auto body = end(count, true)) keep(tails_[{i, count}], "t", i, count, *body);
      return;
    }
    const MemberList::Member& member = list_.members[i];
    std::vector<std::string> choices;
    if (const auto next = found({i + 1, counted(count + 1)}))
      choices.push_back(fmt::format("{} {} {}", list_.separator, member.body, *next));
    if (const auto next = found({i + 1, count}); next && !member.required) choices.push_back(*next);
    if (!choices.empty()) keep(tails_[{i, count}], "t", i, count, joined(choices));
  }

  /// What may stand where no member has been written yet.
  void head(size_t i) {
    heads_.resize(std::max(heads_.size(), i + 1));
    if (i == list_.members.size()) {
      if (auto body = end(0, false); body && !body->empty()) keep(heads_[i], "h", i, 0, *body);
      return;
    }
    const MemberList::Member& member = list_.members[i];
    std::vector<std::string> choices;
    if (const auto next = found({i + 1, counted(1)}))
      choices.push_back(fmt::format("{} {}", member.body, *next));
    if (heads_[i + 1] && !member.required) choices.push_back(*heads_[i + 1]);
    if (!choices.empty()) keep(heads_[i], "h", i, 0, joined(choices));
  }

  /// Behind the named members: the others, if there may be some.
  std::optional<std::string> end(int64_t count, bool behind_some) const {
    const bool few = counts_ && count < list_.min;
    const bool other = !list_.others.empty() && (list_.max < 0 || count < list_.max);
    if ((counts_ && list_.max >= 0 && count > list_.max) ||
        (few && (!other || count + 1 < list_.min)))
      return std::nullopt;
    if (!behind_some && !other) return std::nullopt;
    if (!other) return "\"\"";
    const int64_t least = few || !behind_some ? 1 : 0;
    const std::string most = list_.max < 0 ? "" : std::to_string(list_.max - count);
    if (behind_some)
      return fmt::format("({} {}){{{},{}}}", list_.separator, list_.others, least, most);
    const std::string more = list_.max < 0 ? "" : std::to_string(list_.max - 1);
    return fmt::format("{} ({} {}){{0,{}}}", list_.others, list_.separator, list_.others, more);
  }

  std::optional<std::string> found(Key key) const {
    const auto at = tails_.find(key);
    return at == tails_.end() ? std::nullopt : at->second;
  }
  void keep(std::optional<std::string>& place, const char* kind, size_t i, int64_t count,
            const std::string& body) {
    if (body == "\"\"") {
      place = body;
      return;
    }
    place = counts_ ? fmt::format("{}{}{}c{}", name_, kind, i, count)
                    : fmt::format("{}{}{}", name_, kind, i);
    out_.rule(*place, body);
  }
  static std::string joined(const std::vector<std::string>& choices) {
    return choices.size() == 1 ? choices[0] : choices[0] + " | " + choices[1];
  }

  EbnfWriter& out_;
  const MemberList& list_;
  std::string name_;
  bool counts_ = false;
  std::map<Key, std::optional<std::string>> tails_;
  std::vector<std::optional<std::string>> heads_;
};

}  // namespace

Result<MemberRules> write_members(EbnfWriter& out, const MemberList& list) {
  const auto optional = static_cast<size_t>(
      std::count_if(list.members.begin(), list.members.end(),
                    [](const MemberList::Member& member) { return !member.required; }));
  if (optional > grammar_limits::kOptionalMembers)
    return usage_error(fmt::format(
        "schema: an object has {} properties that may be left out, at most {} are supported: name "
        "those that must be there under `required`",
        optional, grammar_limits::kOptionalMembers));
  return Writer(out, list).write();
}

}  // namespace hadal
