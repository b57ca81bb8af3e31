#include "apps/cli/bench.h"

#include <fmt/core.h>

#include <memory>

#include "apps/cli/bench_attention.h"
#include "apps/cli/bench_gemm.h"
#include "apps/cli/bench_infer.h"
#include "apps/cli/bench_train.h"
#include "apps/cli/bench_translate.h"
#include "apps/cli/traced.h"
#include "qkv/attention/variant.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {
namespace {

struct Flags {
  std::string name, dtype = "auto", shape, trace;
  int64_t texts = 1;
  bool json = false, gradient_checkpointing = false;
  BenchAttention attention;
  BenchTranslate translate;
  DType compute() const { return compute_dtype_from_name(dtype); }
  Precision precision() const { return precision_from_name(dtype); }
};

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "measure speed on this machine");
  bench->require_subcommand(1);
  bench->footer("Example:\n  qkv bench attention --shape 1x12x4096x64 --dtype bf16 --causal --json");
  auto flags = std::make_shared<Flags>();
  const auto common = [&](CLI::App* sub, const char* dtypes) {
    sub->add_option("--dtype", flags->dtype, dtypes)->capture_default_str();
    add_trace_option(*sub, flags->trace);
    sub->add_flag("--json", flags->json, "one JSON object a line");
  };
  constexpr const char *kPlain = "bf16, f32, or auto: bf16 where the CPU has a unit for it",
                       *kInt8 =
                           "bf16, f32, int8 (8-bit products), or auto: bf16 where the CPU has a unit for it";
  CLI::App* train = bench->add_subcommand("train", "training steps (forward, backward, AdamW) on random ids");
  train->add_option("--case", flags->name, "one of the cases; without it, all");
  train->add_flag("--gradient-checkpointing", flags->gradient_checkpointing,
                  "layers keep their inputs alone and run again in backward");
  common(train, kPlain);
  train->footer("Example:\n  qkv bench train --case gpt-6x384-8k --dtype bf16 --threads 2 --json");
  train->callback([flags] {
    traced(flags->trace, [&] {
      for (const std::string& name :
           flags->name.empty() ? bench_train_cases() : std::vector<std::string>{flags->name})
        bench_train(name, flags->compute(), flags->gradient_checkpointing, flags->json);
    });
  });

  CLI::App* infer = bench->add_subcommand("infer", "a model's forward pass on random ids");
  infer->add_option("--case", flags->name, "bert-base-s128: the encoder alone, 128 tokens a text")
      ->default_str("bert-base-s128");
  infer->add_option("-b,--batch", flags->texts, "texts at once")->capture_default_str();
  common(infer, kInt8);
  infer->footer("Example:\n  qkv bench infer --case bert-base-s128 --batch 32 --dtype bf16 --json");
  infer->callback([flags] {
    traced(flags->trace, [&] {
      bench_infer(flags->name.empty() ? "bert-base-s128" : flags->name, flags->texts, flags->precision(),
                  flags->json);
    });
  });

  CLI::App* gemm = bench->add_subcommand("gemm", "matrix products with a packed right side");
  gemm->add_option("--shape", flags->shape, "MxKxN; without it, thirty of them");
  common(gemm, kInt8);
  gemm->footer("Examples:\n  qkv bench gemm --json\n  qkv bench gemm --shape 512x768x3072 --dtype int8");
  gemm->callback(
      [flags] { traced(flags->trace, [&] { bench_gemm(flags->shape, flags->precision(), flags->json); }); });

  CLI::App* attention = bench->add_subcommand("attention", "the attention op alone, on random numbers");
  BenchAttention& a = flags->attention;
  attention->add_option("--shape", a.shape, "BATCHxHEADSxLENGTHxWIDTH")->capture_default_str();
  attention->add_option("--kv-heads", a.n_kv_heads, "key/value heads (default: as many as heads)")
      ->check(CLI::Range(1, 1 << 16));
  attention
      ->add_option("--q-len", a.q_len,
                   "queries: the last so many positions (default: all); 1 is a decode step")
      ->check(CLI::Range(1, 1 << 24));
  attention->add_flag("--causal", a.causal, "query i sees keys up to its own");
  attention->add_flag("--backward", a.backward, "forward and backward");
  CLI::Option* rule =
      attention
          ->add_option(
              "--rule", a.rule,
              "alibi, t5, window, soft-cap, padding, or any words of docs/variants.md, 'rope + sink' say")
          ->type_name("NAME|WORDS")
          ->check([](const std::string& text) -> std::string {
            if (text == "padding" || text == "window" || text == "soft-cap") return "";
            try {
              check_variant(text, "words", {.n_heads = 4, .d_k = 64}, 256, false, false);
            } catch (const Error& e) {
              return e.what();
            }
            return "";
          });
  attention->add_option("--window", a.window, "keys that --rule window shows")
      ->needs(rule)
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24));
  attention->add_flag("--probe", a.probe, "with the exact weights of 64 rows of one head");
  CLI::Option* mixer =
      attention->add_option("--mixer", a.mixer, "linear, performer, retention or gla in place of attention")
          ->check(CLI::IsMember({"linear", "performer", "retention", "gla"}))
          ->excludes(rule);
  attention->add_option("--features", a.features, "of --mixer performer (default: d log d)")
      ->needs(mixer)
      ->check(CLI::Range(1, 1 << 16));
  common(attention, kPlain);
  attention->footer(
      "GFLOP/s count every pair of the square, as other programs' do, whatever a mask leaves out;\n"
      "the share of the peak counts what is computed.\n"
      "Example:\n  qkv bench attention --shape 1x12x4096x64 --dtype bf16 --causal --backward --json");
  attention->callback([flags] {
    const auto run = flags->attention.mixer.empty() ? bench_attention : bench_mixer;
    traced(flags->trace, [&] { run(flags->attention, flags->compute(), flags->json); });
  });

  CLI::App* translate = bench->add_subcommand(
      "translate", "translation, the model ready before: of a file's lines, or at the sizes of a case");
  BenchTranslate& t = flags->translate;
  CLI::Option* name = translate->add_option(
      "--case", t.name, "base-6+6x512-32k or small-3+3x256-8k: random weights, 32 tokens to 32 tokens");
  translate->add_option("-m,--model", t.model, "model or run directory")->excludes(name);
  translate->add_option("-i,--input", t.input, "source lines")->excludes(name);
  translate->add_option("--beam,--beam-size", t.beam, "beam size")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  translate->add_option("-b,--batch,--batch-size", t.batch, "sentences searched together")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  translate->add_option("--reps", t.reps, "timed runs")->capture_default_str()->check(CLI::Range(1, 1 << 20));
  common(translate, kInt8);
  translate->footer(
      "Examples:\n"
      "  qkv bench translate --case base-6+6x512-32k --beam 4 --batch 32 --dtype int8 --json\n"
      "  qkv bench translate --model models/en-de --input lines.en --beam 5 --json");
  translate->callback([flags] {
    const std::string& model = flags->translate.model;
    const Precision precision = model.empty() ? flags->precision() : precision_for(flags->dtype, model);
    traced(flags->trace, [&] { bench_translate(flags->translate, precision, flags->json); });
  });
}

}  // namespace qkv::cli
