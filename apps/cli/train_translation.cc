// qkv train translate

#include <algorithm>

#include "apps/cli/train_task.h"
#include "qkv/nn/activation.h"
#include "qkv/tasks/translation_training.h"

namespace qkv::cli {
namespace {

class TranslationTask : public TrainTask {
 public:
  const char* name() const override { return "translate"; }
  const char* about() const override { return "train an encoder-decoder Transformer on sentence pairs"; }
  const char* examples() const override {
    return "  qkv train translate --config recipes/small.toml --pairs mine.tsv --valid-pairs valid.tsv --out "
           "runs/mine\n"
           "  qkv train translate --config recipes/multi30k-en-de.toml --out runs/multi30k\n"
           "  qkv train translate --pairs mine.tsv --valid-pairs valid.tsv --optimizer lion --find-lr\n";
  }
  void describe(Settings& settings) override;
  void resolve(const Settings& settings) override;
  std::vector<std::pair<const char*, std::string*>> paths() override {
    return {{"pairs", &pairs_},
            {"source", &source_},
            {"target", &target_},
            {"valid_pairs", &valid_pairs_},
            {"valid_source", &valid_source_},
            {"valid_target", &valid_target_},
            {"tokenizer", &vocabulary_.tokenizer}};
  }
  std::unique_ptr<Trainee> make(const Settings& settings, const std::string& vocabulary_dir,
                                TrainObserver& observer) override;
  void save_vocabulary(const std::string& dir) const override {
    source_tokenizer_->save(dir + kVocabulary);
    if (target_tokenizer_ != source_tokenizer_) target_tokenizer_->save(dir + kTargetVocabulary);
  }
  std::string next(const std::string& dir) const override {
    return "try it:\n  echo 'A sentence.' | qkv translate --model " + dir;
  }

 private:
  static constexpr const char *kVocabulary = "/tokenizer.json", *kTargetVocabulary = "/target_tokenizer.json";

  ParallelText read(const char* what, const std::string& prefix, const std::string& pairs,
                    const std::string& source, const std::string& target) const;
  void read_vocabulary(const std::string& dir);
  void learn_vocabulary(const Settings& settings, const ParallelText& text, TrainObserver& observer);

  // [data]
  std::string pairs_, source_, target_, valid_pairs_, valid_source_, valid_target_;
  bool swap_ = false;
  // [vocabulary]
  VocabularySettings vocabulary_;
  bool joint_ = true;
  // [model]
  TransformerConfig model_;
  std::string activation_ = "relu", norm_ = "post", positions_ = "sinusoidal", attention_ = "scaled_dot",
              encoder_attention_ = "scaled_dot", decoder_attention_ = "scaled_dot";
  // [training]
  TranslationTrainingOptions task_;
  std::string best_by_ = "bleu";

  std::shared_ptr<Tokenizer> source_tokenizer_, target_tokenizer_;
};

void TranslationTask::describe(Settings& s) {
  s.add("data", "pairs", pairs_, "training pairs, one file: source TAB target (.gz too)");
  s.add("data", "source", source_, "training source lines (.gz too)");
  s.add("data", "target", target_, "training target lines; line n translates line n of --source");
  s.add("data", "valid_pairs", valid_pairs_, "validation pairs, one file");
  s.add("data", "valid_source", valid_source_, "validation source lines");
  s.add("data", "valid_target", valid_target_, "validation target lines");
  s.add("data", "swap", swap_, "pairs files are target TAB source");

  vocabulary_.describe(s);
  s.add("vocabulary", "joint", joint_, "one vocabulary for both languages, one shared embedding");

  s.add("model", "encoder_layers", model_.encoder_layers, "layers of the encoder");
  s.add("model", "decoder_layers", model_.decoder_layers, "layers of the decoder");
  s.add("model", "d_model", model_.d_model, "width of the rows");
  s.add("model", "d_ff", model_.d_ff, "width of the feed-forward networks");
  s.add("model", "n_heads", model_.n_heads, "attention heads");
  s.add("model", "n_kv_heads", model_.n_kv_heads, "key/value heads; 0: n_heads");
  s.add("model", "d_k", model_.d_k, "width of a head's queries and keys; 0: d_model / n_heads");
  s.add("model", "d_v", model_.d_v, "width of a head's values; 0: d_model / n_heads");
  s.add("model", "activation", activation_, "relu, gelu, gelu_new, swish, tanh");
  s.add("model", "norm", norm_, "post: norm(x + f(x)), the paper's; pre: x + f(norm(x))");
  s.add("model", "positions", positions_,
        "added to embeddings: sinusoidal, learned, none; or in self-attention: rope, alibi, t5, shaw, "
        "shaw_values, "
        "transformer_xl");
  s.add("model", "max_len", model_.max_len, "most tokens of a sentence");
  s.add("model", "tie_output", model_.tie_output, "output layer = target embedding");
  s.add("model", "attention", attention_,
        "how the decoder looks at the source, in words (docs/variants.md): scaled_dot, dot, cosine, qk_norm, "
        "general, additive, mlp, with + soft_cap:30, + entmax15, ...; none: at all of it alike");
  s.add("model", "encoder_attention", encoder_attention_,
        "the encoder's self-attention in words, say 'qk_norm + rope + window:64'");
  s.add("model", "decoder_attention", decoder_attention_, "the decoder's self-attention in words");
  s.add("model", "dropout", model_.dropout, "on embeddings and sub-layers' outputs");
  s.add("model", "attention_dropout", model_.attention_dropout, "on attention weights");
  s.add("model", "activation_dropout", model_.activation_dropout, "inside the feed-forward networks");
  s.add(
      "model", "stochastic_depth", model_.stochastic_depth,
      "chance of a sentence to skip a sub-layer of the last layer in training; linearly less in those below");

  s.add("training", "batch_tokens", task_.batches.batch_tokens, "target tokens of a batch");
  s.add("training", "max_length", task_.batches.max_length, "pairs with more tokens on a side are left out");
  s.add("training", "bucket_batches", task_.batches.bucket_batches,
        "sort sentences of this many batches by length; 1: do not");
  s.add("training", "r_drop", task_.r_drop,
        "alpha of R-Drop: every batch twice, and both are to agree; 5 for translation; 0: off");
  s.add("training", "label_smoothing", task_.label_smoothing, "share of the target given to all words");
  s.add("training", "best_by", best_by_, "bleu or loss");
  s.add("training", "bleu_sentences", task_.bleu_sentences, "validation sentences decoded for BLEU; 0: none");
  s.add("training", "bleu_beam", task_.bleu_beam, "beam size for that");
  s.add("training", "bleu_tokenize", task_.bleu_tokenize, "13a, none, intl, char, zh");
  loop.describe(s);
}

// Pairs in one file, or two files of lines: what a flag gives takes the place of what a recipe gave in the
// other form.
void choose_form(const Settings& settings, const std::string& prefix, std::string& pairs, std::string& source,
                 std::string& target) {
  const bool one = settings.from_flag(prefix + "pairs"),
             two = settings.from_flag(prefix + "source") || settings.from_flag(prefix + "target");
  if (one && !two) source.clear(), target.clear();
  if (two && !one) pairs.clear();
}

void TranslationTask::resolve(const Settings& settings) {
  loop.resolve();
  choose_form(settings, "", pairs_, source_, target_);
  choose_form(settings, "valid_", valid_pairs_, valid_source_, valid_target_);
  model_.activation = activation_from_name(activation_);
  model_.pre_norm = one_of("norm", norm_, "pre", "post");
  model_.cross_attention = attention_;
  model_.encoder_attention = encoder_attention_;
  model_.decoder_attention = decoder_attention_;
  model_.positions = place_positions(positions_, {&model_.encoder_attention, &model_.decoder_attention});
  task_.batches.seed = loop.options.seed;
  task_.dtype = loop.options.dtype;
  task_.save_dtype = dtype_from_name(loop.save_dtype);
  loop.options.choose_by_score = one_of("best_by", best_by_, "bleu", "loss");
  TransformerConfig model = model_;
  model.vocab_size = std::max<int64_t>(3, vocabulary_.vocab_size);
  model.validate("train");
  task_.check(model.max_len);
  (void)vocabulary_.bpe();
}

ParallelText TranslationTask::read(const char* what, const std::string& prefix, const std::string& pairs,
                                   const std::string& source, const std::string& target) const {
  const bool two = !source.empty() && !target.empty();
  QKV_CHECK(
      pairs.empty() || (source.empty() && target.empty()), kValue,
      "train: {} data is given twice: as --{}pairs, and as --{}source or --{}target; give one of the two",
      what, prefix, prefix, prefix);
  QKV_CHECK(!pairs.empty() || two, kValue,
            "train: {} data: give --{}pairs FILE, or both --{}source FILE and --{}target FILE", what, prefix,
            prefix, prefix);
  return pairs.empty() ? read_parallel_files(source, target) : read_parallel_tsv(pairs, swap_);
}

void TranslationTask::read_vocabulary(const std::string& dir) {
  check_vocabulary_kept(dir + kVocabulary);
  source_tokenizer_ = target_tokenizer_ = std::make_shared<Tokenizer>(Tokenizer::load(dir + kVocabulary));
  if (!joint_) target_tokenizer_ = std::make_shared<Tokenizer>(Tokenizer::load(dir + kTargetVocabulary));
}

void TranslationTask::learn_vocabulary(const Settings& settings, const ParallelText& text,
                                       TrainObserver& observer) {
  if (!vocabulary_.tokenizer.empty()) {
    QKV_CHECK(joint_, kValue, "train: --tokenizer is for both languages; --joint false does not go with it");
    source_tokenizer_ = target_tokenizer_ =
        std::make_shared<Tokenizer>(Tokenizer::load(vocabulary_.tokenizer));
    return;
  }
  BpeTrainerOptions options = vocabulary_.bpe();
  options.allow_smaller = !settings.given("vocab_size");
  if (joint_) {
    std::vector<std::string> lines = text.source;
    lines.insert(lines.end(), text.target.begin(), text.target.end());
    source_tokenizer_ = target_tokenizer_ = std::make_shared<Tokenizer>(train_bpe(lines, options));
  } else {
    source_tokenizer_ = std::make_shared<Tokenizer>(train_bpe(text.source, options));
    target_tokenizer_ = std::make_shared<Tokenizer>(train_bpe(text.target, options));
  }
  const int64_t entries = source_tokenizer_->vocab_size();
  observer.on_message(fmt::format("vocabulary: {} entries{}{}", entries,
                                  joint_ ? ", joint" : " for each language",
                                  entries < vocabulary_.vocab_size ? " (the text gives no more)" : ""));
}

std::unique_ptr<Trainee> TranslationTask::make(const Settings& settings, const std::string& vocabulary_dir,
                                               TrainObserver& observer) {
  const ParallelText training = read("training", "", pairs_, source_, target_);
  const ParallelText validation = read("validation", "valid-", valid_pairs_, valid_source_, valid_target_);
  if (training.skipped_empty > 0)
    observer.on_message(fmt::format("{} pairs with an empty side left out", training.skipped_empty));
  if (vocabulary_dir.empty())
    learn_vocabulary(settings, training, observer);
  else
    read_vocabulary(vocabulary_dir);
  vocabulary_.vocab_size = source_tokenizer_->vocab_size();  // config.toml says what it became
  for (const auto& tokenizer : {source_tokenizer_, target_tokenizer_}) {
    const std::vector<int32_t> probe = tokenizer->encode("a");
    QKV_CHECK(
        !probe.empty() && probe.back() == model_.eos_id && tokenizer->is_special(model_.pad_id), kFormat,
        "train: the tokenizer needs to append </s> with id {} to a sentence and to have <pad> as id {}, as "
        "those of qkv do",
        model_.eos_id, model_.pad_id);
    QKV_CHECK(tokenizer->max_emitted_id() < tokenizer->vocab_size(), kFormat,
              "train: the tokenizer makes ids up to {}, but has {} entries", tokenizer->max_emitted_id(),
              tokenizer->vocab_size());
  }
  model_.vocab_size = source_tokenizer_->vocab_size();
  model_.target_vocab_size = target_tokenizer_ == source_tokenizer_ ? 0 : target_tokenizer_->vocab_size();
  const TranslationModel model{.transformer = std::make_shared<Transformer>(model_, loop.options.seed),
                               .source_tokenizer = source_tokenizer_,
                               .target_tokenizer = target_tokenizer_};
  auto trainee = std::make_unique<TranslationTrainee>(model, training, validation, task_);
  if (trainee->n_skipped() > 0)
    observer.on_message(fmt::format("{} pairs longer than {} tokens left out", trainee->n_skipped(),
                                    task_.batches.max_length));
  observer.on_message(fmt::format("{} pairs, {} target tokens an epoch, {}", training.source.size(),
                                  trainee->training_target_tokens(),
                                  machine_line(model.transformer->parameters().numel(), task_.dtype)));
  return trainee;
}

}  // namespace

std::unique_ptr<TrainTask> make_translation_task() { return std::make_unique<TranslationTask>(); }

}  // namespace qkv::cli
