#include "apps/cli/tokenizer.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <memory>

#include "apps/cli/output.h"
#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/json.h"
#include "qkv/text/bpe_trainer.h"
#include "qkv/text/line_reader.h"

namespace qkv::cli {
namespace {

constexpr size_t kLinesAtOnce = 256;

struct TrainFlags {
  std::vector<std::string> inputs, more_special_tokens;
  std::string out, form = "none";
  BpeTrainerOptions options;
  bool characters = false, no_prefix_space = false, json = false;
};

void run_train(TrainFlags& f) {
  f.options.byte_level = !f.characters;
  f.options.prefix_space = !f.no_prefix_space;
  f.options.form = f.form == "nfc"    ? UnicodeForm::kNfc
                   : f.form == "nfkc" ? UnicodeForm::kNfkc
                                      : UnicodeForm::kNone;
  auto& special = f.options.special_tokens;
  special.insert(special.end(), f.more_special_tokens.begin(), f.more_special_tokens.end());

  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> lines;
  for (const std::string& input : f.inputs) {
    std::vector<std::string> more = read_lines(input);
    lines.insert(lines.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  }
  const Tokenizer tokenizer = train_bpe(lines, f.options);
  write_output(f.out, tokenizer.to_json());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (f.json) {
    print("{}\n", io::dump_json({{"out", f.out},
                                 {"vocab_size", tokenizer.vocab_size()},
                                 {"special_tokens", special},
                                 {"lines", lines.size()},
                                 {"seconds", seconds}}));
  } else {
    note("{}: {} pieces ({} of them special) from {} lines in {:.1f} s\n", f.out, tokenizer.vocab_size(),
         special.size(), lines.size(), seconds);
  }
}

struct CodecFlags {
  std::string tokenizer, input = "-";
  bool ids = false, json = false, no_special = false, parse_special = false, keep_special = false;
};

// Calls use(line) for each line of the input; errors say which line it was.
template <class Use>
void for_each_line(const std::string& input, Use&& use) {
  LineReader reader(input);
  int64_t number = 0;
  for (auto lines = reader.next(kLinesAtOnce); !lines.empty(); lines = reader.next(kLinesAtOnce)) {
    for (const std::string& line : lines) {
      ++number;
      try {
        use(line);
      } catch (const Error& error) {
        if (error.code() == ErrorCode::kIo) throw;  // the output's trouble, not the line's
        throw Error(ErrorCode::kFormat, fmt::format("line {}: {}", number, error.what()));
      }
    }
    flush_stdout();
  }
}

void run_encode(const CodecFlags& f) {
  const Output out("-");
  const Tokenizer tokenizer = Tokenizer::load(f.tokenizer);
  const EncodeOptions options = {.add_special_tokens = !f.no_special, .parse_special = f.parse_special};
  for_each_line(f.input, [&](const std::string& line) {
    if (f.json) {
      io::Json ids = io::Json::array(), pieces = io::Json::array(), offsets = io::Json::array();
      for (const Token& token : tokenizer.encode_with_offsets(line, options)) {
        ids.push_back(token.id);
        pieces.push_back(tokenizer.piece(token.id));
        offsets.push_back(io::Json::array({token.begin, token.end}));
      }
      print(
          "{}\n",
          out.shown(io::dump_json({{"text", line}, {"ids", ids}, {"pieces", pieces}, {"offsets", offsets}})));
      return;
    }
    const std::vector<int32_t> ids = tokenizer.encode(line, options);
    if (f.ids) {
      cli::print("{}\n", fmt::join(ids, " "));
    } else {
      std::vector<std::string_view> pieces;
      for (const int32_t id : ids) pieces.push_back(tokenizer.piece(id));
      print("{}\n", out.shown(fmt::format("{}", fmt::join(pieces, " "))));
    }
  });
}

// "12 7 1", "12,7,1" and "[12, 7, 1]" are the same ids.
std::vector<int32_t> parse_ids(const std::string& line, int64_t vocab_size) {
  const auto separates = [](char c) { return c == ' ' || c == '\t' || c == ',' || c == '[' || c == ']'; };
  std::vector<int32_t> ids;
  for (size_t i = 0; i < line.size();) {
    if (separates(line[i])) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < line.size() && !separates(line[end])) ++end;
    int64_t id = -1;
    const auto read = std::from_chars(line.data() + i, line.data() + end, id);
    QKV_CHECK(read.ec == std::errc() && read.ptr == line.data() + end && id >= 0 && id < vocab_size, kValue,
              "needs ids from 0 to {}, got {}", vocab_size - 1,
              quote(std::string_view(line).substr(i, end - i)));
    ids.push_back(static_cast<int32_t>(id));
    i = end;
  }
  return ids;
}

void run_decode(const CodecFlags& f) {
  const Output out("-");
  const Tokenizer tokenizer = Tokenizer::load(f.tokenizer);
  for_each_line(f.input, [&](const std::string& line) {
    const std::vector<int32_t> ids = parse_ids(line, tokenizer.vocab_size());
    const std::string text = tokenizer.decode(ids, /*skip_special_tokens=*/!f.keep_special);
    if (f.json)
      print("{}\n", out.shown(io::dump_json({{"ids", ids}, {"text", text}})));
    else
      print("{}\n", out.shown(text));
  });
}

void add_train(CLI::App& tokenizer) {
  CLI::App* sub =
      tokenizer.add_subcommand("train", "learn a byte-pair encoding from text, one sentence a line");
  auto f = std::make_shared<TrainFlags>();
  BpeTrainerOptions& o = f->options;
  sub->add_option("-i,--input", f->inputs, "text, maybe gzipped, or - for stdin; several make one vocabulary")
      ->required()
      ->allow_extra_args(false);
  sub->add_option("--vocab-size", o.vocab_size, "pieces in all: special tokens, alphabet and merges")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  add_output_option(*sub, "-o,--out", f->out, "the tokenizer.json to write")->required();
  sub->add_option("--min-frequency", o.min_frequency, "rarer pairs are not merged")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  sub->add_option("--max-token-length", o.max_token_length,
                  "bytes (characters with --characters) of a piece; 0: any")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  sub->add_option("--normalize", f->form, "Unicode form given to all text: none, nfc or nfkc")
      ->check(CLI::IsMember({"none", "nfc", "nfkc"}))
      ->capture_default_str();
  sub->add_flag("--lowercase", o.lowercase, "read all text in lower case");
  sub->add_flag("--characters", f->characters,
                "characters instead of bytes as alphabet; unseen ones become <unk>");
  sub->add_flag("--no-prefix-space", f->no_prefix_space,
                "do not spell a first word like one inside a sentence");
  sub->add_option("--special-token", f->more_special_tokens,
                  "one more besides <pad> </s> <unk>; may be repeated")
      ->allow_extra_args(false);
  sub->add_flag("--allow-smaller", o.allow_smaller,
                "take what the text gives where that is less than --vocab-size");
  sub->add_flag("--json", f->json, "say what was learnt as one JSON object");
  sub->footer(
      "Example, a vocabulary that two languages share:\n"
      "  qkv tokenizer train --input train.en --input train.de --vocab-size 10000 --out tokenizer.json");
  sub->callback([f] { run_train(*f); });
}

void add_encode(CLI::App& tokenizer) {
  CLI::App* sub = tokenizer.add_subcommand("encode", "text lines to pieces or ids");
  auto f = std::make_shared<CodecFlags>();
  sub->add_option("--tokenizer", f->tokenizer,
                  "tokenizer.json, maybe gzipped, or a model directory that holds one")
      ->required();
  sub->add_option("-i,--input", f->input, "text, one line at a time")->capture_default_str();
  auto* ids = sub->add_flag("--ids", f->ids,
                            "print ids instead of pieces, where \"Ġ\" stands for a blank before a word");
  sub->add_flag("--json", f->json, "one JSON object a line: text, ids, pieces, offsets in bytes")
      ->excludes(ids);
  sub->add_flag("--no-special", f->no_special, "without the tokens that the model wants round a text");
  sub->add_flag("--parse-special", f->parse_special,
                "read the text of special tokens (\"</s>\") as these tokens");
  sub->footer("Example:\n  echo 'low newest' | qkv tokenizer encode --tokenizer tokenizer.json --ids");
  sub->callback([f] { run_encode(*f); });
}

void add_decode(CLI::App& tokenizer) {
  CLI::App* sub = tokenizer.add_subcommand("decode", "lines of ids to text");
  auto f = std::make_shared<CodecFlags>();
  sub->add_option("--tokenizer", f->tokenizer,
                  "tokenizer.json, maybe gzipped, or a model directory that holds one")
      ->required();
  sub->add_option("-i,--input", f->input, "ids, one text a line")->capture_default_str();
  sub->add_flag("--keep-special", f->keep_special, "print special tokens too");
  sub->add_flag("--json", f->json, "one JSON object a line: ids, text");
  sub->footer("Example:\n  echo '263 267 1' | qkv tokenizer decode --tokenizer tokenizer.json");
  sub->callback([f] { run_decode(*f); });
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "learn a vocabulary, or see what it does to text");
  tokenizer->require_subcommand(1);
  add_train(*tokenizer);
  add_encode(*tokenizer);
  add_decode(*tokenizer);
  tokenizer->footer("qkv tokenizer train -h, encode -h and decode -h have an example each.");
}

}  // namespace qkv::cli
