#pragma once
// What is done to heads after they have looked: a learnt scale, and switches for whoever studies a model.
//
//   y_h = gamma_h gate_h (x_h + noise_h rms(x_h) z)      x_h [d_v]: one token's output of head h, before W_O
//
// gamma: Shleifer et al., "NormFormer" (2021), arXiv:2110.09456, section 2, HeadScale. gate: Michel et al.,
// "Are Sixteen Heads Really Better than One?" (2019), arXiv:1905.10650: 0 switches a head off (section 3.1),
// and the size of dL/dgate at 1 says how much it matters (eq. 2). z: independent standard normal numbers.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/attention/probe.h"
#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"
#include "qkv/base/segments.h"

namespace qkv {

/// Run-time switches for the heads of a model. Layers that are not named run as ever, at no cost. A Probe
/// carries it (Probe::controls) to every layer; it is read while a model runs, so do not change it then.
struct HeadControls {
  struct Layer {
    std::string site;  // "encoder", "decoder", "cross", as for Probe
    int64_t layer = 0;
    /// [1, n_heads], or [n_sequences, n_heads]: of each sequence its own. Null: all 1. Where it is trainable,
    /// backward() adds dL/dgate. head_gates() makes one.
    ParameterPtr gates;
    std::vector<double> noise;  // [n_heads], standard deviation relative to the head's RMS; empty: none
  };
  std::vector<Layer> layers;
  /// Of the noise: a number is a function of (seed, site, layer, sequence's number in the batch, head,
  /// position, feature), so prompt and token by token get the same.
  uint64_t seed = 0;

  const Layer* find(std::string_view site, int64_t layer) const;  // null: not named
};

/// A probe that hears nothing and carries the controls (null: none).
inline Probe probe_with(const HeadControls* controls) { return {.sites = {""}, .controls = controls}; }

/// Gates of 1 for a layer, named `name`; n_sequences 0: for all sequences alike. `dtype`: of masters, f32, or
/// f64 in a model of f64.
ParameterPtr head_gates(const std::string& name, int64_t n_heads, DType dtype = DType::kF32,
                        int64_t n_sequences = 0);

/// Importance of each head: sum over sequences of |dL/dgate| (eq. 2, which takes the mean over examples),
/// from gates of one row a sequence after backward(); with gates of one row for all, gradients of opposite
/// sign cancel.
std::vector<double> head_importance(const ParameterPtr& gates);

/// x [n_tokens, n_heads * d_v], f64 | f32 | bf16 -> same shape, computed in the accumulator's type, rounded
/// once; x itself where there is nothing to do. head_scale [n_heads] masters, or null; controls may be null.
/// Differentiable in x (through the RMS too), head_scale and gates; sums over a sequence's tokens run in
/// order, sequences are added up in order. Errors: kShape: gates or noise that are not of n_heads (and
/// n_sequences), kDtype.
Var control_heads(const Var& x, const Segments& tokens, int64_t n_heads, const ParameterPtr& head_scale,
                  const HeadControls* controls, std::string_view site, int64_t layer);

}  // namespace qkv
