#pragma once
// Hierarchical attention: words make sentence vectors, and these make document vectors.

#include <functional>

#include "qkv/attention/pooling.h"

namespace qkv {

/// Two levels of sequences that fit: `sentences` says how many tokens each sentence has, `documents` how many
/// sentences each document has; both may be 0.
class TwoLevels {
 public:
  /// Error kShape: the documents do not hold as many sentences as there are.
  TwoLevels(Segments sentences, Segments documents);
  /// lengths[d][s]: tokens of sentence s of document d.
  static TwoLevels of(const std::vector<std::vector<int64_t>>& lengths);

  const Segments& sentences() const { return sentences_; }
  const Segments& documents() const { return documents_; }

 private:
  Segments sentences_, documents_;
};

/// What lets the rows of a sequence know each other before they are pooled: a self-attention layer, say.
/// x [n_tokens, d_in] -> [n_tokens, d_model of the pooling]; null: the rows as they are.
using RowEncoder = std::function<Var(Pass& pass, const Var& x, const Segments& rows, Probe* probe)>;

/// One level: pooling(encoder(pooling.prepare(x))).
struct PoolingLevel {
  RowEncoder encoder;
  PoolingPtr pooling;
  Var operator()(Pass& pass, const Var& x, const Segments& rows, Probe* probe) const;
};

/// Document vectors v_d = pool_s(encode(s_1 .. s_L)), of sentence vectors s_i = pool_w(encode(h_i1 .. h_iT)).
///
/// Yang et al. 2016, "Hierarchical Attention Networks for Document Classification", NAACL, section 2.2, where
/// the encoders are bidirectional GRUs and both poolings are `additive` (eq. 5-7 and 8-10).
///
///     HierarchicalPooling han({.pooling = make_pooling("additive", set, "words", {.d_model = d})},
///                             {.pooling = make_pooling("additive", set, "sentences", {.d_model = d})});
///     const Var documents = han(pass, embedded, TwoLevels::of({{7, 5}, {9}}), &probe);
///
/// A probe finds the weights at the poolings' sites: "words", whose sequences are sentences, counted through
/// the whole batch, and "sentences", whose sequences are documents. A sentence without words is a sentence
/// still: its vector is zeros before the encoder. A document without sentences gives zeros.
/// Errors: kValue (a level without a pooling), kShape (rows that are not those of the levels).
class HierarchicalPooling {
 public:
  HierarchicalPooling(PoolingLevel words, PoolingLevel sentences);

  /// x [n_tokens, d_in of the words' encoder] -> [n_documents, d_out of the sentences' pooling]
  Var operator()(Pass& pass, const Var& x, const TwoLevels& rows, Probe* probe = nullptr) const;

 private:
  PoolingLevel words_, sentences_;
};

}  // namespace qkv
