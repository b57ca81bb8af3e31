#define PCRE2_CODE_UNIT_WIDTH 8
#include "qkv/text/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <chrono>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

constexpr size_t kMaxPattern = 64 << 10;
constexpr size_t kJitStack = 1 << 20;
constexpr uint32_t kHeapLimitKib = 64 << 10;

// Bytes in which one call of PCRE2 may look for the beginning of a match, so that the clock is seen in
// between: /a*b/ costs n steps from every one of n beginnings, and its step limit is one for each beginning.
constexpr size_t kWindow = 1024;

std::string message_of(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

// Oniguruma's spelling of a pattern in PCRE2's.
class Translator {
 public:
  Translator(std::string_view in, const std::string& where) : in_(in), where_(where) {}

  std::string run() {
    while (i_ < in_.size()) {
      if (in_[i_] == '\\') {
        escape();
      } else if (in_set_) {
        set_character();
      } else {
        if (in_[i_] == '[')
          open_set();
        else
          out_ += in_[i_++];
      }
    }
    return std::move(out_);
  }

 private:
  void open_set() {
    in_set_ = true;
    out_ += in_[i_++];
    if (i_ < in_.size() && in_[i_] == '^') out_ += in_[i_++];
    if (i_ < in_.size() && in_[i_] == ']') out_ += "\\]", ++i_;  // a first ] is a member
  }

  void set_character() {
    const char c = in_[i_];
    if (c == '[' && in_.substr(i_, 2) == "[:") {  // [:alpha:] reads the same in both
      const size_t end = in_.find(":]", i_ + 2);
      if (end != std::string_view::npos) {
        out_ += in_.substr(i_, end + 2 - i_);
        i_ = end + 2;
        return;
      }
    }
    if (c == '[') refuse("a set inside a set");
    if (in_.substr(i_, 2) == "&&") refuse("the set operation &&");
    if (c == ']') in_set_ = false;
    out_ += in_[i_++];
  }

  void escape() {
    if (i_ + 1 >= in_.size()) {  // a lone backslash at the end: PCRE2 says so
      out_ += in_[i_++];
      return;
    }
    const char c = in_[i_ + 1];
    i_ += 2;
    const std::string word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
    switch (c) {
      case 's':
        out_ += "\\p{White_Space}";
        break;
      case 'S':
        out_ += "\\P{White_Space}";
        break;
      case 'w':
        out_ += in_set_ ? word : "[" + word + "]";
        break;
      case 'W':
        if (in_set_) refuse("\\W inside a set");
        out_ += "[^" + word + "]";
        break;
      case 'h':
        out_ += in_set_ ? "0-9a-fA-F" : "[0-9a-fA-F]";
        break;
      case 'H':
        if (in_set_) refuse("\\H inside a set");
        out_ += "[^0-9a-fA-F]";
        break;
      case 'u':
        out_ += "\\x{" + std::string(in_.substr(i_, 4)) + "}";
        i_ = std::min(in_.size(), i_ + 4);
        break;
      default:
        out_ += '\\', out_ += c;
    }
  }

  [[noreturn]] void refuse(const char* what) const {
    throw_error(ErrorCode::kUnsupported,
                "{}: regular expression {}: uses {} at byte {}, which qkv cannot match", where_, quote(in_),
                what, i_);
  }

  std::string_view in_;
  const std::string& where_;
  std::string out_;
  size_t i_ = 0;
  bool in_set_ = false;
};

// What a thread needs to match with; made once for each.
struct Workspace {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStack, nullptr);

  Workspace() {
    QKV_CHECK(data && context && stack, kInternal, "regular expressions: out of memory for a workspace");
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_heap_limit(context, kHeapLimitKib);
  }
  ~Workspace() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

class Deadline {
 public:
  explicit Deadline(size_t bytes)
      : end_(Clock::now() + std::chrono::milliseconds(500) + std::chrono::microseconds(5 * bytes)) {}
  bool passed() const { return Clock::now() > end_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point end_;
};

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string pattern, const std::string& where)
    : pattern_(std::move(pattern)), code_(std::make_unique<Code>()) {
  QKV_CHECK(pattern_.size() <= kMaxPattern, kFormat, "{}: regular expression of {} bytes, {} are allowed",
            where, pattern_.size(), kMaxPattern);
  const std::string translated = Translator(pattern_, where).run();
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  QKV_CHECK(context != nullptr, kInternal, "{}: out of memory for a regular expression", where);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE at = 0;
  code_->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, &error, &at,
      context.get());
  QKV_CHECK(code_->code, kFormat, "{}: regular expression {}: {} at byte {}", where, quote(pattern_),
            message_of(error), at);
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where it cannot, matching is slower, not different
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;

void Regex::find_all(std::string_view text, std::vector<Span>& out) const {
  thread_local Workspace workspace;
  out.clear();
  const Deadline deadline(text.size());
  pcre2_set_match_limit(workspace.context,
                        static_cast<uint32_t>(std::min<size_t>(1'000'000 + 16 * text.size(), UINT32_MAX)));
  const auto next_character = [&](size_t i) { return i + static_cast<size_t>(utf8::step(text, i).length); };

  for (size_t start = 0; start < text.size();) {
    size_t last = std::min(text.size(), start + kWindow);  // where a match may begin at the latest
    while (last < text.size() && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) ++last;
    pcre2_set_offset_limit(workspace.context, last);
    const auto match = [&](uint32_t options) {
      return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                         PCRE2_NO_UTF_CHECK | options, workspace.data, workspace.context);
    };
    int found = match(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);  // has a heap to go on with

    if (found == PCRE2_ERROR_NOMATCH) {
      if (last == text.size()) break;
      start = next_character(last);
    } else if (found < 0) {
      throw_error(ErrorCode::kUnsupported, "regular expression {}: gives up on a text of {} bytes at byte {}: {}",
                  quote(pattern_), text.size(), start, message_of(found));
    } else {
      const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(workspace.data);
      const size_t begin = ends[0], end = ends[1];
      if (begin > end || end < start) break;  // \K in a look-around can end a match before its beginning
      out.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      if (end > begin)
        start = end;
      else if (end < text.size())
        start = next_character(end);
      else
        break;
    }
    QKV_CHECK(!deadline.passed(), kUnsupported,
              "regular expression {}: takes too long on a text of {} bytes (stopped at byte {})",
              quote(pattern_), text.size(), start);
  }
}

}  // namespace qkv::text
