// Documents of sentences of words; a word in one of them says that a document is superb or dreadful, or else
// it is ordinary. Hierarchical attention (Yang et al. 2016) learns from the classes alone where to look.

#include <algorithm>
#include <cstdio>

#include "qkv/attention/pooling/hierarchical.h"
#include "qkv/autograd/ops/cross_entropy.h"
#include "qkv/autograd/ops/embedding.h"
#include "qkv/train/optimizers/adam.h"

using namespace qkv;

const char* const kWords[] = {"superb", "dreadful", "ordinary", "the",  "food", "we",  "came", "at",
                              "noon",   "and",      "left",     "with", "soup", "tea", "it",   "rained"};

int main() {
  const int64_t n_documents = 96, n_sentences = 3, n_words = 5, n_classes = 3, d = 8;
  RandomStream random({.seed = 1});
  std::vector<int32_t> ids, classes;
  for (int64_t i = 0; i < n_documents; ++i) {
    classes.push_back(static_cast<int32_t>(random.below(n_classes)));
    const uint64_t n = n_sentences * n_words, telling = random.below(n);
    for (uint64_t w = 0; w < n; ++w)
      ids.push_back(w == telling && classes.back() < 2 ? classes.back()
                                                       : static_cast<int32_t>(3 + random.below(13)));
  }
  const TwoLevels rows(Segments(std::vector<int64_t>(n_documents * n_sentences, n_words)),
                       Segments(std::vector<int64_t>(n_documents, n_sentences)));

  ParameterSet set(1);
  const ParameterPtr table = set.normal("embedding", {16, d}, 0.3),
                     output = set.xavier_uniform("output", {n_classes, d});
  const HierarchicalPooling han(
      {.encoder = nullptr, .pooling = make_pooling("additive", set, "words", {.d_model = d})},
      {.encoder = nullptr, .pooling = make_pooling("additive", set, "sentences", {.d_model = d})});
  const auto loss = [&](Probe* probe) {
    Pass pass = Pass::training(DType::kF32, 1, 0);
    const Var documents = han(pass, embedding(ids, table, 1, {}, nullptr, DType::kF32), rows, probe);
    return cross_entropy(documents, output, nullptr, classes, 0, 1.0 / n_documents);
  };
  Adam optimizer(set.all(), {});
  for (int step = 0; step < 200; ++step) {
    backward(loss(nullptr).loss);
    optimizer.step(0.01, optimizer.grad_norm());
  }

  Probe probe;  // its rows are the sentences, each with its words' weights, then the documents with their
                // sentences'
  const NoGrad off;
  std::printf("loss %.4f\n", loss(&probe).nll_sum / n_documents);
  int found = 0, told = 0;
  const auto most = [](const AttentionRow& row) {
    return std::max_element(row.attn_weights.begin(), row.attn_weights.end()) - row.attn_weights.begin();
  };
  for (int64_t i = 0; i < n_documents; ++i) {
    const AttentionRow& document = probe.rows[static_cast<size_t>(n_documents * n_sentences + i)];
    const AttentionRow& sentence = probe.rows[static_cast<size_t>(i * n_sentences + most(document))];
    const auto word = [&](int64_t w) { return ids[static_cast<size_t>(sentence.sequence * n_words + w)]; };
    const int32_t c = classes[static_cast<size_t>(i)];
    if (c == 2) continue;
    ++told;
    found += word(most(sentence)) == c;
    if (told > 5) continue;
    std::printf("%s: sentence %d, %.2f:", kWords[c], static_cast<int>(most(document)),
                document.attn_weights[static_cast<size_t>(most(document))]);
    for (int64_t w = 0; w < n_words; ++w)
      std::printf("  %s %.2f", kWords[word(w)], sentence.attn_weights[static_cast<size_t>(w)]);
    std::printf("\n");
  }
  std::printf("the word that tells was found in %d of %d documents\n", found, told);
  return found == told ? 0 : 1;
}
