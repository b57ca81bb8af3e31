#include "qkv/io/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/file.h"
#include "qkv/io/json_events.h"

namespace qkv::io {
namespace {

[[noreturn]] void fail_at(std::string_view text, size_t at, std::string_view where,
                          std::string_view problem) {
  const std::string_view before = text.substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 == 0
  throw_error(ErrorCode::kFormat, "{}: line {}, column {} (byte {}): {}", escape(where, 4096), line,
              before.size() - line_start + 1, at, problem);
}

// What nlohmann's lexer would let pass or pay for, found before it runs: a NUL byte (it takes one for the end
// of the text), a byte-order mark (skipped silently), depth, and tokens it would buffer without bound (it
// forgets its buffer only where a string or a number begins).
void check_before_lexing(std::string_view text, std::string_view where, const JsonLimits& limits) {
  if (text.starts_with("\xef\xbb\xbf"))
    fail_at(text, 0, where, "begins with a byte-order mark; save it as UTF-8 without one");
  int64_t depth = 0;
  size_t token_start = 0;
  bool in_string = false, in_number = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\0') fail_at(text, i, where, "a NUL byte; is this a text file?");
    if (static_cast<int64_t>(i - token_start) > limits.max_string_bytes)
      fail_at(text, i, where,
              fmt::format("{} of more than {} bytes", in_string ? "a string" : "a stretch without a string",
                          limits.max_string_bytes));
    if (in_string) {
      if (c == '\\')
        ++i;  // the next character cannot end the string; NUL there is refused by the lexer
      else if (c == '"')
        in_string = false, token_start = i;
    } else if (c == '"') {
      in_string = true, token_start = i;
    } else if (c == '[' || c == '{') {
      if (++depth > limits.max_depth)
        fail_at(text, i, where, fmt::format("nested deeper than {} levels", limits.max_depth));
    } else if (c == ']' || c == '}') {
      --depth;
    }
    if (in_string) continue;
    const bool digit = (c >= '0' && c <= '9') || c == '-';
    if (digit && !in_number) token_start = i;
    in_number = digit || (in_number && (c == '.' || c == 'e' || c == 'E' || c == '+'));
  }
}

// Reads `text` and keeps count, so that a problem found in an event has a place.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Builds the tree. Unlike nlohmann's own builder it refuses repeated keys and counts what the tree costs.
class TreeBuilder : public JsonEvents {
 public:
  explicit TreeBuilder(int64_t max_memory) : max_memory_(max_memory) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr, kBareBytes); }
  bool boolean(bool value) override { return add(value, kBareBytes); }
  bool number_integer(number_integer_t value) override { return add(value, kBareBytes); }
  bool number_unsigned(number_unsigned_t value) override { return add(value, kBareBytes); }
  bool number_float(number_float_t value, const string_t&) override { return add(value, kBareBytes); }
  bool string(string_t& value) override {
    const int64_t bytes = 48 + heap_bytes(value);
    return add(std::move(value), bytes);
  }
  bool start_object(std::size_t) override { return open(Json::value_t::object, 64); }
  bool start_array(std::size_t) override { return open(Json::value_t::array, 32); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& object = open_.back()->get_ref<Json::object_t&>();
    const auto [place, is_new] = object.emplace(name, nullptr);
    if (!is_new) return refuse(fmt::format("the key {} is repeated", quote(name)));
    slot_ = &place->second;
    return spend(96 + heap_bytes(name));
  }

 private:
  // One element of an array, with the vector's room to grow; for values that are nothing else also the copy
  // that exists while it grows.
  static constexpr int64_t kValueBytes = 2 * sizeof(Json), kBareBytes = sizeof(Json);

  // What a std::string keeps outside itself.
  static int64_t heap_bytes(const std::string& text) {
    return text.size() < 16 ? 0 : 24 + static_cast<int64_t>(text.size());
  }

  bool spend(int64_t bytes) {
    spent_ += bytes;
    return spent_ <= max_memory_ ||
           refuse(fmt::format("takes more than {} bytes of memory when parsed", max_memory_));
  }

  Json* place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.get_ref<Json::array_t&>().emplace_back(std::move(value));
    return &(*slot_ = std::move(value));
  }

  bool add(Json value, int64_t bytes) {
    place(std::move(value));
    return spend(kValueBytes + bytes);
  }
  bool open(Json::value_t type, int64_t bytes) {
    open_.push_back(place(Json(type)));
    return spend(kValueBytes + bytes);
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // the arrays and objects being filled; only the last one grows
  Json* slot_ = nullptr;     // where the value of the key just read goes
  int64_t max_memory_, spent_ = 0;
};

}  // namespace

bool JsonEvents::parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing ...": the
  // place is ours to say.
  std::string_view text = error.what();
  if (const size_t bracket = text.find("] "); bracket != text.npos) text.remove_prefix(bracket + 2);
  if (text.starts_with("parse error"))
    if (const size_t colon = text.find(": "); colon != text.npos) text.remove_prefix(colon + 2);
  return refuse(escape(text));
}

void parse_json_events(std::string_view text, std::string_view where, const JsonLimits& limits,
                       JsonEvents& events) {
  check_before_lexing(text, where, limits);
  const char* const begin = text.data();
  const char* furthest = begin;
  const CountingIterator first(begin, &furthest), last(begin + text.size(), &furthest);
  if (!Json::sax_parse(first, last, &events, nlohmann::detail::input_format_t::json, /*strict=*/true))
    fail_at(text, furthest == begin ? 0 : static_cast<size_t>(furthest - begin - 1), where, events.problem());
}

Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  TreeBuilder builder(limits.max_memory);
  parse_json_events(text, where, limits, builder);
  return builder.take();
}

Json read_json(const std::string& path, int64_t max_bytes, const JsonLimits& limits) {
  return parse_json(read_file(path, max_bytes), path, limits);
}

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace qkv::io
