#pragma once
// Random problems for the attention op, in every combination of what it is made of. A Case is plain numbers:
// it can be drawn from a seed, printed, and made smaller while it still fails.

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "qkv/attention/sdpa.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/philox.h"

namespace qkv::test {

// Indices into lists of kinds: the comments and the functions below say what each is.
struct Case {
  struct Lengths {
    int64_t q = 0, kv = 0, past = 0;
  };
  struct RuleKind {
    int kind = 0;
    uint64_t seed = 0;
  };
  uint64_t seed = 0;  // of all numbers
  DType dtype = DType::kF32;
  size_t family = 0;  // in tables()
  HeadSizes heads{.n_heads = 1, .n_kv_heads = 1, .d_k = 1, .d_v = 1};
  std::vector<Lengths> lengths;
  size_t score = 0;             // in score_names()
  int relative = 0;             // kRelative
  int relative_values = 0;      // kRelativeValues
  int talking = 0;              // kTalking
  int normalizer = 0;           // kNormalizers
  std::vector<RuleKind> rules;  // kRules
  bool drops = false, strided = false;

  std::string str() const;
};

inline constexpr const char* kRelative[] = {"none",        "shared", "by head",
                                            "own queries", "Shaw",   "Transformer-XL"};
inline constexpr const char* kRelativeValues[] = {"none", "shared", "by head", "Shaw"};
inline constexpr const char* kTalking[] = {"alone", "scores", "weights", "scores and weights"};
inline constexpr const char* kNormalizers[] = {"softmax", "softmax with sink", "sigmoid", "sparsemax",
                                               "entmax15"};
// Masks that any_of can hold, any_of, and edits.
inline constexpr const char* kRules[] = {"causal",
                                         "window",
                                         "dilated window",
                                         "strided",
                                         "key limit",
                                         "prefix",
                                         "documents",
                                         "global",
                                         "block sparse",
                                         "mask",
                                         "mask tensor",
                                         "any of",
                                         "alibi",
                                         "learned alibi",
                                         "T5",
                                         "bias",
                                         "bias tensor",
                                         "trained bias tensor",
                                         "hiding bias tensor",
                                         "soft cap",
                                         "temperature",
                                         "hiding bias"};
inline constexpr int kAnyOf = 11;
inline constexpr int kFirstEdit = 12;

inline std::string Case::str() const {
  std::string s = fmt::format("seed {}, {}, {} (family {}), {} heads of {} x {}, d_v {}, {}", seed,
                              name(dtype), name(tables()[family]->isa), family, heads.n_kv_heads,
                              heads.group(), heads.d_k, heads.d_v, score_names()[score]);
  s += fmt::format(", relative keys: {}, values: {}, talking: {}, {}{}{}; lengths", kRelative[relative],
                   kRelativeValues[relative_values], kTalking[talking], kNormalizers[normalizer],
                   drops ? ", dropout" : "", strided ? ", strided" : "");
  for (const Lengths& n : lengths) s += fmt::format(" {}x{}+{}", n.q, n.kv, n.past);
  s += "; rules";
  for (const RuleKind& r : rules) s += fmt::format(" [{} {}]", kRules[r.kind], r.seed);
  return s;
}

/// How large the cases are.
struct CaseSizes {
  int64_t heads = 3;             // at most so many key/value heads, and query heads for each
  int64_t often = 9, width = 9;  // lengths, d_k and d_v are up to these,
  double near_tiles = 0.02;      // but for this share of the lengths, which lie around 64,
  bool two_tiles = false;        // or 128
};

class CaseRandom {
 public:
  explicit CaseRandom(uint64_t seed, uint32_t stream = 0) : random_({.seed = seed, .stream = stream}) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(random_.below(static_cast<uint64_t>(n))); }
  int64_t from(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool chance(double p) { return random_.uniform() < p; }
  double normal() { return random_.normal(); }
  uint64_t seed() { return random_.below(uint64_t{1} << 32); }

 private:
  RandomStream random_;
};

inline Case draw_case(uint64_t seed, const CaseSizes& sizes) {
  CaseRandom r(seed);
  Case c{.seed = seed};
  const DType dtypes[] = {DType::kF64, DType::kF32, DType::kF32, DType::kBF16};
  c.dtype = dtypes[r.below(4)];
  c.family = static_cast<size_t>(r.below(static_cast<int64_t>(tables().size())));
  c.heads.n_kv_heads = r.from(1, sizes.heads);
  c.heads.n_heads = c.heads.n_kv_heads * (r.chance(0.5) ? 1 : r.from(2, sizes.heads));
  c.heads.d_k = r.from(1, sizes.width);
  c.heads.d_v = r.from(1, sizes.width);
  const auto length = [&] {
    if (r.chance(sizes.near_tiles))
      return sizes.two_tiles && r.chance(0.3) ? r.from(125, 131) : r.from(60, 70);
    return r.from(0, sizes.often);
  };
  const bool self = r.chance(0.5), past = r.chance(0.3);
  for (int64_t n = r.from(1, 3); n > 0; --n) {
    Case::Lengths one{.q = length(), .past = past ? r.from(0, sizes.often) : 0};
    one.kv = self ? one.past + one.q : length();
    c.lengths.push_back(one);
  }
  c.score = static_cast<size_t>(r.below(static_cast<int64_t>(score_names().size())));
  const std::string_view score = score_names()[c.score];
  const bool dots = score != "uniform" && score != "additive" && score != "mlp";
  if (dots && r.chance(0.3)) c.relative = static_cast<int>(r.from(1, std::size(kRelative) - 1));
  if (r.chance(0.15)) c.relative_values = static_cast<int>(r.from(1, std::size(kRelativeValues) - 1));
  if (r.chance(0.1)) c.talking = static_cast<int>(r.from(1, std::size(kTalking) - 1));
  if (r.chance(0.5)) c.normalizer = static_cast<int>(r.below(std::size(kNormalizers)));
  for (int64_t n = r.below(5); n > 1; --n)
    c.rules.push_back({.kind = static_cast<int>(r.below(std::size(kRules))), .seed = r.seed()});
  c.drops = r.chance(0.2);
  c.strided = r.chance(0.5);
  return c;
}

/// What varies between runs of one problem: the packed inputs and their gradient.
struct Given : Inputs {
  Tensor dout, relative_queries;
};

/// A Case with its tensors. Rules and score hold parameters of `set`.
struct Drawn {
  Case c;
  std::unique_ptr<ParameterSet> set;
  Given given;
  AttentionOptions options;  // but for relative keys, which are made anew on each tape
  Tensor relative_rows, relative_value_rows;
  int64_t relative_zero = 0;  // of both
  int64_t max_q = 0, max_kv = 0;
  std::optional<ShawRelativeKeys> shaw;
  std::optional<ShawRelativeValues> shaw_values;
  std::optional<TransformerXlPositions> xl;
  struct TrainedBias {  // a rule that reads a tensor from the tape
    size_t rule;
    Tensor values;
    std::function<RulePtr(const Var&)> make;
  };
  std::vector<TrainedBias> biases;
};

namespace detail {

inline MaskPtr mask_of(int kind, CaseRandom& r, const Drawn& d) {
  const int64_t n_sequences = d.given.keys.size(),
                longest = std::max<int64_t>(1, std::max(d.max_q, d.max_kv));
  const auto numbers = [&](int64_t n, int64_t up_to) {
    std::vector<int64_t> all;
    for (; n > 0; --n) all.push_back(r.from(0, up_to));
    return all;
  };
  switch (kind) {
    case 0:
      return causal();
    case 1:
      return sliding_window(r.from(1, longest));
    case 2:
      return sliding_window(Window{.back = r.from(1, 5), .ahead = r.from(0, 5), .dilation = r.from(1, 7)});
    case 3:
      return strided(r.from(1, 1 + longest / 2));
    case 4:
      return key_limit(numbers(r.from(0, n_sequences), longest));
    case 5:
      return prefix(numbers(r.from(0, n_sequences), longest));
    case 6: {
      std::vector<std::vector<int64_t>> lengths(static_cast<size_t>(r.from(0, n_sequences)));
      for (auto& one : lengths) one = numbers(r.from(0, 4), longest / 2);
      return documents(lengths);
    }
    case 7:
      return global_positions(numbers(r.from(0, 3), longest));
    case 8: {
      std::vector<std::vector<bool>> shown(static_cast<size_t>(r.from(0, 5)));
      const int64_t columns = r.from(0, 5);
      for (auto& row : shown)
        for (int64_t c = 0; c < columns; ++c) row.push_back(r.chance(0.6));
      return block_sparse(r.from(1, 1 + longest / 2), shown);
    }
    case 9: {
      const int64_t a = r.from(2, 5), s = r.from(0, 4);
      return mask(
          [a, s](int64_t b, int64_t h, int64_t i, int64_t j) { return (b + h + i * j + s) % a != 0; });
    }
    default: {
      const Shape shape{r.chance(0.5) ? 1 : n_sequences, r.chance(0.5) ? 1 : d.c.heads.n_heads,
                        r.chance(0.5) ? 1 : r.from(1, d.max_q + 1),
                        r.chance(0.5) ? 1 : r.from(1, d.max_kv + 1)};
      std::vector<int32_t> seen(static_cast<size_t>(shape.numel()));
      for (int32_t& x : seen) x = r.chance(0.7) ? 1 : 0;
      return mask_tensor(Tensor::from_ids(seen).reshape(shape), r.from(0, 2));
    }
  }
}

inline RulePtr rule_of(const Case::RuleKind& kind, size_t index, Drawn& d) {
  CaseRandom r(kind.seed, 1);
  const HeadSizes& heads = d.options.heads;
  const std::string prefix = fmt::format("rule{}", index);
  switch (kind.kind) {
    case kAnyOf: {
      std::vector<MaskPtr> masks;
      for (int64_t n = r.from(1, 3); n > 0; --n)
        masks.push_back(mask_of(static_cast<int>(r.below(kAnyOf)), r, d));
      return any_of(masks);
    }
    case 12:
      return alibi(heads.n_heads);
    case 13:
      return learned_alibi(*d.set, prefix, heads);
    case 14:
      return t5_bias(
          *d.set, prefix, heads,
          {.n_buckets = 2 * r.from(2, 6), .max_distance = r.from(7, 40), .bidirectional = r.chance(0.5)});
    case 15: {
      const double slope = 0.2 * r.normal();
      return bias([slope](int64_t b, int64_t h, int64_t i, int64_t j) {
        return slope * static_cast<double>((b + 2 * h + 3 * i + 5 * j) % 7);
      });
    }
    case 16:
    case 17:
    case 18: {
      const Shape shape{r.chance(0.5) ? 1 : d.given.keys.size(), r.chance(0.5) ? 1 : heads.n_heads,
                        r.chance(0.5) ? 1 : d.max_q, r.chance(0.5) ? 1 : d.max_kv};
      Tensor values = random_tensor(shape, kind.seed, DType::kF32).to(d.set->dtype());
      if (kind.kind == 18) {
        std::vector<double> x = values.values();
        for (double& one : x)
          if (r.chance(0.3)) one = -std::numeric_limits<double>::infinity();
        values = Tensor::from(shape, x, values.dtype());
      }
      const auto make = [n = d.given.keys.size(), heads = heads.n_heads, q = d.max_q, kv = d.max_kv,
                         past = d.c.lengths.front().past](const Var& x) -> RulePtr {
        return bias_tensor(x, n, heads, q, kv, past);
      };
      if (kind.kind != 16) d.biases.push_back({.rule = index, .values = values, .make = make});
      return make(Var(values));
    }
    case 19:
      return soft_cap(0.5 + 4 * std::abs(r.normal()));
    case 20:
      return temperature(0.5 + std::abs(r.normal()));
    case 21: {
      const int64_t a = r.from(1, 4);
      return bias([a](int64_t b, int64_t h, int64_t i, int64_t j) {
        return (b + h + i + j) % a == 0 ? -std::numeric_limits<double>::infinity() : 0.0;
      });
    }
    default:
      return mask_of(kind.kind, r, d);
  }
}

}  // namespace detail

inline Drawn make(const Case& c) {
  Drawn d{.c = c};
  const DType accumulator = accumulator_dtype(c.dtype);
  d.set = std::make_unique<ParameterSet>(c.seed, accumulator);
  std::vector<int64_t> q, kv, past;
  for (const Case::Lengths& n : c.lengths) {
    q.push_back(n.q), kv.push_back(n.kv), past.push_back(n.past);
    d.max_q = std::max(d.max_q, n.q), d.max_kv = std::max(d.max_kv, n.kv);
  }
  d.given.queries = Segments(q, past);
  d.given.keys = Segments(kv);
  const auto matrix = [&](int64_t rows, int64_t columns, uint64_t stream) {
    const int64_t extra = c.strided ? 3 : 0;
    return random_tensor({rows, columns + extra}, 16 * c.seed + stream, c.dtype)
        .columns(extra, columns + extra);
  };
  const HeadSizes& heads = c.heads;
  const int64_t n = d.given.queries.n_tokens(), m = d.given.keys.n_tokens();
  d.given.q = matrix(n, heads.n_heads * heads.d_k, 1);
  d.given.k = matrix(m, heads.n_kv_heads * heads.d_k, 2);
  d.given.v = matrix(m, heads.n_kv_heads * heads.d_v, 3);
  d.given.dout = random_tensor({n, heads.n_heads * heads.d_v}, 16 * c.seed + 4, c.dtype);
  d.given.relative_queries = random_tensor({n, heads.n_heads * heads.d_k}, 16 * c.seed + 6, c.dtype);
  CaseRandom r(c.seed, 2);
  const int64_t n_rows = r.from(1, 12);
  d.relative_zero = r.below(n_rows);
  d.relative_rows =
      random_tensor({n_rows, (c.relative == 1 ? 1 : heads.n_heads) * heads.d_k}, 16 * c.seed + 5, c.dtype);
  d.relative_value_rows = random_tensor({n_rows, (c.relative_values == 1 ? 1 : heads.n_heads) * heads.d_v},
                                        16 * c.seed + 7, c.dtype);
  d.options.heads = heads;
  d.options.kernels = tables()[c.family];
  d.options.score = make_score(score_names()[c.score], *d.set, "score", heads);
  if (c.drops) d.options.dropout = dropout(0.3, c.seed);
  if (c.normalizer == 1) d.options.normalizer = softmax_with_sink(*d.set, "normalizer", heads);
  if (c.normalizer == 2) d.options.normalizer = sigmoid(-1);
  if (c.normalizer == 3) d.options.normalizer = sparsemax();
  if (c.normalizer == 4) d.options.normalizer = entmax15();
  for (size_t i = 0; i < c.rules.size(); ++i) d.options.rules.push_back(detail::rule_of(c.rules[i], i, d));
  if (c.relative == 4) d.shaw.emplace(*d.set, "shaw", heads, 5);
  if (c.relative == 5) d.xl.emplace(*d.set, "xl", heads, 6);
  if (c.relative_values == 3) d.shaw_values.emplace(*d.set, "shaw_values", heads, 4);
  if (c.talking) d.options.talking = talking_heads(*d.set, "talk", heads);
  if (c.talking == 1) d.options.talking.weights = nullptr;
  if (c.talking == 2) d.options.talking.scores = nullptr;
  // Parameters that start from 0 would hide what is done with them.
  uint64_t stream = 0;
  for (const ParameterPtr& p : d.set->all()) {
    const std::vector<double> x = p->value().values();
    if (++stream; std::all_of(x.begin(), x.end(), [](double one) { return one == 0; }))
      p->set_value(random_tensor(p->value().shape(), 64 * c.seed + stream, p->value().dtype(), 0.5));
  }
  for (const ParameterPtr& p : {d.options.talking.scores, d.options.talking.weights})  // these from identity
    if (p) p->set_value(random_tensor(p->value().shape(), 64 * c.seed + ++stream, p->value().dtype(), 0.5));
  return d;
}

/// The problem on a tape. leaves: q, k, v, then the relative rows of keys, the queries they meet, the
/// relative rows of values, and the tensors of biases, where there are such; names() says which.
inline bool leaf_of_relative_values(const Drawn& d) {
  return d.c.relative_values == 1 || d.c.relative_values == 2;
}
inline std::vector<std::string> names(const Drawn& d) {
  std::vector<std::string> all{"dq", "dk", "dv"};
  if (d.c.relative >= 1 && d.c.relative <= 3) all.push_back("relative rows");
  if (d.c.relative == 3) all.push_back("relative queries");
  if (leaf_of_relative_values(d)) all.push_back("relative value rows");
  for (size_t i = 0; i < d.biases.size(); ++i) all.push_back(fmt::format("bias tensor {}", i));
  return all;
}
inline std::vector<Tensor> leaf_values(const Drawn& d, const Given& given) {
  std::vector<Tensor> all{given.q, given.k, given.v};
  if (d.c.relative >= 1 && d.c.relative <= 3) all.push_back(d.relative_rows);
  if (d.c.relative == 3) all.push_back(given.relative_queries);
  if (leaf_of_relative_values(d)) all.push_back(d.relative_value_rows);
  for (const auto& bias : d.biases) all.push_back(bias.values);
  return all;
}
/// Queries that meet keys, and options with relative keys and biases, for these leaves.
inline std::pair<Var, AttentionOptions> on_tape(const Drawn& d, const std::vector<Var>& leaves,
                                                AttentionPath path) {
  AttentionOptions options = d.options;
  const bool rows = d.c.talking || normalizer_of(options).blockwise() == Normalizer::Blockwise::kNone;
  options.path = rows && path == AttentionPath::kBlocked ? AttentionPath::kRows : path;
  Var q = leaves[0];
  if (d.c.relative >= 1 && d.c.relative <= 3)
    options.relative_keys = RelativeKeys{
        .rows = leaves[3], .zero = d.relative_zero, .queries = d.c.relative == 3 ? leaves[4] : Var()};
  if (d.c.relative == 4) options.relative_keys = (*d.shaw)(d.c.dtype);
  if (d.c.relative == 5) {
    options.relative_keys = (*d.xl)(q, d.max_kv);
    q = d.xl->content_queries(q);
  }
  if (leaf_of_relative_values(d))
    options.relative_values =
        RelativeValues{.rows = leaves[leaves.size() - d.biases.size() - 1], .zero = d.relative_zero};
  if (d.c.relative_values == 3) options.relative_values = (*d.shaw_values)(d.c.dtype);
  for (size_t i = 0; i < d.biases.size(); ++i)
    options.rules[d.biases[i].rule] = d.biases[i].make(leaves[leaves.size() - d.biases.size() + i]);
  return {q, options};
}

/// All that a case gives: the result and every gradient, by name.
using Results = std::vector<std::pair<std::string, Tensor>>;

inline Results run(const Drawn& d, const Given& given, AttentionPath path, Probe* probe = nullptr) {
  for (const ParameterPtr& p : d.set->all()) p->zero_grad();
  std::vector<Var> leaves;
  for (const Tensor& x : leaf_values(d, given)) leaves.emplace_back(x, true);
  auto [q, options] = on_tape(d, leaves, path);
  options.probe = probe;
  const Var out = attention(q, leaves[1], leaves[2], given.queries, given.keys, options);
  backward(out, given.dout);
  Results results{{"out", out.value()}};
  const std::vector<std::string> labels = names(d);
  for (size_t i = 0; i < leaves.size(); ++i)
    results.emplace_back(labels[i], leaves[i].grad().defined()
                                        ? leaves[i].grad()
                                        : Tensor::zeros(leaves[i].value().shape(), leaves[i].dtype()));
  for (const ParameterPtr& p : d.set->all())
    if (p->has_grad()) results.emplace_back(p->name(), p->grad().clone());
  return results;
}
inline Results run(const Drawn& d, AttentionPath path, Probe* probe = nullptr) {
  return run(d, d.given, path, probe);
}

/// The smallest case found on the way down from `c` for which fails(case) is not empty; and what it says.
inline std::pair<Case, std::string> shrink(Case c, const std::function<std::string(const Case&)>& fails) {
  std::string why = fails(c);
  for (bool smaller = true; smaller && !why.empty();) {
    std::vector<Case> next;
    const auto offer = [&](auto&& change) {
      next.push_back(c);
      change(next.back());
    };
    for (size_t i = 0; i < c.rules.size(); ++i)
      offer([&](Case& x) { x.rules.erase(x.rules.begin() + static_cast<std::ptrdiff_t>(i)); });
    if (c.lengths.size() > 1)
      for (size_t i = 0; i < c.lengths.size(); ++i)
        offer([&](Case& x) { x.lengths.erase(x.lengths.begin() + static_cast<std::ptrdiff_t>(i)); });
    if (c.drops) offer([](Case& x) { x.drops = false; });
    if (c.strided) offer([](Case& x) { x.strided = false; });
    if (c.relative) offer([](Case& x) { x.relative = 0; });
    if (c.relative_values) offer([](Case& x) { x.relative_values = 0; });
    if (c.talking) offer([](Case& x) { x.talking = 0; });
    if (c.normalizer) offer([](Case& x) { x.normalizer = 0; });
    if (c.score) offer([](Case& x) { x.score = 0; });
    if (c.heads.n_kv_heads > 1)
      offer([](Case& x) { x.heads.n_heads = x.heads.group(), x.heads.n_kv_heads = 1; });
    if (c.heads.group() > 1) offer([](Case& x) { x.heads.n_heads = x.heads.n_kv_heads; });
    if (c.dtype != DType::kF64) offer([](Case& x) { x.dtype = DType::kF64; });
    for (const auto& member : {&HeadSizes::d_k, &HeadSizes::d_v})
      for (int64_t to : {c.heads.*member / 2, c.heads.*member - 1})
        if (to > 0) offer([&](Case& x) { x.heads.*member = to; });
    for (size_t i = 0; i < c.lengths.size(); ++i)
      for (const auto& member : {&Case::Lengths::q, &Case::Lengths::kv, &Case::Lengths::past})
        for (int64_t to : {c.lengths[i].*member / 2, c.lengths[i].*member - 1})
          if (to >= 0 && to < c.lengths[i].*member) offer([&](Case& x) { x.lengths[i].*member = to; });
    smaller = false;
    for (const Case& x : next)
      if (std::string still = fails(x); !still.empty()) {
        c = x, why = std::move(still), smaller = true;
        break;
      }
  }
  return {c, why};
}

/// One word of the sentence, forced into cases: every score, kind of relative keys, normalizer and rule.
struct Variant {
  std::string name;
  std::function<void(Case&)> set;
  std::string test_name() const {
    std::string word = name;
    std::replace_if(
        word.begin(), word.end(), [](char ch) { return !std::isalnum(static_cast<unsigned char>(ch)); }, '_');
    return word;
  }
};
inline void PrintTo(const Variant& v, std::ostream* to) { *to << v.name; }

inline std::vector<Variant> variants(int first_rule = 0) {
  std::vector<Variant> all;
  for (size_t i = 0; i < score_names().size(); ++i)
    all.push_back({std::string(score_names()[i]), [i](Case& c) { c.score = i, c.relative = 0; }});
  for (int i = 1; i < static_cast<int>(std::size(kRelative)); ++i)
    all.push_back(
        {std::string("relative keys, ") + kRelative[i], [i](Case& c) { c.score = 0, c.relative = i; }});
  for (int i = 1; i < static_cast<int>(std::size(kRelativeValues)); ++i)
    all.push_back(
        {std::string("relative values, ") + kRelativeValues[i], [i](Case& c) { c.relative_values = i; }});
  for (int i = 0; i < static_cast<int>(std::size(kNormalizers)); ++i)
    all.push_back({kNormalizers[i], [i](Case& c) { c.normalizer = i; }});
  for (int i = first_rule; i < static_cast<int>(std::size(kRules)); ++i)
    all.push_back(
        {kRules[i], [i](Case& c) { c.rules.insert(c.rules.begin(), {.kind = i, .seed = c.seed}); }});
  return all;
}

/// Whether no mask hides key j of sequence b from query row i of head h; where heads talk, of any head.
inline bool sees(const Drawn& d, int64_t b, int64_t h, int64_t i, int64_t j) {
  const auto shows = [&](int64_t head) {
    return std::all_of(d.options.rules.begin(), d.options.rules.end(), [&](const RulePtr& rule) {
      const auto* mask = dynamic_cast<const Mask*>(rule.get());
      uint64_t word = 1;
      if (mask)
        mask->visible(
            {.batch = b, .head = head, .i0 = d.given.queries.past(b) + i, .j0 = j, .rows = 1, .cols = 1},
            &word);
      return (word & 1) != 0;
    });
  };
  if (!d.c.talking) return shows(h);
  for (int64_t head = 0; head < d.c.heads.n_heads; ++head)
    if (shows(head)) return true;
  return false;
}

/// One tensor of the results, by name.
inline const Tensor& result(const Results& results, std::string_view name) {
  return std::find_if(results.begin(), results.end(), [&](const auto& x) { return x.first == name; })->second;
}

}  // namespace qkv::test
