#include "apps/cli/translate.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "apps/cli/output.h"
#include "apps/cli/traced.h"
#include "apps/cli/translate_output.h"
#include "qkv/base/counted.h"
#include "qkv/io/file.h"
#include "qkv/tasks/translator.h"
#include "qkv/text/line_reader.h"
#include "qkv/text/utf8.h"

namespace qkv::cli {
namespace {

constexpr size_t kLinesAtOnce =
    1024;  // read before translating, so that sentences of like length can share batches

struct Flags {
  std::string model = "models/en-de", input, output, dtype = "auto", prefix, penalty = "length";
  std::vector<std::string> sentences;  // given in the call, instead of an input
  TranslateOptions translate;
  OutputOptions show;
  std::string html, trace;
  bool draw = false, model_given = false, beam_given = false;
};

// The lines to translate, some at a time: the sentences of the call, or else those of the input.
class Source {
 public:
  explicit Source(const Flags& f) {
    for (const std::string& sentence : f.sentences) {
      if (const auto bad = utf8::first_invalid(sentence))
        throw_error(ErrorCode::kValue, "translate: sentence {} of the call is not UTF-8 at byte {}",
                    &sentence - f.sentences.data() + 1, *bad + 1);
      for (size_t begin = 0, end = 0; begin < sentence.size() || begin == 0; begin = end + 1) {
        end = std::min(sentence.find('\n', begin), sentence.size());
        given_.push_back(sentence.substr(begin, end - begin));
      }
    }
    if (!given_.empty()) return;
    reader_.emplace(f.input);
    if ((f.input.empty() || f.input == "-") && ::isatty(STDIN_FILENO) != 0)
      note("qkv translate: type sentences, one a line; Ctrl-D ends\n");
  }

  std::vector<std::string> next() {
    return reader_ ? reader_->next(kLinesAtOnce) : std::exchange(given_, {});
  }

 private:
  std::vector<std::string> given_;
  std::optional<LineReader> reader_;
};

// Which lines a page does not show, and why: "; not on it: 1 cut line, 20 after the 100th sentence".
std::string left_out(const std::map<OnPage, int64_t>& on_page, size_t shown) {
  std::vector<std::string> reasons;
  const auto lines = [&](OnPage why) {
    const auto found = on_page.find(why);
    return found == on_page.end() ? 0 : found->second;
  };
  if (const int64_t n = lines(OnPage::kNothing); n > 0) reasons.push_back(fmt::format("{} empty", n));
  if (const int64_t n = lines(OnPage::kCut); n > 0)
    reasons.push_back(fmt::format("{} too long to be translated whole", n));
  if (const int64_t n = lines(OnPage::kFull); n > 0)
    reasons.push_back(shown >= kPageSentences ? fmt::format("{} after the first {} sentences", n, shown)
                                              : fmt::format("{} that would make it too large to open", n));
  return reasons.empty() ? "" : fmt::format(" (lines not on it: {})", fmt::join(reasons, ", "));
}

void run(Flags f) {
  TranslateOptions options = f.translate;
  if (!f.prefix.empty()) options.prefix = {f.prefix};
  QKV_CHECK(f.penalty == "length" || f.penalty == "gnmt", kValue,
            "--length-penalty-kind: '{}' is neither length nor gnmt", f.penalty);
  options.search.length_penalty_kind =
      f.penalty == "gnmt" ? decode::LengthPenaltyKind::kGnmt : decode::LengthPenaltyKind::kLength;
  options.search.n_best = std::max<int64_t>(1, f.show.n_best);
  if (!f.beam_given) options.search.beam_size = std::max(options.search.beam_size, options.search.n_best);
  QKV_CHECK(options.search.n_best <= options.search.beam_size, kValue,
            "--nbest {}: a beam of {} keeps no more than {}; give --beam {}", options.search.n_best,
            options.search.beam_size, options.search.beam_size, options.search.n_best);
  check_different_files(f.html, "--html", f.output, "-o");
  check_different_files(f.html, "--html", f.input, "-i");
  check_different_files(f.trace, "--trace", f.output, "-o");
  check_different_files(f.trace, "--trace", f.input, "-i");
  check_different_files(f.trace, "--trace", f.html, "--html");
  QKV_CHECK(f.model_given || io::exists(f.model), kIo,
            "{}: no such directory; run from qkv's folder, or give --model DIR", f.model);
  options.precision = precision_for(f.dtype, f.model);
  const Translator translator(TranslationModel::load(f.model, options.precision), options);

  if (f.draw) f.show.align = true;
  Output output(f.output);
  f.show.printable = f.show.color = output.is_terminal();
  f.show.draw = f.draw || f.show.printable;
  explain::AttentionPage page = new_page(translator, f.model);
  std::map<OnPage, int64_t> on_page;

  Source source(f);
  for (int64_t number = 1;;) {
    const std::vector<std::string> lines = source.next();
    if (lines.empty()) break;
    const std::vector<Translation> results = translator.translate(lines);
    std::string text;
    for (size_t i = 0; i < lines.size(); ++i, ++number) {
      if (results[i].was_cut)
        note(
            "qkv: line {} is longer than {} tokens: it was cut between words and its parts translated "
            "one by one\n",
            number, translator.max_source_tokens());
      text += format_translation(translator, lines[i], results[i], f.show);
      if (!f.html.empty()) ++on_page[add_to_page(page, translator, lines[i], results[i])];
    }
    output.write(text);
  }
  output.commit();
  if (!f.html.empty()) {
    const std::string not_shown = left_out(on_page, page.sentences.size());
    QKV_CHECK(!page.sentences.empty(), kFormat, "translate: no sentence to show on {}{}", f.html, not_shown);
    write_output(f.html, explain::attention_page(page));
    note("attention of {}: open {} in a browser{}\n",
         counted(static_cast<int64_t>(page.sentences.size()), "sentence"), f.html, not_shown);
  }
}

}  // namespace

void add_translate_command(CLI::App& app) {
  CLI::App* cmd =
      app.add_subcommand("translate", "translate sentences: those given, or lines of standard input");
  auto f = std::make_shared<Flags>();
  decode::SearchOptions& search = f->translate.search;
  CLI::Option* model =
      cmd->add_option("-m,--model", f->model, "model directory, or run directory of qkv train translate")
          ->capture_default_str();
  CLI::Option* input = cmd->add_option("-i,--input", f->input, "source lines (default: standard input)");
  cmd->add_option("sentences", f->sentences, "what to translate, instead of an input")
      ->check([](const std::string& text) {
        return io::exists(text) && !io::is_directory(text)
                   ? fmt::format("{} is a file; to translate its lines: -i {}", text, text)
                   : "";
      })
      ->type_name("SENTENCE")
      ->excludes(input);
  add_output_option(*cmd, "-o,--output", f->output, "translations (default: standard output)");
  CLI::Option* beam = cmd->add_option("--beam,--beam-size", search.beam_size,
                                      "hypotheses kept at each step; 1 is greedy; at least --nbest")
                          ->capture_default_str()
                          ->check(CLI::Range(1, 1000));
  cmd->add_option("--nbest,--n-best", f->show.n_best,
                  "translations of each line, best first, as: text ||| score, and an empty line")
      ->check(CLI::Range(1, 1000));
  cmd->add_option("--length-penalty", search.length_penalty,
                  "alpha: 0 prefers short, 1 is the mean over tokens")
      ->capture_default_str();
  cmd->add_option("--length-penalty-kind", f->penalty, "length: length^alpha; gnmt: ((5 + length) / 6)^alpha")
      ->capture_default_str();
  cmd->add_option("--coverage-penalty", search.coverage_penalty,
                  "beta: cost of source tokens that nothing looked at")
      ->capture_default_str();
  cmd->add_option("--min-length", search.min_length, "least tokens of a translation")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 20));
  cmd->add_option("--max-length", search.max_length, "most tokens of a translation")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  cmd->add_option("--patience", search.patience, "finished hypotheses to wait for, in beams")
      ->capture_default_str();
  cmd->add_option("-p,--prefix", f->prefix, "what every translation begins with");
  cmd->add_option("-b,--batch-size", f->translate.batch_sentences,
                  "sentences searched together: speed and memory, never the output")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  cmd->add_option("--dtype", f->dtype,
                  "bf16, f32, int8 (8-bit products, the rest as in bf16 or f32), or auto: int8 where the "
                  "model's files are, else bf16 where the CPU has a unit for it")
      ->capture_default_str();
  cmd->add_flag("--scores", f->show.scores, "print each translation's score: text TAB score");
  cmd->add_flag(
      "--align,--alignment", f->show.align,
      "print alignments of the best translation as source-target pairs of words between blanks, counted "
      "from 0; on a terminal, draw them");
  cmd->add_flag("--draw", f->draw, "draw alignments, terminal or not");
  add_output_option(*cmd, "--html", f->html,
                    "write a page that shows what every layer and head looked at in the first 100 sentences: "
                    "the source by the "
                    "translation, the source by itself, the translation by itself");
  add_trace_option(*cmd, f->trace);
  cmd->add_flag("--json", f->show.json, "one JSON object a line");
  cmd->footer(
      "Examples:\n"
      "  qkv translate 'Where is the station?' --align\n"
      "  qkv translate --model runs/mine --beam 5 --nbest 3 --json < lines.en\n"
      "  head -5 lines.en | qkv translate --html attention.html\n"
      "One sentence a line: the shipped model has seen single sentences only.");
  cmd->callback([f, model, beam] {
    f->model_given = model->count() > 0;
    f->beam_given = beam->count() > 0;
    traced(f->trace, [&] { run(*f); });
  });
}

}  // namespace qkv::cli
