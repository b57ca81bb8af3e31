#include "score.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli/output.h"
#include "qkv/base/error.h"
#include "qkv/scores/bleu.h"
#include "qkv/scores/chrf.h"
#include "qkv/scores/resample.h"
#include "qkv/scores/sentences.h"
#include "qkv/scores/ter.h"
#include "qkv/text/line_reader.h"

namespace qkv::cli {
namespace {

using Json = nlohmann::ordered_json;  // name, score and signature first, as in sacreBLEU
using namespace qkv::scores;

// What every score takes.
struct Options {
  std::string input = "-";
  std::vector<std::string> refs;
  std::vector<std::string> others;  // --paired
  std::string sources;              // --by-length
  std::string method = "bs";
  std::vector<int64_t> edges = {5, 10, 15, 20, 30};
  int64_t n_bootstrap = 1000, n_trials = 10000;
  uint64_t seed = 12345;
  int decimals = 1;
  bool confidence = false, sentence = false, json = false, short_signature = false, score_only = false,
       force = false;

  std::string tokenize = "13a", smooth = "exp";
  BleuOptions bleu;
  ChrfOptions chrf;
  TercomOptions ter;
};

struct Texts {
  std::vector<std::string> hyps, sources;
  std::vector<std::vector<std::string>> others;
  References refs;
};

std::vector<std::string> read(const std::string& path) {
  if (path == "-" && isatty(STDIN_FILENO))
    note("qkv score: reading translations from the terminal, one a line; Ctrl-D ends them\n");
  return read_sentences(path);
}

Texts read_texts(const Options& o) {
  std::vector<std::string> paths = {o.input};
  paths.insert(paths.end(), o.others.begin(), o.others.end());
  paths.insert(paths.end(), o.refs.begin(), o.refs.end());
  if (!o.sources.empty()) paths.push_back(o.sources);
  QKV_CHECK(std::count(paths.begin(), paths.end(), "-") <= 1, kValue,
            "score: standard input can be one file only; name the translations with --input FILE");

  std::vector<std::vector<std::string>> lines;
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const std::string& path : paths) {
    lines.push_back(read(path));
    counts.emplace_back(input_name(path), static_cast<int64_t>(lines.back().size()));
  }
  check_same_counts(counts);

  Texts texts;
  auto next = lines.begin();
  texts.hyps = std::move(*next++);
  for (size_t k = 0; k < o.others.size(); ++k) texts.others.push_back(std::move(*next++));
  for (size_t k = 0; k < o.refs.size(); ++k) texts.refs.push_back(std::move(*next++));
  if (!o.sources.empty()) texts.sources = std::move(*next);

  // An empty line says "no such reference here", which one file of several may say of a sentence, not all.
  for (size_t i = 0; i < texts.hyps.size(); ++i) {
    const bool any = std::any_of(texts.refs.begin(), texts.refs.end(),
                                 [i](const auto& column) { return !column[i].empty(); });
    QKV_CHECK(any, kFormat,
              "{}: line {} is empty{}: that translation has nothing to be compared with; leave the line "
              "out of every file",
              input_name(o.refs[0]), i + 1, texts.refs.size() > 1 ? ", in the other references too" : "");
  }
  return texts;
}

std::string signature_text(const Signature& s, const Options& o) {
  return o.short_signature ? s.short_text() : s.text();
}

void print(const Json& object) {
  cli::print("{}\n", object.dump(-1, ' ', false, Json::error_handler_t::replace));
}

// The fields of sacreBLEU's JSON, with the score unrounded.
Json score_object(const Metric& metric, std::span<const double> sums, const Signature& signature,
                  const std::optional<Interval>& interval) {
  Json out = {{"name", metric.name()}, {"score", metric.score(sums)}, {"signature", signature.text()}};
  if (interval) {
    out["confidence_mean"] = interval->mean;
    out["confidence_var"] = interval->half_width;
  }
  if (const std::string verbose = metric.verbose(sums); !verbose.empty()) out["verbose_score"] = verbose;
  for (const auto& [key, value] : signature.pairs()) out[key] = value;
  return out;
}

void print_score(const Metric& metric, std::span<const double> sums, const Signature& signature,
                 const Options& o, const std::optional<Interval>& interval = std::nullopt) {
  if (o.json) {
    print(score_object(metric, sums, signature, interval));
  } else if (o.score_only) {
    cli::print("{:.{}f}\n", metric.score(sums), o.decimals);
  } else {
    cli::print("{}\n", format_line(metric, sums, signature_text(signature, o),
                                   interval ? &*interval : nullptr, o.decimals));
  }
}

void print_sentences(const Metric& metric, const Texts& texts, const Options& o) {
  for (size_t i = 0; i < texts.hyps.size(); ++i) {
    References refs;
    for (const auto& column : texts.refs) refs.push_back({column[i]});
    const SegmentStats stats = metric.segment_stats(std::span(&texts.hyps[i], 1), refs);
    print_score(metric, stats.sum(), metric.signature(stats.n_refs), o);
  }
}

void print_paired(const Metric& metric, const SegmentStats& baseline, const Texts& texts, const Options& o) {
  std::vector<SegmentStats> systems = {baseline};
  for (const auto& hyps : texts.others) systems.push_back(metric.segment_stats(hyps, texts.refs));
  PairedOptions options{.method = parse_paired_method(o.method), .seed = o.seed};
  const bool by_bootstrap = options.method == PairedMethod::kBootstrap;
  options.n_samples = by_bootstrap ? o.n_bootstrap : o.n_trials;
  options.n_confidence = o.confidence && !by_bootstrap ? o.n_bootstrap : 0;
  const std::vector<PairedResult> results = paired_test(metric, systems, options);

  Signature signature = metric.signature(baseline.n_refs);
  signature.set_resampling(by_bootstrap ? options.n_samples : options.n_confidence,
                           by_bootstrap ? 0 : options.n_samples, o.seed);
  std::vector<std::string> names = {"Baseline: " + input_name(o.input)};
  names.insert(names.end(), o.others.begin(), o.others.end());
  if (o.json) {
    for (size_t k = 0; k < results.size(); ++k) {
      Json line = score_object(metric, systems[k].sum(), signature, results[k].interval);
      line["system"] = names[k];
      line["p_value"] = results[k].p_value ? Json(*results[k].p_value) : Json(nullptr);
      print(line);
    }
    return;
  }
  size_t width = 6;
  for (const std::string& n : names) width = std::max(width, n.size());
  cli::print("{:<{}}  {}\n", "System", width,
             metric.name() + (results[0].interval ? " (μ ± 95% CI)" : "") + "  p-value");
  for (size_t k = 0; k < results.size(); ++k) {
    const PairedResult& r = results[k];
    std::string line = fmt::format("{:<{}}  {:.{}f}", names[k], width, r.score, o.decimals);
    if (r.interval)
      line += fmt::format(" ({:.{}f} ± {:.{}f})", r.interval->mean, o.decimals, r.interval->half_width,
                          o.decimals);
    if (r.p_value) line += fmt::format("  (p = {:.4f}){}", *r.p_value, *r.p_value < 0.05 ? "*" : "");
    cli::print("{}\n", line);
  }
  cli::print("{}|{}\n", metric.name(), signature_text(signature, o));
}

void print_by_length(const Texts& texts, const Options& o) {
  const auto buckets = bleu_by_length(texts.sources, texts.hyps, texts.refs, o.bleu, o.edges);
  if (!o.json)
    cli::print("{:>12} {:>9} {:>6} {:>8} {:>8}\n", "source words", "sentences", "BLEU", "hyp_len", "ref_len");
  for (const LengthBucket& b : buckets) {
    const bool any = b.n_sentences > 0;
    if (o.json) {
      print({{"name", "BLEU"},
             {"bucket", b.label()},
             {"n_sentences", b.n_sentences},
             {"score", any ? Json(b.bleu.score) : Json(nullptr)},
             {"hyp_len", b.bleu.hyp_len},
             {"ref_len", b.bleu.ref_len},
             {"signature", b.bleu.signature}});
    } else {
      cli::print("{:>12} {:>9} {:>6} {:>8} {:>8}\n", b.label(), b.n_sentences,
                 any ? fmt::format("{:.{}f}", b.bleu.score, o.decimals) : "-", b.bleu.hyp_len,
                 b.bleu.ref_len);
    }
  }
}

void run(const Metric& metric, const Options& o) {
  const Texts texts = read_texts(o);
  if (o.sentence) return print_sentences(metric, texts, o);
  const SegmentStats stats = metric.segment_stats(texts.hyps, texts.refs);
  if (!o.others.empty()) return print_paired(metric, stats, texts, o);

  Signature signature = metric.signature(stats.n_refs);
  std::optional<Interval> interval;
  if (o.confidence) {
    signature.set_resampling(o.n_bootstrap, 0, o.seed);
    interval = interval_95(bootstrap_scores(metric, stats, {.n_samples = o.n_bootstrap, .seed = o.seed}));
  }
  print_score(metric, stats.sum(), signature, o, interval);
  if (!o.sources.empty()) print_by_length(texts, o);

  const auto tokenized = std::count_if(texts.hyps.begin(), texts.hyps.end(),
                                       [](const std::string& h) { return h.ends_with(" ."); });
  if (metric.name() == "BLEU" && o.tokenize != "none" && !o.force && tokenized >= 100)
    note(
        "qkv score: {} lines end in a tokenised full stop (\" .\"). BLEU tokenises by itself: score "
        "detokenised "
        "text, or --tokenize none for text that is meant to be tokenised. --force silences this.\n",
        tokenized);
}

// A check of an option's value that answers with our own message.
template <class Parse>
CLI::Validator checked(Parse parse, const std::string& description) {
  return CLI::Validator(
      [parse](std::string& value) -> std::string {
        try {
          parse(value);
        } catch (const Error& e) {
          return e.what();
        }
        return "";
      },
      description);
}

// CLI11 reads "-1" into an unsigned number as 2^64 - 1, and takes the largest number for any larger one.
CLI::Validator not_negative() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        uint64_t number = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
        return error == std::errc() && end == value.data() + value.size()
                   ? ""
                   : fmt::format("is {}, needs a number from 0 to 2^64 - 1", value);
      },
      "");
}

CLI::App* add_metric(CLI::App& score, const std::string& name, const std::string& about,
                     const std::shared_ptr<Options>& o) {
  CLI::App* app = score.add_subcommand(name, about);
  app->add_option("-r,--ref", o->refs,
                  "reference file, one sentence a line; again for each further reference")
      ->required()
      ->type_name("FILE")
      ->allow_extra_args(false);
  app->add_option("-i,--input", o->input, "translations (standard input where not given)")->type_name("FILE");
  app->add_flag("--json", o->json, "one JSON object a line, scores unrounded");
  app->add_option("-w,--width", o->decimals, "digits after the point")
      ->check(CLI::Range(0, 15))
      ->capture_default_str();
  app->add_flag("-b,--score-only", o->score_only, "print the number alone");
  app->add_flag("--short", o->short_signature, "short signature");
  auto* confidence = app->add_flag("--confidence", o->confidence, "95 % interval by bootstrap resampling");
  app->add_option("--n-bootstrap", o->n_bootstrap, "bootstrap resamples")
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  app->add_option("--seed", o->seed, "of all resampling")->check(not_negative())->capture_default_str();
  auto* paired = app->add_option("--paired", o->others,
                                 "compare with these translations: a paired test; may be given again")
                     ->type_name("FILE")
                     ->allow_extra_args(false);
  app->add_option("--method", o->method,
                  "of the paired test: bs (bootstrap) or ar (approximate randomization)")
      ->needs(paired)
      ->check(checked(parse_paired_method, "bs|ar"))
      ->capture_default_str();
  app->add_option("--n-trials", o->n_trials, "trials of approximate randomization")
      ->needs(paired)
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  app->add_flag("--sentence", o->sentence, "one score a line of input instead of one for all")
      ->excludes(confidence)
      ->excludes(paired);
  return app;
}

void add_bleu(CLI::App& score) {
  const auto o = std::make_shared<Options>();
  CLI::App* app =
      add_metric(score, "bleu", "BLEU: n-grams shared with the references (sacreBLEU's definition)", o);
  app->add_option("-t,--tokenize", o->tokenize, "13a, none (tokenised already), intl, char or zh")
      ->check(checked(parse_bleu_tokenizer, "13a|none|intl|char|zh"))
      ->capture_default_str();
  app->add_flag("--lowercase", o->bleu.lowercase, "fold case");
  app->add_option("--smooth", o->smooth, "for orders without a match: exp, floor, add-k or none")
      ->check(checked(parse_bleu_smoothing, "exp|floor|add-k|none"))
      ->capture_default_str();
  app->add_option("--smooth-value", o->bleu.smooth_value, "of floor (0.1) and add-k (1)");
  app->add_option("--max-order", o->bleu.max_order, "longest n-gram")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  app->add_flag("--force", o->force, "no warning about text that looks tokenised");
  auto* by_length =
      app->add_option("--by-length", o->sources, "source file: BLEU by the number of source words too")
          ->type_name("FILE")
          ->excludes(app->get_option("--sentence"))
          ->excludes(app->get_option("--paired"));
  app->add_option("--length-edges", o->edges, "longest lengths of the buckets but the last")
      ->needs(by_length)
      ->check(CLI::Range(1, 1000000))
      ->delimiter(',')
      ->type_name("N,N,...")
      ->default_str("5,10,15,20,30");
  app->footer(
      "examples:\n"
      "  qkv score bleu --ref ref.de < hyp.de\n"
      "  qkv score bleu --ref ref.de --ref ref2.de --confidence --json -i hyp.de\n"
      "  qkv score bleu --ref ref.de -i baseline.de --paired new.de --method ar\n"
      "  qkv score bleu --ref ref.de -i hyp.de --by-length source.en");
  app->callback([o] {
    if (!std::is_sorted(o->edges.begin(), o->edges.end(), std::less_equal<>()))
      throw CLI::ValidationError(
          fmt::format("--length-edges: needs numbers that rise, got {}", fmt::join(o->edges, ",")));
    o->bleu.tokenize = parse_bleu_tokenizer(o->tokenize);
    o->bleu.smooth = parse_bleu_smoothing(o->smooth);
    o->bleu.effective_order = o->sentence;
    run(Bleu(o->bleu), *o);
  });
}

void add_chrf(CLI::App& score) {
  const auto o = std::make_shared<Options>();
  CLI::App* app = add_metric(score, "chrf", "chrF and chrF++: F-score over characters (and words)", o);
  app->add_option("--char-order", o->chrf.char_order, "longest character n-gram")
      ->check(CLI::Range(1, 32))
      ->capture_default_str();
  app->add_option("--word-order", o->chrf.word_order, "longest word n-gram; 2 is chrF++")
      ->check(CLI::Range(0, 16))
      ->capture_default_str();
  app->add_option("--beta", o->chrf.beta, "how much more recall counts")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  app->add_flag("--lowercase", o->chrf.lowercase, "fold case");
  app->add_flag("--whitespace", o->chrf.whitespace, "count white space as characters");
  app->add_flag("--eps-smoothing", o->chrf.eps_smoothing, "as chrF++.py, NLTK and Moses smooth");
  app->footer(
      "examples:\n"
      "  qkv score chrf --ref ref.de < hyp.de\n"
      "  qkv score chrf --word-order 2 --ref ref.de < hyp.de      (chrF++)");
  app->callback([o] { run(Chrf(o->chrf), *o); });
}

void add_ter(CLI::App& score) {
  const auto o = std::make_shared<Options>();
  CLI::App* app = add_metric(score, "ter", "TER: edits and moves per reference word (lower is better)", o);
  app->add_flag("--normalized", o->ter.normalized, "split punctuation off first");
  app->add_flag("--no-punct", o->ter.no_punct, "drop punctuation");
  app->add_flag("--asian-support", o->ter.asian_support, "part Chinese characters and kanji");
  app->add_flag("--case-sensitive", o->ter.case_sensitive, "keep upper case");
  app->footer("example:\n  qkv score ter --ref ref.de < hyp.de");
  app->callback([o] { run(Ter(o->ter), *o); });
}

}  // namespace

void add_score_command(CLI::App& app) {
  CLI::App* score = app.add_subcommand("score", "score translations: bleu, chrf, ter");
  score->require_subcommand(1);
  score->footer(
      "example:\n  qkv score bleu --ref ref.de < hyp.de\n\n"
      "Scores are sacreBLEU's to the digit; intervals and p-values use qkv's own random numbers.");
  add_bleu(*score);
  add_chrf(*score);
  add_ter(*score);
}

}  // namespace qkv::cli
