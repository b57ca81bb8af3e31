#include "apps/cli/translate_output.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "qkv/explain/alignment.h"
#include "qkv/explain/terminal_map.h"
#include "qkv/explain/words.h"
#include "qkv/io/json.h"

namespace qkv::cli {
namespace {

int64_t terminal_width() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40 ? size.ws_col : 100;
}

bool terminal_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0')
      return strcasestr(value, "utf-8") != nullptr || strcasestr(value, "utf8") != nullptr;
  return false;
}

// no-color.org; and a terminal that knows no escapes says so itself.
bool terminal_has_colors() {
  const char* none = std::getenv("NO_COLOR");
  const char* kind = std::getenv("TERM");
  return (none == nullptr || *none == '\0') && kind != nullptr && std::strcmp(kind, "dumb") != 0;
}

std::vector<std::string> pieces(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::vector<std::string> out;
  for (int32_t id : ids) out.push_back(tokenizer.is_special(id) ? "" : tokenizer.piece_text(id));
  return out;
}

struct Alignment {
  explain::Words source, target;
  Tensor weights;  // [target words, source words]
  std::vector<explain::Link> links;
};

// The mean over all layers and heads. One head may watch the next word, another the end of the sentence;
// their mean has its weight on the word that is being translated more often than any fixed head.
Alignment align(const Translator& translator, const Translation& result, explain::WordRule rule) {
  const AttentionMaps attention =
      translator.explain(result.source_ids, result.n_best.front().hypothesis.ids, {"cross"});
  const Tensor& cross = attention.cross;
  const int64_t maps = cross.size(0) * cross.size(1), tgt = cross.size(2), src = cross.size(3);
  const Tensor mean = Tensor::zeros({tgt, src}, DType::kF32);
  for (int64_t m = 0; m < maps; ++m)
    for (int64_t i = 0; i < tgt * src; ++i)
      mean.data<float>()[i] += cross.data<float>()[m * tgt * src + i] / static_cast<float>(maps);
  Alignment a{.source = explain::group_words(
                  pieces(*translator.model().source_tokenizer, attention.source_ids), rule),
              .target = explain::group_words(
                  pieces(*translator.model().target_tokenizer, attention.target_ids), rule)};
  a.weights = explain::word_attention(mean, a.target, a.source, true);
  a.links = explain::hard_alignment(a.weights);
  return a;
}

std::string as_json(const std::string& source, const Translation& result, const Alignment* alignment) {
  nlohmann::ordered_json line = {{"source", source}, {"translation", result.text()}};
  line["score"] = result.n_best.empty() ? nlohmann::ordered_json(nullptr)
                                        : nlohmann::ordered_json(result.n_best.front().score);
  line["n_best"] = nlohmann::ordered_json::array();
  for (const auto& c : result.n_best) line["n_best"].push_back({{"text", c.text}, {"score", c.score}});
  if (alignment != nullptr) {
    line["alignment"] = explain::pharaoh(alignment->links);
    line["source_words"] = alignment->source.words;
    line["target_words"] = alignment->target.words;
    auto& rows = line["attention"] = nlohmann::ordered_json::array();
    for (int64_t r = 0; r < alignment->weights.size(0); ++r)
      rows.push_back(alignment->weights.rows(r, r + 1).values());
  }
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::vector<explain::PageToken> page_tokens(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::vector<explain::PageToken> out;
  for (int32_t id : ids) {
    std::string text = tokenizer.piece_text(id);
    const bool special = tokenizer.is_special(id), blank = text.starts_with(' ');
    if (special) text = std::string(tokenizer.piece(id));
    out.push_back({.text = blank ? text.substr(1) : text,
                   .joined = !blank && !special && !out.empty(),
                   .special = special});
  }
  return out;
}

}  // namespace

std::string format_translation(const Translator& translator, const std::string& source,
                               const Translation& result, const OutputOptions& o) {
  const bool empty = result.n_best.empty();
  std::unique_ptr<Alignment> alignment;
  // Of a line that was cut the parts were translated one by one: there is no one attention to show.
  // Pairs count words between blanks, as the tools that read them do; a picture is clearer with its full stop
  // apart.
  const explain::WordRule rule =
      o.draw && !o.json ? explain::WordRule::kPunctuation : explain::WordRule::kWhitespace;
  if (o.align && !empty && !result.was_cut)
    alignment = std::make_unique<Alignment>(align(translator, result, rule));
  if (o.json) {
    const std::string line = as_json(source, result, alignment.get());
    return (o.printable ? explain::printable(line) : line) + "\n";
  }
  if (empty) return "\n";

  std::string out;
  const auto candidate = [&](const Translation::Candidate& c, bool with_score) {
    out += o.printable ? explain::printable(c.text) : c.text;
    if (with_score) out += fmt::format("{}{:.4f}", o.n_best > 0 ? " ||| " : "\t", c.score);
    if (alignment && !o.draw && &c == &result.n_best.front())
      out += " ||| " + explain::pharaoh(alignment->links);
    out += "\n";
  };
  if (o.n_best > 0) {
    for (const auto& c : result.n_best) candidate(c, true);
    out += "\n";
  } else {
    candidate(result.n_best.front(), o.scores);
  }
  if (alignment && o.draw)
    out += "\n" +
           explain::terminal_map(alignment->weights, alignment->target.words, alignment->source.words,
                                 {.width = terminal_width(),
                                  .unicode = terminal_is_utf8(),
                                  .color = o.color && terminal_has_colors()}) +
           "\n";
  return out;
}

explain::AttentionPage new_page(const Translator& translator, const std::string& model) {
  const TransformerConfig& c = translator.model().transformer->config();
  // The folder's own name: a page is made to be passed on, and where it was made is nobody's business.
  const std::filesystem::path path = (std::filesystem::path(model) / "").parent_path();
  return {
      .title = "What each word looked at",
      .model = fmt::format("{}: {} + {} layers, {} heads, d_model {}, {:.1f} M parameters",
                           path.filename().string(), c.encoder_layers, c.decoder_layers, c.n_heads, c.d_model,
                           static_cast<double>(translator.model().transformer->parameters().numel()) / 1e6),
      .sentences = {}};
}

OnPage add_to_page(explain::AttentionPage& page, const Translator& translator, const std::string& source,
                   const Translation& result) {
  if (result.n_best.empty()) return OnPage::kNothing;
  if (result.was_cut) return OnPage::kCut;
  if (page.sentences.size() >= kPageSentences) return OnPage::kFull;
  const AttentionMaps maps = translator.explain(result.source_ids, result.n_best.front().hypothesis.ids);
  int64_t weights = maps.cross.numel() + maps.encoder.numel() + maps.decoder.numel();
  for (const explain::PageSentence& sentence : page.sentences)
    for (const explain::AttentionView& view : sentence.views) weights += view.weights.numel();
  if (weights > explain::kMostPageWeights) return OnPage::kFull;

  const std::vector<explain::PageToken> from = page_tokens(*translator.model().source_tokenizer,
                                                           maps.source_ids),
                                        to = page_tokens(*translator.model().target_tokenizer,
                                                         maps.target_ids);
  std::vector<explain::PageToken> read = {{.text = "start", .joined = false, .special = true}};
  read.insert(read.end(), to.begin(), to.end() - 1);
  page.sentences.push_back(
      {.title = source,
       .views = {
           {.name = "Translation looks at source",
            .about = "To choose each word of the translation, the model looks at the words of the source.",
            .rows_name = "Translation",
            .columns_name = "Source",
            .rows = to,
            .columns = from,
            .weights = maps.cross},
           {.name = "Source looks at itself",
            .about = "Before it translates, the model reads the source: each word looks at all the words, "
                     "and takes in what they say about it.",
            .rows_name = "Source, looking",
            .columns_name = "Source, looked at",
            .rows = from,
            .columns = from,
            .weights = maps.encoder},
           {.name = "Translation looks at itself",
            .about = "To choose each word of the translation, the model also looks back at what it has "
                     "written before. Later words are not there yet: the upper right is empty.",
            .rows_name = "Translation",
            .columns_name = "Written before",
            .rows = to,
            .columns = read,
            .weights = maps.decoder}}});
  return OnPage::kYes;
}

}  // namespace qkv::cli
