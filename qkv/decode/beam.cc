#include "qkv/decode/beam.h"

#include <algorithm>
#include <cmath>

#include "qkv/decode/history.h"
#include "qkv/decode/next_tokens.h"

namespace qkv::decode {
namespace {

// A live hypothesis continued by one token.
struct Candidate {
  double log_prob;  // of the whole
  int32_t id;
  int32_t parent;  // which of the sentence's live hypotheses, the best first
  float token_log_prob;
  bool ends;
};

bool better(const Candidate& a, const Candidate& b) {
  if (a.log_prob != b.log_prob) return a.log_prob > b.log_prob;
  if (a.id != b.id) return a.id < b.id;
  return a.parent < b.parent;
}

struct Finished {
  double score;
  int64_t node;
  bool ended;
};

// What is known of one sentence. Its live hypotheses are the rows first_row, first_row + 1, ... of the step.
struct Sentence {
  int32_t index;
  int64_t src_len;
  int64_t max_length;
  std::vector<int64_t> live;       // nodes, best first; a forced prefix has one
  std::vector<Finished> finished;  // in the order found
};

class BeamSearch {
 public:
  BeamSearch(StepModel& model, const SearchOptions& options)
      : model_(model),
        plan_(model, options, "beam_search"),
        options_(plan_.options()),
        history_(plan_),
        next_(options_.beam_size) {}

  std::vector<NBest> run();

 private:
  void advance(Sentence& sentence, int64_t first_row);
  bool done(const Sentence& sentence) const;
  NBest result(Sentence& sentence) const;

  StepModel& model_;
  const SearchPlan plan_;
  const SearchOptions& options_;
  History history_;
  NextTokens next_;
  int64_t position_ = 0;

  // The next step's rows.
  std::vector<int32_t> ids_, parents_, sentences_;
  // Scratch of advance().
  std::vector<Candidate> candidates_;
  std::vector<int64_t> attention_, next_live_;
};

std::vector<NBest> BeamSearch::run() {
  std::vector<NBest> results(static_cast<size_t>(model_.n_sentences()));
  std::vector<Sentence> open;
  for (int32_t s = 0; s < static_cast<int32_t>(results.size()); ++s) {
    open.push_back({.index = s,
                    .src_len = model_.src_len(s),
                    .max_length = plan_.max_length(s),
                    .live = {History::kRoot}});
    ids_.push_back(options_.start_id);
    parents_.push_back(s);
    sentences_.push_back(s);
  }

  Tensor logits;
  for (; !open.empty(); ++position_) {
    model_.step(ids_, parents_, logits);
    next_.score(plan_, position_, sentences_, logits);
    ids_.clear();
    parents_.clear();
    sentences_.clear();
    int64_t first_row = 0;
    for (Sentence& sentence : open) {
      const auto rows = static_cast<int64_t>(sentence.live.size());
      advance(sentence, first_row);
      first_row += rows;
      if (sentence.live.empty()) results[static_cast<size_t>(sentence.index)] = result(sentence);
    }
    std::erase_if(open, [](const Sentence& sentence) { return sentence.live.empty(); });
  }
  return results;
}

// One step of one sentence: its rows of the step become its rows of the next, none when it is done.
void BeamSearch::advance(Sentence& sentence, int64_t first_row) {
  const auto n_live = static_cast<int64_t>(sentence.live.size());
  candidates_.clear();
  attention_.clear();
  for (int64_t b = 0; b < n_live; ++b) {
    const int64_t row = first_row + b;
    const double so_far = history_.log_prob(sentence.live[static_cast<size_t>(b)]);
    const auto offer = [&](int32_t id, float log_prob, bool ends) {
      candidates_.push_back({.log_prob = so_far + static_cast<double>(log_prob),
                             .id = id,
                             .parent = static_cast<int32_t>(b),
                             .token_log_prob = log_prob,
                             .ends = ends});
    };
    for (const TokenScore& token : next_.tokens(row)) offer(token.id, token.log_prob, false);
    if (std::isfinite(next_.end_log_prob(row))) offer(options_.eos_id, next_.end_log_prob(row), true);
    attention_.push_back(history_.keep_attention(model_, row, sentence.src_len));
  }
  // Each row ends at most once, so among the best 2 * beam_size candidates at least beam_size live on, or all
  // that can.
  const auto considered = std::min(static_cast<int64_t>(candidates_.size()), 2 * options_.beam_size);
  std::partial_sort(candidates_.begin(), candidates_.begin() + considered, candidates_.end(), better);

  const bool last = position_ + 1 == sentence.max_length;
  next_live_.clear();
  const auto n_ids = ids_.size();
  for (int64_t i = 0; i < considered; ++i) {
    const Candidate& c = candidates_[static_cast<size_t>(i)];
    if (c.ends && i >= options_.beam_size) continue;
    if (!c.ends && static_cast<int64_t>(next_live_.size()) == options_.beam_size) continue;
    const auto parent = static_cast<size_t>(c.parent);
    const int64_t node = history_.add(sentence.live[parent], c.id, c.token_log_prob, attention_[parent]);
    if (c.ends) {
      sentence.finished.push_back({history_.score(node, sentence.src_len), node, true});
      continue;
    }
    next_live_.push_back(node);
    ids_.push_back(c.id);
    parents_.push_back(static_cast<int32_t>(first_row + c.parent));
    sentences_.push_back(sentence.index);
  }
  std::swap(sentence.live, next_live_);

  if (last)
    for (const int64_t node : sentence.live)
      sentence.finished.push_back({history_.score(node, sentence.src_len), node, false});
  if (last || done(sentence)) {
    sentence.live.clear();
    ids_.resize(n_ids);
    parents_.resize(n_ids);
    sentences_.resize(n_ids);
  }
}

bool BeamSearch::done(const Sentence& sentence) const {
  if (sentence.live.empty()) return true;
  const auto n_finished = static_cast<int64_t>(sentence.finished.size());
  if (n_finished < options_.n_best) return false;
  if (static_cast<double>(n_finished) >= options_.patience * static_cast<double>(options_.beam_size))
    return true;
  // Can the best live hypothesis still enter the n best? An equal score would not: earlier found goes first.
  const double hope = best_possible_score(history_.log_prob(sentence.live[0]),
                                          history_.length(sentence.live[0]), sentence.max_length, options_);
  const auto as_good = std::count_if(sentence.finished.begin(), sentence.finished.end(),
                                     [&](const Finished& f) { return f.score >= hope; });
  return as_good >= options_.n_best;
}

NBest BeamSearch::result(Sentence& sentence) const {
  std::stable_sort(
      sentence.finished.begin(), sentence.finished.end(),
      [](const Finished& a, const Finished& b) { return a.ended != b.ended ? a.ended : a.score > b.score; });
  NBest out;
  for (const Finished& f : sentence.finished) {
    if (static_cast<int64_t>(out.size()) == options_.n_best) break;
    out.push_back(history_.hypothesis(f.node, sentence.src_len, f.ended));
  }
  return out;
}

}  // namespace

std::vector<NBest> beam_search(StepModel& model, const SearchOptions& options) {
  return BeamSearch(model, options).run();
}

}  // namespace qkv::decode
