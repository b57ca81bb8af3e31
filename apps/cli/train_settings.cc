#include "apps/cli/train_settings.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "qkv/attention/variant.h"
#include "qkv/nn/activation.h"

namespace qkv::cli {
namespace {

bool one_of(const char* setting, const std::string& value, const char* yes, const char* no) {
  QKV_CHECK(value == yes || value == no, kValue, "{}: '{}' is neither {} nor {}", setting, value, yes, no);
  return value == yes;
}

// The word users know for "cannot look at the source" is none; attention calls that score uniform.
std::string source_attention(const std::string& words) { return words == "none" ? "uniform" : words; }

}  // namespace

TrainSettings::TrainSettings() {
  model.max_len = 512;
  train.schedule.warmup_steps = 1000;
  train.max_steps = 0;
  train.max_epochs = 20;
  train.average = 5;
}

void TrainSettings::describe(Settings& s) {
  s.add("data", "pairs", pairs, "training pairs, one file: source TAB target (.gz too)");
  s.add("data", "source", source, "training source lines (.gz too)");
  s.add("data", "target", target, "training target lines; line n translates line n of --source");
  s.add("data", "valid_pairs", valid_pairs, "validation pairs, one file");
  s.add("data", "valid_source", valid_source, "validation source lines");
  s.add("data", "valid_target", valid_target, "validation target lines");
  s.add("data", "swap", swap, "pairs files are target TAB source");

  s.add("vocabulary", "vocab_size", vocab_size, "entries, special tokens and alphabet counted");
  s.add("vocabulary", "joint", joint, "one vocabulary for both languages, one shared embedding");
  s.add("vocabulary", "byte_level", byte_level, "symbols are bytes: any text has ids; else characters");
  s.add("vocabulary", "lowercase", lowercase, "lower-case all text");
  s.add("vocabulary", "normalization", normalization, "none, nfc or nfkc");
  s.add("vocabulary", "min_frequency", min_frequency, "pairs that occur less often are not merged");
  s.add("vocabulary", "tokenizer", tokenizer, "a tokenizer.json to use instead of learning one");

  s.add("model", "encoder_layers", model.encoder_layers, "layers of the encoder");
  s.add("model", "decoder_layers", model.decoder_layers, "layers of the decoder");
  s.add("model", "d_model", model.d_model, "width of the rows");
  s.add("model", "d_ff", model.d_ff, "width of the feed-forward networks");
  s.add("model", "n_heads", model.n_heads, "attention heads");
  s.add("model", "n_kv_heads", model.n_kv_heads, "key/value heads; 0: n_heads");
  s.add("model", "d_k", model.d_k, "width of a head's queries and keys; 0: d_model / n_heads");
  s.add("model", "d_v", model.d_v, "width of a head's values; 0: d_model / n_heads");
  s.add("model", "activation", activation, "relu, gelu, gelu_new, swish, tanh");
  s.add("model", "norm", norm, "post: norm(x + f(x)), the paper's; pre: x + f(norm(x))");
  s.add("model", "positions", positions,
        "added to embeddings: sinusoidal, learned, none; or in self-attention: rope, alibi, t5, shaw, "
        "shaw_values, "
        "transformer_xl");
  s.add("model", "max_len", model.max_len, "most tokens of a sentence");
  s.add("model", "tie_output", model.tie_output, "output layer = target embedding");
  s.add("model", "attention", attention,
        "how the decoder looks at the source, in words (docs/variants.md): scaled_dot, dot, cosine, qk_norm, "
        "general, additive, mlp, with + soft_cap:30, + entmax15, ...; none: not at all");
  s.add("model", "encoder_attention", encoder_attention,
        "the encoder's self-attention in words, say 'qk_norm + rope + window:64'");
  s.add("model", "decoder_attention", decoder_attention, "the decoder's self-attention in words");
  s.add("model", "dropout", model.dropout, "on embeddings and sub-layers' outputs");
  s.add("model", "attention_dropout", model.attention_dropout, "on attention weights");
  s.add("model", "activation_dropout", model.activation_dropout, "inside the feed-forward networks");

  s.add(
      "model", "stochastic_depth", model.stochastic_depth,
      "chance of a sentence to skip a sub-layer of the last layer in training; linearly less in those below");

  s.add("training", "seed", seed, "of initial weights, dropout and shuffling");
  s.add("training", "dtype", dtype,
        "of activations: bf16, f32, or auto (bf16 where the CPU has a unit for it)");
  s.add("training", "batch_tokens", task.batches.batch_tokens, "target tokens of a batch");
  s.add("training", "accumulate", train.accumulate, "batches per update");
  s.add("training", "max_length", task.batches.max_length, "pairs with more tokens on a side are left out");
  s.add("training", "bucket_batches", task.batches.bucket_batches,
        "sort sentences of this many batches by length; 1: do not");
  describe_optimizers(s);
  s.add("training", "min_lr", train.schedule.floor, "where schedules that fall by max_steps end");
  s.add("training", "schedule", schedule,
        "inverse_sqrt, cosine, linear, constant, one_cycle, warmup_stable_decay");
  s.add("training", "warmup", train.schedule.warmup_steps,
        "steps in which the rate rises (and, in one_cycle, falls again)");
  s.add("training", "decay_share", train.schedule.decay_share,
        "of max_steps, in which warmup_stable_decay falls");
  s.add("training", "decay_shape", decay_shape, "how it falls: linear or one_minus_sqrt");
  s.add("training", "clip_norm", train.optimizer.clip_norm,
        "gradients are scaled down to this norm; 0: never");
  s.add("training", "r_drop", task.r_drop,
        "alpha of R-Drop: every batch twice, and both are to agree; 5 for translation; 0: off");
  s.add("training", "label_smoothing", task.label_smoothing, "share of the target given to all words");
  s.add("training", "max_steps", train.max_steps, "updates; 0: no limit");
  s.add("training", "max_epochs", train.max_epochs, "passes over the data; 0: no limit");
  s.add("training", "max_minutes", train.max_minutes,
        "minutes; 0: no limit. Such a run does not repeat to the bit");
  s.add("training", "validate_every", train.validate_every, "steps between validations");
  s.add("training", "save_every", train.save_every, "steps between checkpoints");
  s.add("training", "log_every", train.log_every, "steps between lines of metrics.jsonl");
  s.add("training", "keep_checkpoints", train.keep_checkpoints, "newest checkpoints to keep");
  s.add("training", "average", train.average, "validations whose weights are averaged at the end; 0: none");
  s.add("training", "ema_decay", train.ema_decay,
        "moving average of weights, saved as ema/ at the end: 0.999, say; 0: none");
  s.add("training", "early_stop", train.early_stop,
        "stop after this many validations without a better one; 0: never");
  s.add("training", "best_by", best_by, "bleu or loss");
  s.add("training", "bleu_sentences", task.bleu_sentences, "validation sentences decoded for BLEU; 0: none");
  s.add("training", "bleu_beam", task.bleu_beam, "beam size for that");
  s.add("training", "bleu_tokenize", task.bleu_tokenize, "13a, none, intl, char, zh");
  s.add("training", "non_finite", non_finite, "NaN or infinite gradients: stop, skip or rollback");
  s.add("training", "save_dtype", save_dtype, "of saved models: f32 or bf16");
}

void TrainSettings::resolve() {
  model.activation = activation_from_name(activation);
  model.pre_norm = one_of("norm", norm, "pre", "post");
  model.cross_attention = source_attention(attention);
  model.encoder_attention = encoder_attention;
  model.decoder_attention = decoder_attention;
  model.positions = positions;
  if (positions != "sinusoidal" && positions != "learned" && positions != "none") {
    QKV_CHECK(has_positions(positions), kValue, "positions: '{}' says nothing about positions", positions);
    model.positions = "none";
    model.encoder_attention += " + " + positions;
    model.decoder_attention += " + " + positions;
  }
  train.seed = static_cast<uint64_t>(seed);
  task.batches.seed = train.seed;
  resolve_optimizer();
  train.schedule.kind = schedule_from_name(schedule);
  train.schedule.decay_shape = decay_shape_from_name(decay_shape);
  train.schedule.max_steps = train.max_steps;
  train.choose_by_score = one_of("best_by", best_by, "bleu", "loss");
  train.non_finite = non_finite_policy_from_name(non_finite);
  train.dtype = task.dtype = compute_dtype_from_name(dtype);
  task.save_dtype = dtype_from_name(save_dtype);
  QKV_CHECK(seed >= 0, kValue, "seed: {} is negative", seed);
  QKV_CHECK(task.label_smoothing >= 0 && task.label_smoothing < 1, kValue,
            "label_smoothing: {} is not in [0, 1)", task.label_smoothing);
}

// One setting for each option of any optimizer; its help says whose it is, with their defaults.
void TrainSettings::describe_optimizers(Settings& s) {
  std::vector<std::string_view> names;
  std::vector<std::string> rates;
  for (const OptimizerKind& kind : optimizers()) {
    names.push_back(kind.name);
    rates.push_back(fmt::format("{} {}", kind.name, kind.rate));
  }
  s.add("training", "optimizer", optimizer, fmt::format("{}: docs/optimizers.md", fmt::join(names, ", ")));
  s.add("training", "lr", lr, "peak learning rate", fmt::format("{}", fmt::join(rates, ", ")));
  for (const OptimizerKind& kind : optimizers())
    for (const OptimizerOption& option : kind.options) {
      const std::string key(option.name);
      if (optimizer_flags.contains(key) || optimizer_numbers.contains(key)) continue;
      std::vector<std::string> owners;
      for (const OptimizerKind& other : optimizers())
        for (const OptimizerOption& o : other.options)
          if (o.name == option.name)
            owners.push_back(o.range == Range::kFlag ? fmt::format("{} {}", other.name, o.initial != 0)
                                                     : fmt::format("{} {}", other.name, o.initial));
      const std::string help(option.meaning), of = fmt::format("{}", fmt::join(owners, ", "));
      if (option.range == Range::kFlag)
        s.add("training", key, optimizer_flags[key], help, of);
      else
        s.add("training", key, optimizer_numbers[key], help, of);
    }
}

void TrainSettings::resolve_optimizer() {
  const OptimizerKind& kind = optimizer_kind(optimizer);
  for (const OptimizerOption& option : kind.options) {
    const std::string key(option.name);
    if (option.range == Range::kFlag)
      optimizer_flags[key] = optimizer_flags[key].value_or(option.initial != 0);
    else
      optimizer_numbers[key] = optimizer_numbers[key].value_or(option.initial);
  }
  train.optimizer.name = optimizer;
  train.optimizer.options.clear();
  for (const auto& [key, value] : optimizer_numbers)
    if (value) train.optimizer.options[key] = *value;
  for (const auto& [key, value] : optimizer_flags)
    if (value) train.optimizer.options[key] = *value ? 1 : 0;
  make_optimizer(train.optimizer, {});  // refuses now what it would refuse later
  lr = lr.value_or(kind.rate);
  train.schedule.peak = *lr;
}

BpeTrainerOptions TrainSettings::bpe() const {
  BpeTrainerOptions options{.vocab_size = vocab_size,
                            .min_frequency = min_frequency,
                            .byte_level = byte_level,
                            .lowercase = lowercase};
  if (normalization == "nfc")
    options.form = UnicodeForm::kNfc;
  else if (normalization == "nfkc")
    options.form = UnicodeForm::kNfkc;
  else
    QKV_CHECK(normalization == "none", kValue, "normalization: '{}' is not one of none, nfc, nfkc",
              normalization);
  return options;
}

}  // namespace qkv::cli
