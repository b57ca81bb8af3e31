#include "qkv/tasks/translator.h"

#include <algorithm>
#include <numeric>

#include "qkv/base/trace.h"
#include "qkv/decode/beam.h"
#include "qkv/tasks/transformer_step_model.h"
#include "qkv/text/line_reader.h"
#include "qkv/text/utf8.h"

namespace qkv {
namespace {

// One piece of work for the search: a line, or a part of a line that was too long.
struct Item {
  int64_t line = 0;
  std::vector<int32_t> ids;
  bool first = true;  // of its line: the part that a forced prefix is for
};

}  // namespace

const std::string& Translation::text() const {
  static const std::string nothing;
  return n_best.empty() ? nothing : n_best.front().text;
}

Translator::Translator(TranslationModel model, const TranslateOptions& options)
    : model_(std::move(model)), options_(options) {
  const TransformerConfig& config = model_.transformer->config();
  if (options_.precision.int8) model_.transformer->parameters().run_in_int8();
  options_.search.start_id = config.start_id;
  options_.search.eos_id = config.eos_id;
  options_.search.pad_id = config.pad_id;
  // A token that ends a line would move every later line away from its source; <unk> says nothing, and so
  // does an id without a piece: a gap in the vocabulary, or a row that pads the embedding.
  const Tokenizer& target = *model_.target_tokenizer;
  for (int32_t id = 0; id < static_cast<int32_t>(config.target_vocab()); ++id)
    if (!target.has_piece(id) || target.piece_text(id).find_first_of("\n\r") != std::string::npos)
      options_.search.banned_ids.push_back(id);
  if (const auto unknown = target.id_of("<unk>")) options_.search.banned_ids.push_back(*unknown);
  options_.search.max_length = std::min(options_.search.max_length, config.max_len);
  options_.max_source_tokens = std::clamp<int64_t>(options_.max_source_tokens, 2, config.max_len);
  for (const std::string& prefix : options_.prefix) {
    QKV_CHECK(prefix.find_first_of("\n\r") == std::string::npos, kValue,
              "translate: --prefix holds a line end; a translation is one line");
    if (const auto bad = utf8::first_invalid(prefix))
      throw_error(ErrorCode::kValue, "translate: --prefix is not UTF-8 at byte {}", *bad + 1);
  }
  QKV_CHECK(options_.batch_sentences > 0, kValue, "translate: batch_sentences is {}, needs to be positive",
            options_.batch_sentences);
}

// Parts of at most max_source_tokens with an end token each, cut before a word where there is one.
std::vector<std::vector<int32_t>> Translator::cut(const std::vector<int32_t>& ids) const {
  const int64_t limit = options_.max_source_tokens;
  if (static_cast<int64_t>(ids.size()) <= limit) return {ids};
  const Tokenizer& tokenizer = *model_.source_tokenizer;
  const int32_t eos = model_.transformer->config().eos_id;
  std::vector<std::vector<int32_t>> parts;
  size_t begin = 0;
  const size_t n = ids.size() - (ids.back() == eos ? 1 : 0);
  while (begin < n) {
    size_t end = std::min(n, begin + static_cast<size_t>(limit) - 1);
    if (end < n) {
      size_t word = end;
      while (word > begin && !tokenizer.piece_text(ids[word]).starts_with(' ')) --word;
      if (word > begin) end = word;
    }
    parts.emplace_back(ids.begin() + begin, ids.begin() + end);
    parts.back().push_back(eos);
    begin = end;
  }
  return parts;
}

std::vector<Translation> Translator::translate(const std::vector<std::string>& lines) const {
  QKV_CHECK(options_.prefix.size() <= 1 || options_.prefix.size() == lines.size(), kValue,
            "translate: {} prefixes for {} lines", options_.prefix.size(), lines.size());
  std::vector<Translation> results(lines.size());
  std::vector<Item> items;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (const auto bad = utf8::first_invalid(lines[i]))
      throw_error(
          ErrorCode::kValue,
          "translate: line {} is not UTF-8 at byte {}; convert it first, for example with iconv -t UTF-8",
          i + 1, *bad + 1);
    if (is_blank(lines[i])) continue;
    Translation& result = results[i];
    result.source_ids = model_.source_tokenizer->encode(lines[i]);
    auto parts = cut(result.source_ids);
    result.was_cut = parts.size() > 1;
    for (auto& ids : parts)
      items.push_back(
          {.line = static_cast<int64_t>(i), .ids = std::move(ids), .first = &ids == &parts.front()});
  }

  // Neighbours in length finish together; the order does not show in the output.
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return items[a].ids.size() > items[b].ids.size(); });

  std::vector<decode::NBest> found(items.size());
  for (size_t begin = 0; begin < order.size(); begin += static_cast<size_t>(options_.batch_sentences)) {
    const size_t end = std::min(order.size(), begin + static_cast<size_t>(options_.batch_sentences));
    const trace::Span span("batch");
    span.note([&] { return fmt::format("{} sentences", end - begin); });
    std::vector<std::vector<int32_t>> sources;
    decode::SearchOptions search = options_.search;
    for (size_t k = begin; k < end; ++k) {
      const Item& item = items[order[k]];
      sources.push_back(item.ids);
      if (!options_.prefix.empty()) {
        const std::string& prefix =
            options_.prefix[options_.prefix.size() == 1 ? 0 : static_cast<size_t>(item.line)];
        search.prefixes.push_back(prefix.empty() || !item.first
                                      ? std::vector<int32_t>{}
                                      : model_.target_tokenizer->encode(prefix, false));
      }
    }
    TransformerStepModel step_model(*model_.transformer, sources, options_.precision.dtype,
                                    options_.head_controls);
    std::vector<decode::NBest> batch = decode::beam_search(step_model, search);
    for (size_t k = begin; k < end; ++k) found[order[k]] = std::move(batch[k - begin]);
  }

  for (size_t k = 0; k < items.size(); ++k) {
    Translation& result = results[static_cast<size_t>(items[k].line)];
    const bool first = items[k].first;
    // A candidate of the whole line needs a candidate of every part.
    if (!first) result.n_best.resize(std::min(result.n_best.size(), found[k].size()));
    for (size_t c = 0; c < found[k].size(); ++c) {
      decode::Hypothesis& hypothesis = found[k][c];
      std::string text = model_.target_tokenizer->decode(hypothesis.text_ids());
      // Banned tokens and prefixes leave none; a tokenizer's own decoder may still make one.
      std::replace_if(
          text.begin(), text.end(), [](char x) { return x == '\n' || x == '\r'; }, ' ');
      if (first)
        result.n_best.push_back({.text = text, .hypothesis = hypothesis, .score = hypothesis.score});
      else if (c < result.n_best.size())
        result.n_best[c] = {.text = result.n_best[c].text + " " + text,
                            .hypothesis = hypothesis,
                            .score = result.n_best[c].score + hypothesis.score};
    }
  }
  return results;
}

AttentionMaps Translator::explain(const std::vector<int32_t>& source_ids,
                                  const std::vector<int32_t>& target_ids,
                                  const std::vector<std::string>& sites) const {
  NoGrad off;
  const Transformer& model = *model_.transformer;
  const TransformerConfig& config = model.config();
  AttentionMaps out{
      .source_ids = source_ids, .target_ids = target_ids, .cross = {}, .encoder = {}, .decoder = {}};
  const Segments source({static_cast<int64_t>(source_ids.size())}),
      target({static_cast<int64_t>(target_ids.size())});
  std::vector<int32_t> target_in = {config.start_id};
  target_in.insert(target_in.end(), target_ids.begin(), target_ids.end());
  target_in.resize(target_ids.size());

  Probe probe{.sites = sites, .controls = options_.head_controls};
  Pass pass = Pass::running(options_.precision.dtype);
  const Var memory = model.encode(pass, source_ids, source, &probe);
  model.decode(pass, target_in, target, memory, source, &probe);

  const int64_t tgt = target.n_tokens(), src = source.n_tokens();
  const auto map = [&](const char* site, int64_t layers, int64_t rows, int64_t columns) {
    if (!probe.wants(site, 0)) return Tensor{};
    const Tensor weights = Tensor::zeros({layers, config.n_heads, rows, columns}, DType::kF32);
    for (const AttentionRow& row : probe.rows)
      if (row.site == site)
        std::copy(row.attn_weights.begin(), row.attn_weights.end(),
                  weights.data<float>() +
                      ((row.layer * config.n_heads + row.head) * rows + row.position) * columns);
    return weights;
  };
  out.cross = map("cross", config.decoder_layers, tgt, src);
  out.encoder = map("encoder", config.encoder_layers, src, src);
  out.decoder = map("decoder", config.decoder_layers, tgt, tgt);
  return out;
}

}  // namespace qkv
