#include "apps/cli/train_settings.h"

#include <fmt/ranges.h>

#include "qkv/attention/variant.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {

bool one_of(const char* setting, const std::string& value, const char* yes, const char* no) {
  QKV_CHECK(value == yes || value == no, kValue, "{}: '{}' is neither {} nor {}", setting, value, yes, no);
  return value == yes;
}

std::string place_positions(const std::string& word, std::initializer_list<std::string*> attention) {
  if (word == "sinusoidal" || word == "learned" || word == "none") return word;
  QKV_CHECK(has_positions(word), kValue, "positions: '{}' says nothing about positions", word);
  for (std::string* words : attention) *words += " + " + word;
  return "none";
}

void VocabularySettings::describe(Settings& s) {
  s.add("vocabulary", "vocab_size", vocab_size, "entries, special tokens and alphabet counted");
  s.add("vocabulary", "byte_level", byte_level, "symbols are bytes: any text has ids; else characters");
  s.add("vocabulary", "lowercase", lowercase, "lower-case all text");
  s.add("vocabulary", "normalization", normalization, "none, nfc or nfkc");
  s.add("vocabulary", "min_frequency", min_frequency, "pairs that occur less often are not merged");
  s.add("vocabulary", "tokenizer", tokenizer, "a tokenizer.json to use instead of learning one");
}

BpeTrainerOptions VocabularySettings::bpe() const {
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

LoopSettings::LoopSettings() { options.schedule.warmup_steps = 1000; }

void LoopSettings::describe(Settings& s) {
  s.add("training", "seed", seed,
        "of initial weights, of what is random in training, and of the order of text");
  s.add("training", "dtype", dtype,
        "of activations: bf16, f32, or auto (bf16 where the CPU has a unit for it)");
  s.add("training", "accumulate", options.accumulate, "batches per update");
  s.add("training", "gradient_checkpointing", options.gradient_checkpointing,
        "keep the inputs of layers alone and run them again in backward: less memory, a third more work, the "
        "same bits");
  describe_optimizers(s);
  s.add("training", "min_lr", options.schedule.floor, "where schedules that fall by max_steps end");
  s.add("training", "schedule", schedule,
        "inverse_sqrt, cosine, linear, constant, one_cycle, warmup_stable_decay");
  s.add("training", "warmup", options.schedule.warmup_steps,
        "steps in which the rate rises (and, in one_cycle, falls again)");
  s.add("training", "decay_share", options.schedule.decay_share,
        "of max_steps, in which warmup_stable_decay falls");
  s.add("training", "decay_shape", decay_shape, "how it falls: linear or one_minus_sqrt");
  s.add("training", "clip_norm", options.optimizer.clip_norm,
        "gradients are scaled down to this norm; 0: never");
  s.add("training", "max_steps", options.max_steps, "updates; 0: no limit");
  s.add("training", "max_epochs", max_epochs, "passes over the data; 0: no limit",
        "20 where neither max_steps nor max_minutes is given");
  s.add("training", "max_minutes", options.max_minutes,
        "minutes; 0: no limit. Such a run does not repeat to the bit");
  s.add("training", "validate_every", options.validate_every, "steps between validations");
  s.add("training", "save_every", options.save_every, "steps between checkpoints");
  s.add("training", "log_every", options.log_every, "steps between lines of metrics.jsonl");
  s.add("training", "keep_checkpoints", options.keep_checkpoints, "newest checkpoints to keep");
  s.add("training", "average", options.average, "validations whose weights are averaged at the end; 0: none");
  s.add("training", "ema_decay", options.ema_decay,
        "moving average of weights, saved as ema/ at the end: 0.999, say; 0: none");
  s.add("training", "early_stop", options.early_stop,
        "stop after this many validations without a better one; 0: never");
  s.add("training", "non_finite", non_finite, "NaN or infinite gradients: stop, skip or rollback");
  s.add("training", "save_dtype", save_dtype, "of saved models: f32 or bf16");
}

void LoopSettings::resolve() {
  options.seed = static_cast<uint64_t>(seed);
  resolve_optimizer();
  options.schedule.kind = schedule_from_name(schedule);
  options.schedule.decay_shape = decay_shape_from_name(decay_shape);
  options.schedule.max_steps = options.max_steps;
  if (!max_epochs) max_epochs = options.max_steps > 0 || options.max_minutes > 0 ? 0 : 20;
  options.max_epochs = *max_epochs;
  options.non_finite = non_finite_policy_from_name(non_finite);
  options.dtype = compute_dtype_from_name(dtype);
  QKV_CHECK(seed >= 0, kValue, "seed: {} is negative", seed);
}

// One setting for each option of any optimizer; its help says whose it is, with their defaults.
void LoopSettings::describe_optimizers(Settings& s) {
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

void LoopSettings::resolve_optimizer() {
  const OptimizerKind& kind = optimizer_kind(optimizer);
  for (const OptimizerOption& option : kind.options) {
    const std::string key(option.name);
    if (option.range == Range::kFlag)
      optimizer_flags[key] = optimizer_flags[key].value_or(option.initial != 0);
    else
      optimizer_numbers[key] = optimizer_numbers[key].value_or(option.initial);
  }
  options.optimizer.name = optimizer;
  options.optimizer.options.clear();
  for (const auto& [key, value] : optimizer_numbers)
    if (value) options.optimizer.options[key] = *value;
  for (const auto& [key, value] : optimizer_flags)
    if (value) options.optimizer.options[key] = *value ? 1 : 0;
  make_optimizer(options.optimizer, {});  // refuses now what it would refuse later
  lr = lr.value_or(kind.rate);
  options.schedule.peak = *lr;
}

}  // namespace qkv::cli
