#include "qkv/explain/attention_page.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "qkv/base/checked.h"
#include "qkv/explain/embed.h"
#include "qkv/io/json.h"
#include "qkv/io/sha256.h"

QKV_EMBED(qkv_attention_page_html, "qkv/explain/attention_page.html");
QKV_EMBED(qkv_attention_page_css, "qkv/explain/attention_page.css");
QKV_EMBED(qkv_attention_page_js, "qkv/explain/attention_page.js");

namespace qkv::explain {
namespace {

constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";  // of base64

std::string base64(std::span<const uint8_t> bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = uint32_t{bytes[i]} << 16;
    if (left > 1) word |= uint32_t{bytes[i + 1]} << 8;
    if (left > 2) word |= uint32_t{bytes[i + 2]};
    for (size_t k = 0; k < 4; ++k) out += k <= left ? kDigits[word >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

// What a content security policy names an inline script by: the hash of what stands between its tags.
std::string policy_hash(std::string_view element) {
  const std::string hex = io::sha256_hex(element);
  std::vector<uint8_t> digest;
  for (size_t i = 0; i < hex.size(); i += 2)
    digest.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return "sha256-" + base64(digest);
}

// JSON that is safe inside <script>: the HTML parser ends the element at "</script", and reads "<!--" and
// "<script" in its own way; without '<' it finds none of them. '>' and '&' go the same way for whoever copies
// the text elsewhere; U+2028 and U+2029 end lines in older JavaScript.
std::string json_for_html(const io::Json& json) {
  const std::string text = io::dump_json(json);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<')
      out += "\\u003c";
    else if (text[i] == '>')
      out += "\\u003e";
    else if (text[i] == '&')
      out += "\\u0026";
    else if (text.compare(i, 3, "\xE2\x80\xA8") == 0)
      out += "\\u2028", i += 2;
    else if (text.compare(i, 3, "\xE2\x80\xA9") == 0)
      out += "\\u2029", i += 2;
    else
      out += text[i];
  }
  return out;
}

io::Json to_json(const std::vector<PageToken>& tokens) {
  io::Json out = io::Json::array();
  for (const PageToken& t : tokens)
    out.push_back({{"text", t.text}, {"joined", t.joined}, {"special", t.special}});
  return out;
}

// A weight is two digits of base64: 12 bits, more than the page shows.
io::Json to_json(const AttentionView& view) {
  const Tensor weights = view.weights.contiguous();
  const std::span<const float> values(weights.data<float>(), static_cast<size_t>(weights.numel()));
  std::string fractions;
  fractions.reserve(values.size() * 2);
  for (const float w : values) {
    const double clamped = w > 0 ? std::min(static_cast<double>(w), 1.0) : 0;  // NaN too is nothing
    const auto fraction = std::lround(clamped * 4095);
    fractions += kDigits[fraction >> 6];
    fractions += kDigits[fraction & 63];
  }
  return {{"name", view.name},
          {"about", view.about},
          {"rows_name", view.rows_name},
          {"columns_name", view.columns_name},
          {"rows", to_json(view.rows)},
          {"columns", to_json(view.columns)},
          {"layers", weights.size(0)},
          {"heads", weights.size(1)},
          {"weights", std::move(fractions)}};
}

void check(const AttentionPage& page) {
  QKV_CHECK(!page.sentences.empty(), kValue, "attention_page: there is no sentence to show");
  int64_t total = 0;
  for (const PageSentence& sentence : page.sentences) {
    QKV_CHECK(!sentence.views.empty(), kValue, "attention_page: sentence \"{}\" has no views",
              sentence.title);
    for (const AttentionView& view : sentence.views) {
      const Tensor& w = view.weights;
      QKV_CHECK(
          w.defined() && w.rank() == 4 && w.numel() > 0 &&
              w.size(2) == static_cast<int64_t>(view.rows.size()) &&
              w.size(3) == static_cast<int64_t>(view.columns.size()),
          kShape,
          "attention_page: view \"{}\": weights are {}, need [n_layers, n_heads, {}, {}], none of them 0",
          view.name, w.defined() ? w.shape().str() : "undefined", view.rows.size(), view.columns.size());
      total = checked_add(total, w.numel(), "attention_page: weights");
    }
  }
  QKV_CHECK(total <= kMostPageWeights, kValue,
            "attention_page: {} weights are more than a page holds ({}); show fewer or shorter sentences",
            total, kMostPageWeights);
}

}  // namespace

std::string attention_page(const AttentionPage& page) {
  check(page);
  io::Json data = {{"title", page.title}, {"model", page.model}, {"sentences", io::Json::array()}};
  for (const PageSentence& sentence : page.sentences) {
    io::Json views = io::Json::array();
    for (const AttentionView& view : sentence.views) views.push_back(to_json(view));
    data["sentences"].push_back({{"title", sentence.title}, {"views", std::move(views)}});
  }

  const auto embedded = [](const char* begin, const char* end) {
    return std::string_view(begin, static_cast<size_t>(end - begin));
  };
  const std::string_view html = embedded(qkv_attention_page_html_begin, qkv_attention_page_html_end);
  const std::string_view style = embedded(qkv_attention_page_css_begin, qkv_attention_page_css_end);
  const std::string_view script = embedded(qkv_attention_page_js_begin, qkv_attention_page_js_end);
  // In the order of their places in the page, so that what is filled in is never searched itself.
  const std::pair<std::string_view, std::string> places[] = {
      {"{{script_hash}}", policy_hash(script)}, {"{{style_hash}}", policy_hash(style)},
      {"{{style}}", std::string(style)},        {"{{data}}", json_for_html(data)},
      {"{{script}}", std::string(script)},
  };
  std::string out;
  size_t at = 0;
  for (const auto& [place, text] : places) {
    const size_t found = html.find(place, at);
    QKV_CHECK(found != html.npos, kInternal, "attention_page: the page has no place for {}", place);
    out.append(html, at, found - at).append(text);
    at = found + place.size();
  }
  return out.append(html, at);
}

}  // namespace qkv::explain
