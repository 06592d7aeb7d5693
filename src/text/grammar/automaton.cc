#include "text/grammar/automaton.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "text/grammar/limits.h"

namespace hadal {
namespace {

using Step = Places::Step;

Error too_large() {
  return usage_error("needs more than " + std::to_string(grammar_limits::kRegexStates) +
                     " states: fewer or smaller repetitions would do");
}

/// The set of places that one state of an automaton stands for, built state by state.
class Determiniser {
 public:
  explicit Determiniser(const Places& places) : places_(places), out_(places.count) {
    for (size_t i = 0; i < places.edges.size(); ++i) out_[places.edges[i].from].push_back(i);
  }

  /// Adds what is reached without a character. `step`: also through such edges.
  std::vector<size_t> closed(std::vector<size_t> places, std::optional<Step> step) {
    std::vector<bool> seen(places_.count);
    std::vector<size_t> found;
    while (!places.empty()) {
      const size_t place = places.back();
      places.pop_back();
      ++work_;
      if (seen[place]) continue;
      seen[place] = true;
      found.push_back(place);
      for (const size_t i : out_[place]) {
        const Places::Edge& edge = places_.edges[i];
        if (edge.step == Step::kFree || edge.step == step) places.push_back(edge.to);
      }
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  /// Where characters lead, split so that all characters of one range lead to the same places.
  std::vector<std::pair<CharRange, std::vector<size_t>>> moves(const std::vector<size_t>& from) {
    std::vector<std::tuple<char32_t, bool, size_t>> borders;
    for (const size_t place : from)
      for (const size_t i : out_[place])
        for (const CharRange& range : places_.edges[i].chars.ranges()) {
          borders.emplace_back(range.first, true, places_.edges[i].to);
          borders.emplace_back(range.last + 1, false, places_.edges[i].to);
        }
    std::sort(borders.begin(), borders.end());
    std::vector<std::pair<CharRange, std::vector<size_t>>> out;
    std::map<size_t, int> active;
    for (size_t i = 0; i < borders.size();) {
      const char32_t at = std::get<0>(borders[i]);
      for (; i < borders.size() && std::get<0>(borders[i]) == at; ++i) {
        int& count = active[std::get<2>(borders[i])];
        count += std::get<1>(borders[i]) ? 1 : -1;
        if (count == 0) active.erase(std::get<2>(borders[i]));
      }
      if (active.empty() || i == borders.size()) continue;
      std::vector<size_t> to;
      for (const auto& entry : active) to.push_back(entry.first);
      work_ += to.size();
      out.push_back({{at, std::get<0>(borders[i]) - 1}, std::move(to)});
    }
    return out;
  }

  bool accepts(const std::vector<size_t>& places) {
    const std::vector<size_t> at_end = closed(places, Step::kAtEnd);
    return std::binary_search(at_end.begin(), at_end.end(), places_.end);
  }
  [[nodiscard]] size_t work() const { return work_; }

 private:
  const Places& places_;
  std::vector<std::vector<size_t>> out_;
  size_t work_ = 0;
};

}  // namespace

Result<Automaton> Automaton::from_places(const Places& places) {
  Determiniser sets(places);
  std::map<std::vector<size_t>, size_t> known;
  std::vector<std::vector<size_t>> todo;
  Automaton out;
  const auto state_of = [&](std::vector<size_t> set) {
    const auto [entry, added] = known.emplace(std::move(set), known.size());
    if (added) todo.push_back(entry->first);
    return entry->second;
  };
  // An assertion of the end may stand before one of the begin, in an empty text.
  std::vector<size_t> begin = sets.closed({places.begin}, Step::kAtBegin);
  const bool empty_text = [&] {
    std::vector<size_t> both = begin, last;
    while (both != last) {
      last = both;
      both = sets.closed(sets.closed(both, Step::kAtEnd), Step::kAtBegin);
    }
    return std::binary_search(both.begin(), both.end(), places.end);
  }();
  state_of(std::move(begin));
  for (size_t i = 0; i < todo.size(); ++i) {
    const std::vector<size_t> set = todo[i];
    State state{.accepts = i == 0 ? empty_text : sets.accepts(set), .edges = {}};
    for (auto& [chars, to] : sets.moves(set))
      state.edges.push_back({chars, state_of(sets.closed(std::move(to), std::nullopt))});
    out.states_.push_back(std::move(state));
    if (todo.size() > grammar_limits::kRegexStates || sets.work() > grammar_limits::kRegexWork)
      return too_large();
  }
  out.reduce();
  return out;
}

Automaton Automaton::everything() {
  Automaton out;
  out.states_.push_back({.accepts = true, .edges = {}});
  const CharSet all = CharSet::all();
  for (const CharRange& range : all.ranges()) out.states_[0].edges.push_back({range, 0});
  return out;
}

Automaton Automaton::words(std::span<const std::string> words) {
  std::vector<std::map<char32_t, size_t>> trie(1);
  std::vector<bool> ends(1);
  for (const std::string& word : words) {
    size_t at = 0;
    for (const char32_t c : code_points(word)) {
      const auto [entry, added] = trie[at].emplace(c, trie.size());
      at = entry->second;
      if (added) {
        trie.emplace_back();
        ends.push_back(false);
      }
    }
    ends[at] = true;
  }
  // Equal ends of words become one, from the last state on: none leads to one before it.
  using Signature = std::pair<bool, std::vector<std::pair<char32_t, size_t>>>;
  std::map<Signature, size_t> known;
  std::vector<size_t> place(trie.size());
  std::vector<State> reversed;
  for (size_t i = trie.size(); i-- > 0;) {
    Signature signature{ends[i], {}};
    for (const auto& [c, to] : trie[i]) signature.second.emplace_back(c, place[to]);
    const auto [entry, added] = known.emplace(std::move(signature), reversed.size());
    place[i] = entry->second;
    if (!added) continue;
    reversed.push_back({.accepts = ends[i], .edges = {}});
    for (const auto& [c, to] : entry->first.second) reversed.back().edges.push_back({{c, c}, to});
  }
  Automaton out;
  if (words.empty()) return out;
  const size_t last = reversed.size() - 1;
  out.states_.assign(reversed.rbegin(), reversed.rend());
  for (State& state : out.states_)
    for (Edge& edge : state.edges) edge.to = last - edge.to;
  return out;
}

Result<Automaton> Automaton::length(int64_t min, int64_t max) {
  const int64_t last = max < 0 ? min : max;
  if (last >= static_cast<int64_t>(grammar_limits::kRegexStates)) return too_large();
  Automaton out;
  const CharSet all = CharSet::all();
  for (int64_t i = 0; i <= last; ++i) {
    out.states_.push_back({.accepts = i >= min, .edges = {}});
    const bool stays = max < 0 && i == last;
    if (i == last && !stays) break;
    for (const CharRange& range : all.ranges())
      out.states_.back().edges.push_back({range, static_cast<size_t>(stays ? i : i + 1)});
  }
  return out;
}

Result<Automaton> Automaton::without(std::span<const std::string> words) {
  Places places;
  places.chars(places.begin, places.begin, CharSet::all());
  for (const std::string& word : words) {
    size_t at = places.begin;
    for (const char32_t c : code_points(word)) {
      const size_t next = places.add();
      places.chars(at, next, CharSet::one(c));
      at = next;
    }
    places.free(at, places.end);
  }
  places.chars(places.end, places.end, CharSet::all());
  HADAL_TRY(const Automaton with, from_places(places));
  return everything().except(with);
}

Result<Automaton> Automaton::both(const Automaton& other) const { return product(other, true); }
Result<Automaton> Automaton::except(const Automaton& other) const { return product(other, false); }

Result<Automaton> Automaton::product(const Automaton& other, bool wants_other) const {
  constexpr size_t kNowhere = SIZE_MAX;
  std::map<std::pair<size_t, size_t>, size_t> known;
  std::vector<std::pair<size_t, size_t>> todo;
  const std::vector<Edge> none;
  Automaton out;
  const auto state_of = [&](size_t mine, size_t theirs) {
    const auto [entry, added] = known.emplace(std::pair(mine, theirs), known.size());
    if (added) todo.push_back(entry->first);
    return entry->second;
  };
  if (empty()) return *this;
  state_of(0, other.states_.empty() ? kNowhere : 0);
  for (size_t i = 0; i < todo.size(); ++i) {
    if (todo.size() > grammar_limits::kRegexStates * 4) return too_large();
    const auto [mine, theirs] = todo[i];
    const bool theirs_accepts = theirs != kNowhere && other.states_[theirs].accepts;
    State state{.accepts = states_[mine].accepts && theirs_accepts == wants_other, .edges = {}};
    for (const Edge& edge : states_[mine].edges) {
      char32_t from = edge.chars.first;
      for (const Edge& their : theirs == kNowhere ? none : other.states_[theirs].edges) {
        const char32_t first = std::max(from, their.chars.first);
        const char32_t last = std::min(edge.chars.last, their.chars.last);
        if (first > last) continue;
        if (!wants_other && first > from)
          state.edges.push_back({{from, first - 1}, state_of(edge.to, kNowhere)});
        state.edges.push_back({{first, last}, state_of(edge.to, their.to)});
        from = last + 1;
      }
      if (!wants_other && from <= edge.chars.last)
        state.edges.push_back({{from, edge.chars.last}, state_of(edge.to, kNowhere)});
    }
    out.states_.push_back(std::move(state));
  }
  out.reduce();
  if (out.states_.size() > grammar_limits::kRegexStates) return too_large();
  return out;
}

bool Automaton::accepts(std::string_view text) const {
  size_t at = 0;
  if (states_.empty()) return false;
  for (const char32_t c : code_points(text)) {
    const std::vector<Edge>& edges = states_[at].edges;
    const auto edge = std::find_if(edges.begin(), edges.end(), [c](const Edge& e) {
      return e.chars.first <= c && c <= e.chars.last;
    });
    if (edge == edges.end()) return false;
    at = edge->to;
  }
  return states_[at].accepts;
}

bool Automaton::empty() const { return states_.empty(); }

void Automaton::reduce() {
  std::vector<std::vector<size_t>> into(states_.size());
  std::vector<bool> useful(states_.size());
  std::vector<size_t> todo;
  for (size_t i = 0; i < states_.size(); ++i) {
    for (const Edge& edge : states_[i].edges) into[edge.to].push_back(i);
    if (states_[i].accepts) todo.push_back(i);
  }
  while (!todo.empty()) {
    const size_t at = todo.back();
    todo.pop_back();
    if (useful[at]) continue;
    useful[at] = true;
    todo.insert(todo.end(), into[at].begin(), into[at].end());
  }
  if (states_.empty() || !useful[0]) return states_.clear();
  std::vector<size_t> place(states_.size());
  std::vector<State> kept;
  for (size_t i = 0; i < states_.size(); ++i) {
    place[i] = kept.size();
    if (useful[i]) kept.push_back(states_[i]);
  }
  for (State& state : kept) {
    std::erase_if(state.edges, [&](const Edge& edge) { return !useful[edge.to]; });
    for (Edge& edge : state.edges) edge.to = place[edge.to];
  }
  states_ = std::move(kept);
  merge_equal();
}

void Automaton::merge_equal() {
  using Signature = std::vector<std::tuple<char32_t, char32_t, size_t>>;
  std::vector<size_t> group(states_.size());
  for (size_t i = 0; i < states_.size(); ++i) group[i] = states_[i].accepts;
  // Long chains of states take a round each, and are seldom equal.
  constexpr int kRounds = 64;
  size_t groups = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::map<std::pair<size_t, Signature>, size_t> known;
    std::vector<size_t> next(states_.size());
    for (size_t i = 0; i < states_.size(); ++i) {
      Signature signature;
      for (const Edge& edge : states_[i].edges) {
        const auto& [first, last] = edge.chars;
        if (!signature.empty() && std::get<1>(signature.back()) + 1 == first &&
            std::get<2>(signature.back()) == group[edge.to])
          std::get<1>(signature.back()) = last;
        else
          signature.emplace_back(first, last, group[edge.to]);
      }
      next[i] =
          known.emplace(std::pair(group[i], std::move(signature)), known.size()).first->second;
    }
    group = std::move(next);
    if (known.size() != groups) {
      groups = known.size();
      continue;
    }
    // The first state keeps its place: groups are numbered as they are met.
    std::vector<State> merged(groups);
    for (const auto& [key, number] : known) {
      for (const auto& [first, last, to] : key.second)
        merged[number].edges.push_back({{first, last}, to});
    }
    for (size_t i = 0; i < states_.size(); ++i) merged[group[i]].accepts = states_[i].accepts;
    states_ = std::move(merged);
    return;
  }
}

}  // namespace hadal
