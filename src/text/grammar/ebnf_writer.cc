#include "text/grammar/ebnf_writer.h"

#include <fmt/format.h>

#include <map>

#include "text/grammar/limits.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

/// What a JSON string must escape.
const CharSet kEscaped = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};

/// One character for a literal or a class.
std::string spelled(char32_t c) {
  const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == ' ' || c == '_';
  if (plain) return {static_cast<char>(c)};
  if (c < 0x10000) return fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
  return fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
}

std::string json_escape(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
  }
}

/// One character of `chars`, as alternatives.
std::string one_of(const CharSet& chars, Spelling spelling) {
  const CharSet raw = spelling == Spelling::kPlain ? chars : chars.without(kEscaped);
  std::string out;
  const auto also = [&](const std::string& choice) { out += (out.empty() ? "" : " | ") + choice; };
  if (!raw.empty()) also(EbnfWriter::chars(raw));
  const CharSet escaped = spelling == Spelling::kInJsonString ? chars.both(kEscaped) : CharSet();
  for (const CharRange& range : escaped.ranges())
    for (char32_t c = range.first; c <= range.last; ++c) also(EbnfWriter::literal(json_escape(c)));
  return out.find(" | ") == std::string::npos ? out : "(" + out + ")";
}

}  // namespace

bool EbnfWriter::too_large() const {
  return rules_ > grammar_limits::kRules || text_.size() > grammar_limits::kGrammarBytes;
}

std::string EbnfWriter::literal(std::string_view text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) out += spelled(utf8_next(text, at));
  return out + "\"";
}

std::string EbnfWriter::chars(const CharSet& chars) {
  if (const int64_t c = chars.single(); c >= 0)
    return "\"" + spelled(static_cast<char32_t>(c)) + "\"";
  std::string out = "[";
  for (const CharRange& range : chars.ranges()) {
    out += spelled(range.first);
    if (range.last > range.first) out += "-" + spelled(range.last);
  }
  return out + "]";
}

std::string EbnfWriter::automaton(const Automaton& automaton, Spelling spelling,
                                  std::string_view hint) {
  const std::vector<Automaton::State>& states = automaton.states();
  // A state with one character to one other, and entered once, is written into what leads there.
  std::vector<int> entered(states.size());
  for (const Automaton::State& state : states)
    for (const Automaton::Edge& edge : state.edges) ++entered[edge.to];
  const std::string first = name(hint);
  const auto name_of = [&](size_t i) { return i == 0 ? first : first + "s" + std::to_string(i); };
  const auto in_line = [&](size_t i) {
    return i != 0 && entered[i] == 1 && !states[i].accepts && states[i].edges.size() == 1 &&
           states[i].edges[0].to != i;
  };
  for (size_t i = 0; i < states.size(); ++i) {
    if (in_line(i)) continue;
    std::map<size_t, CharSet> by_target;
    for (const Automaton::Edge& edge : states[i].edges)
      by_target[edge.to].add(edge.chars.first, edge.chars.last);
    std::string body = states[i].accepts ? "\"\"" : "";
    for (const auto& [target, set] : by_target) {
      body += (body.empty() ? "" : " | ") + one_of(set, spelling);
      size_t to = target;
      while (in_line(to) && to != i) {
        const Automaton::Edge& edge = states[to].edges[0];
        body += " " + one_of(CharSet{{edge.chars}}, spelling);
        to = edge.to;
      }
      const bool ends = states[to].accepts && states[to].edges.empty();
      if (!ends) body += " " + name_of(to);
    }
    if (i == 0 || !(states[i].accepts && states[i].edges.empty())) rule(name_of(i), body);
  }
  return first;
}

}  // namespace hadal
