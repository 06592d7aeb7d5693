#include "text/tokenizer/pretokenizer.h"

#include <algorithm>
#include <stdexcept>

#include "text/tokenizer/vocab.h"

namespace hadal {
namespace {

struct Marked {
  Piece piece;
  bool match = false;
};

/// The piece as matches and what lies between, in order.
void mark(const PreTokenizerStep& step, std::string_view text, Piece piece,
          Pattern::Scratch& scratch, std::vector<Piece>& found, std::vector<Marked>& out) {
  found.clear();
  out.clear();
  step.pattern[0].find(text, piece, scratch, found);
  size_t done = piece.begin;
  for (const Piece& match : found) {
    if (match.begin > done) out.push_back({{done, match.begin}, step.invert});
    out.push_back({match, !step.invert});
    done = match.end;
  }
  if (done < piece.end) out.push_back({{done, piece.end}, step.invert});
}

/// Joins neighbours as the behaviour asks and appends what is not empty.
void join(const std::vector<Marked>& marked, SplitBehavior behavior, std::vector<Piece>& out) {
  const size_t first = out.size();
  const auto put = [&](const Piece& piece) { out.push_back(piece); };
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Marked& m : marked)
        if (!m.match) put(m.piece);
      break;
    case SplitBehavior::kIsolated:
      for (const Marked& m : marked) put(m.piece);
      break;
    case SplitBehavior::kContiguous:
      for (size_t i = 0; i < marked.size(); ++i) {
        if (i > 0 && marked[i].match == marked[i - 1].match) {
          out.back().end = marked[i].piece.end;
        } else {
          put(marked[i].piece);
        }
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (size_t i = 0; i < marked.size(); ++i) {
        if (i > 0 && marked[i].match && !marked[i - 1].match) {
          out.back().end = marked[i].piece.end;
        } else {
          put(marked[i].piece);
        }
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (size_t i = 0; i < marked.size(); ++i) {
        if (i > 0 && marked[i - 1].match && !marked[i].match) {
          out.back().end = marked[i].piece.end;
        } else {
          put(marked[i].piece);
        }
      }
      break;
  }
  std::erase_if(out, [at = size_t{0}, first](const Piece& piece) mutable {
    return at++ >= first && piece.begin == piece.end;
  });
}

void split_all(const PreTokenizerStep& step, const std::string& text, Pattern::Scratch& scratch,
               std::vector<Piece>& pieces) {
  std::vector<Piece> out, found;
  std::vector<Marked> marked;
  std::vector<Piece> joined;
  out.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    mark(step, text, piece, scratch, found, marked);
    joined.clear();
    join(marked, step.behavior, joined);
    out.insert(out.end(), joined.begin(), joined.end());
  }
  pieces.swap(out);
}

void rewrite(PreTokenizer::Words& words, bool prefix_space, bool spell) {
  const ByteAlphabet& alphabet = ByteAlphabet::get();
  std::string text;
  text.reserve(words.text.size() + words.pieces.size());
  for (Piece& piece : words.pieces) {
    const size_t begin = text.size();
    if (prefix_space && words.text[piece.begin] != ' ') text.push_back(' ');
    const std::string_view old =
        std::string_view(words.text).substr(piece.begin, piece.end - piece.begin);
    text += spell ? alphabet.spelled(old) : std::string(old);
    piece = {begin, text.size()};
  }
  words.text = std::move(text);
}

}  // namespace

PreTokenizer::Words PreTokenizer::split(std::string text, Pattern::Scratch& scratch) const {
  Words words;
  const size_t limit = 1024 + 16 * text.size();
  words.text = std::move(text);
  if (!words.text.empty()) words.pieces.push_back({0, words.text.size()});
  for (size_t i = 0; i < steps.size(); ++i) {
    const PreTokenizerStep& step = steps[i];
    if (step.prefix_space) rewrite(words, true, false);
    if (!step.pattern.empty()) split_all(step, words.text, scratch, words.pieces);
    if (!step.byte_level) continue;
    words.bytes = i + 1 == steps.size();
    if (!words.bytes) rewrite(words, false, true);
    if (words.text.size() > limit)
      throw std::runtime_error("the pre-tokenizer makes too much of a text");
  }
  return words;
}

}  // namespace hadal
