#include "line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "text/tokenizer/utf8.h"

namespace hadal::app {
namespace {

constexpr std::wstring_view kPasteEnd = L"\033[201~";

/// The user's locale if it is a UTF-8 one, else any: terminals of today are UTF-8 even where the
/// locale is C.
locale_t utf8_locale() {
  for (const char* name : {"", "C.UTF-8", "en_US.UTF-8"}) {
    const locale_t locale = ::newlocale(LC_CTYPE_MASK, name, nullptr);
    if (!locale) continue;
    if (std::string_view(::nl_langinfo_l(CODESET, locale)) == "UTF-8") return locale;
    ::freelocale(locale);
  }
  return nullptr;
}

/// libedit converts by the thread's locale. It is changed for the time of a call only: the rest of
/// the program must not depend on it.
class LocaleScope {
 public:
  explicit LocaleScope(locale_t locale) : before_(locale ? ::uselocale(locale) : nullptr) {}
  ~LocaleScope() {
    if (before_) ::uselocale(before_);
  }
  LocaleScope(const LocaleScope&) = delete;
  LocaleScope& operator=(const LocaleScope&) = delete;

 private:
  locale_t before_;
};

/// libedit's own reader drops what its locale cannot convert; without any UTF-8 locale this one
/// takes its place.
int read_character(EditLine*, wchar_t* character) {
  std::string bytes;
  for (;;) {
    char byte = 0;
    const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return static_cast<int>(count);
    bytes += byte;
    const Utf8Step step = utf8_step(bytes);
    if (step.kind == Utf8Step::kIncomplete) continue;
    *character = static_cast<wchar_t>(step.code);
    if (step.kind == Utf8Step::kValid) return 1;
    bytes.clear();
  }
}

unsigned char insert(EditLine* editor, const std::wstring& text) {
  return text.empty() || el_winsertstr(editor, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

unsigned char insert_newline(EditLine* editor, wint_t) { return insert(editor, L"\n"); }

/// Reads up to the end of a bracketed paste. A terminal sends the ends of its lines as Enter does,
/// as carriage returns.
unsigned char insert_paste(EditLine* editor, wint_t) {
  std::wstring text;
  while (!text.ends_with(kPasteEnd)) {
    wchar_t c = 0;
    if (el_wgetc(editor, &c) != 1) return CC_EOF;
    if (c == L'\n' && text.ends_with(L'\r'))
      text.back() = c;
    else if (c != 0)
      text += c;
  }
  text.resize(text.size() - kPasteEnd.size());
  for (wchar_t& c : text)
    if (c == L'\r') c = L'\n';
  return insert(editor, text);
}

void bind(EditLine* editor, const wchar_t* keys, const wchar_t* name,
          unsigned char (*function)(EditLine*, wint_t)) {
  el_wset(editor, EL_ADDFN, name, L"", function);
  el_wset(editor, EL_BIND, keys, name, nullptr);
}

bool strip_end(std::wstring& text, wchar_t end) {
  const bool has = text.ends_with(end);
  if (has) text.pop_back();
  return has;
}

}  // namespace

LineEditor::LineEditor()
    : screen_(::isatty(STDOUT_FILENO) != 0 ? stdout : stderr), utf8_(utf8_locale()) {
  const LocaleScope scope(utf8_);
  struct sigaction ignore{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGINT, &ignore, &before_);
  editor_ = el_init("hadal", stdin, screen_, stderr);
  history_ = history_winit();
  HistEventW event;
  history_w(history_, &event, H_SETSIZE, 500);
  el_wset(editor_, EL_HIST, history_w, history_);
  el_wset(editor_, EL_CLIENTDATA, this);
  el_wset(editor_, EL_PROMPT, prompt);
  el_wset(editor_, EL_EDITOR, L"emacs");
  el_wset(editor_, EL_SIGNAL, 1);  // suspend, resize
  if (!utf8_) el_wset(editor_, EL_GETCFN, read_character);
  // Ctrl-C arrives as a character instead of a signal, and the ends of lines as they are. libedit
  // takes over the terminal's characters when it first enters raw mode, so that comes before.
  el_wset(editor_, EL_PREP_TERM, 1);
  el_wset(editor_, EL_SETTY, L"-d", L"intr=", L"-icrnl", L"-inlcr", nullptr);
  el_wset(editor_, EL_PREP_TERM, 0);
  bind(editor_, L"\x03", L"hadal-clear", clear);
  bind(editor_, L"\033\r", L"hadal-newline", insert_newline);
  bind(editor_, L"\033\n", L"hadal-newline", insert_newline);
  bind(editor_, L"\033[200~", L"hadal-paste", insert_paste);
  const char* terminal = nullptr;
  el_get(editor_, EL_TERMINAL, &terminal);
  // It stays on during answers: what is pasted then waits as one piece, too.
  bracketed_ = terminal && std::string_view(terminal) != "dumb";
  if (bracketed_) std::fputs("\033[?2004h", screen_);
}

LineEditor::~LineEditor() {
  if (bracketed_) std::fputs("\033[?2004l", screen_);
  std::fflush(screen_);
  history_wend(history_);
  el_end(editor_);
  ::sigaction(SIGINT, &before_, nullptr);
  if (utf8_) ::freelocale(utf8_);
}

wchar_t* LineEditor::prompt(editline* editor) {
  static wchar_t first[] = L">>> ", later[] = L"... ";
  void* self = nullptr;
  el_wget(editor, EL_CLIENTDATA, &self);
  return static_cast<LineEditor*>(self)->continued_ ? later : first;
}

unsigned char LineEditor::clear(editline* editor, wint_t) {
  void* self = nullptr;
  el_wget(editor, EL_CLIENTDATA, &self);
  static_cast<LineEditor*>(self)->cleared_ = true;
  const LineInfoW* line = el_wline(editor);
  el_cursor(editor, static_cast<int>(line->lastchar - line->cursor));
  el_wset(editor, EL_REFRESH);
  return CC_NEWLINE;
}

std::optional<std::string> LineEditor::read() {
  const LocaleScope scope(utf8_);
  std::wstring question;
  continued_ = false;
  for (;;) {
    cleared_ = false;
    int count = 0;
    el_wset(editor_, EL_PREP_TERM, 1);  // before the prompt invites to type
    errno = 0;
    const wchar_t* line = el_wgets(editor_, &count);
    if (cleared_ || (!line && errno == EINTR)) {
      std::fputs("^C\n", screen_);
      question.clear();
      continued_ = false;
      continue;
    }
    if (!line || count <= 0) return std::nullopt;
    question.append(line, static_cast<size_t>(count));
    strip_end(question, L'\n');
    continued_ = strip_end(question, L'\\');
    if (!continued_) break;
    question += L'\n';
  }
  while (strip_end(question, L'\n')) continue;
  std::string text;
  for (const wchar_t c : question) utf8_append(text, static_cast<char32_t>(c));
  HistEventW event;
  if (!question.empty()) history_w(history_, &event, H_ENTER, question.c_str());
  return text;
}

}  // namespace hadal::app
