// qkv train lm and qkv train mlm: models of plain text.

#include <cmath>

#include "apps/cli/train_task.h"
#include "qkv/base/counted.h"
#include "qkv/nn/activation.h"
#include "qkv/tasks/language_model_training.h"
#include "qkv/tasks/masked_language_model_training.h"
#include "qkv/train/text_file.h"

namespace qkv::cli {
namespace {

constexpr const char* kVocabulary = "/tokenizer.json";

// What both have: a file of text, its vocabulary, windows of it, and sizes of a stack of layers.
class TextTask : public TrainTask {
 public:
  void describe(Settings& settings) override;
  void resolve(const Settings& settings) override;
  std::vector<std::pair<const char*, std::string*>> paths() override {
    return {{"input", &input_}, {"valid", &valid_}, {"tokenizer", &vocabulary_.tokenizer}};
  }
  std::unique_ptr<Trainee> make(const Settings& settings, const std::string& vocabulary_dir,
                                TrainObserver& observer) override;
  void save_vocabulary(const std::string& dir) const override { tokenizer_->save(dir + kVocabulary); }
  std::string next(const std::string& dir) const override { return "what it is:\n  qkv info " + dir; }

 protected:
  TextTask() {
    loop.optimizer = "adamw";
    loop.options.optimizer.clip_norm = 1;
    loop.options.schedule.warmup_steps = 200;
    loop.options.validate_every = 250;
    loop.options.choose_by_score = false;
  }

  virtual void describe_task(Settings&) {}
  virtual void resolve_task() = 0;  // checks the model with a vocabulary of vocabulary_.vocab_size
  virtual void frame(BpeTrainerOptions& options) const = 0;  // its special tokens
  /// With the tokenizer there: the model and its training; how many parameters it has.
  virtual std::unique_ptr<TextTrainee> make_trainee(const TrainingText& text) = 0;
  virtual int64_t n_parameters() const = 0;
  virtual std::string told(const CountingBaseline& baseline) const = 0;

  // Sizes and words of either model.
  template <class Config>
  void fill(Config& c) const {
    c.vocab_size = tokenizer_ ? tokenizer_->vocab_size() : std::max<int64_t>(8, vocabulary_.vocab_size);
    c.max_len = max_len_ > 0 ? max_len_ : task_.windows.length;
    c.d_model = d_model_;
    c.n_layers = n_layers_;
    c.n_heads = n_heads_;
    c.d_ff = d_ff_;
    c.d_k = d_k_;
    c.d_v = d_v_;
    c.activation = activation_from_name(activation_);
    c.dropout = dropout_;
    c.attention = attention_;
    c.positions = place_positions(positions_, {&c.attention});
  }

  std::string activation_;
  TextTrainingOptions task_;
  std::shared_ptr<Tokenizer> tokenizer_;
  VocabularySettings vocabulary_;

 private:
  void learn_vocabulary(const Settings& settings, const TrainingText& text, TrainObserver& observer);

  std::string input_, valid_, documents_ = "file";
  double valid_share_ = 0.1;
  int64_t d_model_ = 256, n_layers_ = 4, n_heads_ = 4, d_ff_ = 1024, d_k_ = 0, d_v_ = 0, max_len_ = 0;
  double dropout_ = 0.1;
  std::string positions_ = "learned", attention_ = "scaled_dot";
};

void TextTask::describe(Settings& s) {
  s.add("data", "input", input_, "the text: a plain file, UTF-8 (.gz too)");
  s.add("data", "valid", valid_, "text to be judged by; none: the end of --input is held out");
  s.add("data", "valid_share", valid_share_, "how much of it");
  s.add("data", "documents", documents_,
        "what belongs together: file (all of it), paragraphs (what stands between blank lines) or lines");
  vocabulary_.describe(s);
  s.add("model", "n_layers", n_layers_, "layers");
  s.add("model", "d_model", d_model_, "width of the rows");
  s.add("model", "d_ff", d_ff_, "width of the feed-forward networks");
  s.add("model", "n_heads", n_heads_, "attention heads");
  s.add("model", "d_k", d_k_, "width of a head's queries and keys; 0: d_model / n_heads");
  s.add("model", "d_v", d_v_, "width of a head's values; 0: d_model / n_heads");
  s.add("model", "activation", activation_, "relu, gelu, gelu_new, swish, tanh");
  s.add(
      "model", "positions", positions_,
      "added to embeddings: learned, sinusoidal, none; or in attention: rope, alibi, t5, shaw, shaw_values, "
      "transformer_xl");
  s.add("model", "max_len", max_len_, "most tokens of a text; 0: context");
  s.add("model", "attention", attention_, "in words (docs/variants.md), say 'qk_norm + window:64 + sink'");
  s.add("model", "dropout", dropout_, "on embeddings, sub-layers' outputs and attention weights");
  s.add("training", "context", task_.windows.length, "tokens that the model sees at once");
  s.add("training", "batch_tokens", task_.windows.batch_tokens, "tokens of a batch");
  describe_task(s);
  loop.describe(s);
}

void TextTask::resolve(const Settings&) {
  loop.resolve();
  task_.windows.seed = loop.options.seed;
  task_.dtype = loop.options.dtype;
  task_.save_dtype = dtype_from_name(loop.save_dtype);
  (void)documents_from_name(documents_);
  (void)vocabulary_.bpe();
  QKV_CHECK(valid_share_ > 0 && valid_share_ < 1, kValue, "valid_share: {} is not between 0 and 1",
            valid_share_);
  resolve_task();
}

void TextTask::learn_vocabulary(const Settings& settings, const TrainingText& text, TrainObserver& observer) {
  BpeTrainerOptions options = vocabulary_.bpe();
  options.allow_smaller = !settings.given("vocab_size");
  options.prefix_space = false;  // documents are cut anywhere, and joined again
  frame(options);
  if (!options.byte_level) options.special_tokens.emplace_back("<unk>");
  tokenizer_ = std::make_shared<Tokenizer>(train_bpe(text.training, options));
  observer.on_message(
      fmt::format("vocabulary: {} entries{}", tokenizer_->vocab_size(),
                  tokenizer_->vocab_size() < vocabulary_.vocab_size ? " (the text gives no more)" : ""));
}

std::unique_ptr<Trainee> TextTask::make(const Settings& settings, const std::string& vocabulary_dir,
                                        TrainObserver& observer) {
  QKV_CHECK(!input_.empty(), kValue, "train: on what? give --input FILE");
  const Documents documents = documents_from_name(documents_);
  TrainingText text{.training = read_documents(input_, documents), .validation = {}};
  text.validation =
      valid_.empty() ? take_tail(text.training, valid_share_) : read_documents(valid_, documents);
  if (!vocabulary_dir.empty()) {
    check_vocabulary_kept(vocabulary_dir + kVocabulary);
    tokenizer_ = std::make_shared<Tokenizer>(Tokenizer::load(vocabulary_dir + kVocabulary));
  } else if (!vocabulary_.tokenizer.empty()) {
    tokenizer_ = std::make_shared<Tokenizer>(Tokenizer::load(vocabulary_.tokenizer));
  } else {
    learn_vocabulary(settings, text, observer);
  }
  vocabulary_.vocab_size = tokenizer_->vocab_size();  // config.toml says what it became
  std::unique_ptr<TextTrainee> trainee = make_trainee(text);
  observer.on_message(fmt::format("{} of {} bytes, {} tokens; held out: {} bytes, {} tokens",
                                  counted(static_cast<int64_t>(text.training.size()), "document"),
                                  bytes_of(text.training), trainee->training_tokens(),
                                  bytes_of(text.validation), trainee->validation_tokens()));
  observer.on_message("to be beaten on what is held out: " + told(trainee->baseline()));
  observer.on_message(machine_line(n_parameters(), task_.dtype));
  return trainee;
}

class LanguageModelTask : public TextTask {
 public:
  LanguageModelTask() { activation_ = "gelu_new"; }
  const char* name() const override { return "lm"; }
  const char* about() const override { return "train a language model (GPT-2's shape) on a text"; }
  const char* examples() const override {
    return "  qkv train lm --input book.txt --out runs/book\n"
           "  qkv train lm --input poems.txt --documents paragraphs --vocab-size 2000 --context 128 "
           "--d-model "
           "128 --out runs/poems\n"
           "  qkv train lm --input book.txt --tokenizer gpt2/tokenizer.json --positions rope --out "
           "runs/rope\n";
  }

 protected:
  void resolve_task() override {
    fill(model_);
    model_.validate("train");
    task_.check(model_.max_len);
  }
  void frame(BpeTrainerOptions& options) const override {
    options.special_tokens = {"<|endoftext|>"};
    options.end_token = "";
  }
  std::unique_ptr<TextTrainee> make_trainee(const TrainingText& text) override {
    fill(model_);
    model_.eos_id = end_of_text(*tokenizer_);
    gpt2_ = std::make_shared<Gpt2>(model_, loop.options.seed);
    return std::make_unique<LanguageModelTrainee>(LanguageModel{.gpt2 = gpt2_, .tokenizer = tokenizer_}, text,
                                                  task_);
  }
  int64_t n_parameters() const override { return gpt2_->parameters().numel(); }
  std::string told(const CountingBaseline& b) const override {
    return fmt::format("perplexity {:.1f} by the frequency of tokens, {:.1f} by the token before",
                       std::exp(b.token_loss), std::exp(b.pair_loss));
  }

 private:
  Gpt2Config model_;
  std::shared_ptr<Gpt2> gpt2_;
};

class MaskedLanguageModelTask : public TextTask {
 public:
  MaskedLanguageModelTask() { activation_ = "gelu"; }
  const char* name() const override { return "mlm"; }
  const char* about() const override { return "train a masked language model (BERT's shape) on a text"; }
  const char* examples() const override {
    return "  qkv train mlm --input book.txt --out runs/book\n"
           "  qkv train mlm --input articles.txt --documents paragraphs --valid more.txt --context 128 --out "
           "runs/articles\n";
  }

 protected:
  void describe_task(Settings& s) override { s.add("training", "best_by", best_by_, "accuracy or loss"); }
  void resolve_task() override {
    loop.options.choose_by_score = one_of("best_by", best_by_, "accuracy", "loss");
    fill(model_);
    model_.attention_dropout = model_.dropout;
    model_.validate("train");
    task_.check(model_.max_len);
  }
  void frame(BpeTrainerOptions& options) const override {
    options.special_tokens = {"[PAD]", "[CLS]", "[SEP]", "[MASK]"};
    options.start_token = "[CLS]";
    options.end_token = "[SEP]";
  }
  std::unique_ptr<TextTrainee> make_trainee(const TrainingText& text) override {
    fill(model_);
    model_.pad_id = bert_tokens(*tokenizer_).pad;
    bert_ = std::make_shared<Bert>(model_, loop.options.seed);
    return std::make_unique<MaskedLanguageModelTrainee>(
        MaskedLanguageModel{.bert = bert_, .tokenizer = tokenizer_}, text, task_);
  }
  int64_t n_parameters() const override { return bert_->parameters().numel(); }
  std::string told(const CountingBaseline& b) const override {
    return fmt::format(
        "loss {:.3f} and accuracy {:.1f} % by the frequency of tokens, {:.3f} and {:.1f} % by the token "
        "before",
        b.token_loss, 100 * b.token_accuracy, b.pair_loss, 100 * b.pair_accuracy);
  }

 private:
  BertConfig model_;
  std::string best_by_ = "loss";
  std::shared_ptr<Bert> bert_;
};

}  // namespace

std::unique_ptr<TrainTask> make_language_model_task() { return std::make_unique<LanguageModelTask>(); }
std::unique_ptr<TrainTask> make_masked_language_model_task() {
  return std::make_unique<MaskedLanguageModelTask>();
}

}  // namespace qkv::cli
