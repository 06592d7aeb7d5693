// Automaton: a set of texts as a deterministic automaton over code points. Patterns, lengths, lists
// of words and what may not stand in a text all become one, so that any of them can hold at once.
//
// Refuses, by an error, what needs more states or work than limits.h allows. Called by the regex
// reader, the JSON schema compiler and the tools compiler.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/grammar/char_set.h"

namespace hadal {

/// A part of an automaton before it is deterministic.
struct Places {
  enum class Step { kChars, kFree, kAtBegin, kAtEnd };
  struct Edge {
    size_t from = 0, to = 0;
    Step step = Step::kFree;  ///< kAtBegin, kAtEnd: free at the text's begin, at its end alone
    CharSet chars = {};
  };
  size_t count = 2;
  size_t begin = 0, end = 1;
  std::vector<Edge> edges = {};

  size_t add() { return count++; }
  void free(size_t from, size_t to, Step step = Step::kFree) { edges.push_back({from, to, step}); }
  void chars(size_t from, size_t to, CharSet set) {
    edges.push_back({from, to, Step::kChars, std::move(set)});
  }
};

class Automaton {
 public:
  struct Edge {
    CharRange chars;
    size_t to = 0;
  };
  struct State {
    bool accepts = false;
    std::vector<Edge> edges;  ///< sorted, disjoint; what is in none leads nowhere
  };

  static Automaton everything();
  static Automaton words(std::span<const std::string> words);  ///< exactly these
  static Result<Automaton> length(int64_t min, int64_t max);   ///< max < 0: none
  /// Texts in which none of `words` stands.
  static Result<Automaton> without(std::span<const std::string> words);
  static Result<Automaton> from_places(const Places& places);

  [[nodiscard]] Result<Automaton> both(const Automaton& other) const;
  [[nodiscard]] Result<Automaton> except(const Automaton& other) const;
  [[nodiscard]] bool accepts(std::string_view text) const;
  [[nodiscard]] bool empty() const;  ///< accepts nothing
  /// State 0 is the start.
  [[nodiscard]] const std::vector<State>& states() const { return states_; }

 private:
  [[nodiscard]] Result<Automaton> product(const Automaton& other, bool wants_other) const;
  /// Without states from which no end is reached, and with one state for each set of equal ones.
  void reduce();
  void merge_equal();
  std::vector<State> states_;
};

}  // namespace hadal
