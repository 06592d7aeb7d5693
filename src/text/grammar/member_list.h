// Members of an object in the order in which their schema names them, some of which may be left
// out, and others behind them: as rules. Called for JSON objects and for the parameters of DSML
// calls.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "text/grammar/ebnf_writer.h"

namespace hadal {

struct MemberList {
  struct Member {
    std::string body;  ///< of the member's text, as a part of a rule
    bool required = false;
  };
  std::vector<Member> members = {};
  std::string others = {};     ///< a member of another name; "" if there may be none
  std::string separator = {};  ///< between two members, as a part of a rule; may be ""
  int64_t min = 0, max = -1;   ///< members in all
};

struct MemberRules {
  std::string filled;  ///< the rule for a list with a member at least; "" if there is none
  bool may_be_empty = false;
};

/// Of the others, one alone counts for `min`: the same name may come again. Errors: too many rules.
Result<MemberRules> write_members(EbnfWriter& out, const MemberList& list);

}  // namespace hadal
