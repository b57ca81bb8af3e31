#pragma once
// Text for small experiments with language models.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace qkv {

/// Token numbers below vocab_size(), as many as are asked for.
class LabText {
 public:
  virtual ~LabText() = default;
  virtual int64_t vocab_size() const = 0;
  /// Window `number` for training: a function of (seed, number).
  virtual std::vector<int32_t> training(int64_t length, uint64_t seed, uint32_t number) const = 0;
  /// Window `number` of text that is never trained on, or nothing where there is no such window.
  virtual std::vector<int32_t> held_out(int64_t length, uint32_t number) const = 0;
  /// A loss a token, in nats, that no model can go below; NaN: not known.
  virtual double least_loss() const = 0;
  virtual std::string about() const = 0;  // for the reader of a report
};

/// A text that has to be read by position: half of it continues the two tokens before by a table, the other
/// half repeats what stood some way back, run by run.
///
///   free     x_i is one of the two successors of (x_{i-2}, x_{i-1}), equally likely; after each, a run
///   begins
///            with 1/r
///   a run    x_i = x_{i-D} for R tokens, r their mean length
///
/// R is uniform in r_min .. r_max, D in r_max .. context / 2; 8 symbols. A model has to tell the place one
/// back from the one two back, and to find a run's source it has to know what stands behind a token it finds
/// again (Olsson et al. 2022, arXiv:2209.11895, "induction heads"): without positions it can do neither well.
/// From context / 2 on every place is like every other, so whatever longer texts cost more is the fault of
/// the positions and not of the text. Natural text, which longer contexts make easier, mixes the two up.
///
/// Error kValue: context below 8.
std::unique_ptr<LabText> repeating_text(int64_t context);

/// The bytes of a file, the last tenth of it held out: windows of that follow each other. gzip is unpacked.
/// Errors: those of io::read_maybe_gz; kFormat: fewer than 1000 bytes.
std::unique_ptr<LabText> text_of_file(const std::string& path);

}  // namespace qkv
