#include "qkv/train/optimizer.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "qkv/base/nearest.h"
#include "qkv/base/trace.h"
#include "qkv/train/optimizers/adafactor.h"
#include "qkv/train/optimizers/adam.h"
#include "qkv/train/optimizers/adamw.h"
#include "qkv/train/optimizers/arithmetic.h"
#include "qkv/train/optimizers/lamb.h"
#include "qkv/train/optimizers/lion.h"
#include "qkv/train/optimizers/muon.h"
#include "qkv/train/optimizers/sgd.h"
#include "qkv/train/optimizers/shampoo.h"

namespace qkv {
namespace {

template <class Kind, class Options>
OptimizerKind kind(std::string_view name, double rate) {
  OptimizerKind k{.name = name, .rate = rate, .options = {}, .make = {}};
  Options{}.each([&](auto& value, std::string_view option, Range range, std::string_view meaning) {
    k.options.push_back({option, meaning, range, static_cast<double>(value)});
  });
  k.make = [name](std::vector<ParameterPtr> parameters, const OptimizerChoice& choice) {
    Options options;
    options.each([&](auto& value, std::string_view option, Range range, std::string_view) {
      const auto given = choice.options.find(std::string(option));
      if (given == choice.options.end()) return;
      check_option(name, option, given->second, range);  // before a number becomes a count or a flag
      value = static_cast<std::remove_reference_t<decltype(value)>>(given->second);
    });
    return std::make_unique<Kind>(std::move(parameters), options, choice.clip_norm);
  };
  return k;
}

bool has_option(const OptimizerKind& kind, std::string_view option) {
  return std::any_of(kind.options.begin(), kind.options.end(),
                     [&](const OptimizerOption& o) { return o.name == option; });
}

}  // namespace

const std::vector<OptimizerKind>& optimizers() {
  static const std::vector<OptimizerKind> all = {
      kind<Adam, AdamOptions>("adam", 1e-3),
      kind<AdamW, AdamWOptions>("adamw", 1e-3),
      kind<Sgd, SgdOptions>("sgd", 0.1),
      kind<Lion, LionOptions>("lion", 1e-4),
      kind<Adafactor, AdafactorOptions>("adafactor", 1e-3),
      kind<Lamb, LambOptions>("lamb", 2e-3),
      kind<Muon, MuonOptions>("muon", 0.02),
      kind<Shampoo, ShampooOptions>("shampoo", 1e-3),
  };
  return all;
}

const OptimizerKind& optimizer_kind(std::string_view name) {
  std::vector<std::string_view> names;
  for (const OptimizerKind& kind : optimizers()) names.push_back(kind.name);
  check_known("optimizer", name, names, "optimizer");
  return *std::find_if(optimizers().begin(), optimizers().end(),
                       [&](const OptimizerKind& kind) { return kind.name == name; });
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerChoice& choice,
                                          std::vector<ParameterPtr> parameters) {
  const OptimizerKind& kind = optimizer_kind(choice.name);
  for (const auto& [option, value] : choice.options) {
    if (has_option(kind, option)) continue;
    std::vector<std::string_view> known, owners;
    for (const OptimizerKind& other : optimizers()) {
      if (has_option(other, option)) owners.push_back(other.name);
      for (const OptimizerOption& o : other.options) known.push_back(o.name);
    }
    std::sort(known.begin(), known.end());
    known.erase(std::unique(known.begin(), known.end()), known.end());
    check_known("option", option, known, "optimizer");
    QKV_CHECK(value == 0, kValue, "optimizer: {} ({}) is not for {}; it is for {}", option, value, kind.name,
              fmt::join(owners, ", "));
  }
  return kind.make(std::move(parameters), choice);
}

void check_option(std::string_view optimizer, std::string_view option, double value, Range range) {
  const auto [holds, wanted] = [&]() -> std::pair<bool, const char*> {
    switch (range) {
      case Range::kBelowOne:
        return {value >= 0 && value < 1, "at least 0 and below 1"};
      case Range::kPositive:
        return {value > 0 && std::isfinite(value), "above 0"};
      case Range::kNotNegative:
        return {value >= 0 && std::isfinite(value), "at least 0"};
      case Range::kFlag:
        return {value == 0 || value == 1, "true or false"};
      case Range::kCount:
        return {value >= 1 && value <= 1 << 20 && value == std::floor(value), "a whole number, 1 or more"};
    }
    return {false, "?"};
  }();
  QKV_CHECK(holds, kValue, "{}: {} is {}, needs to be {}", optimizer, option, value, wanted);
}

Optimizer::Optimizer(std::vector<ParameterPtr> parameters, double clip_norm)
    : parameters_(std::move(parameters)), clip_norm_(clip_norm) {
  QKV_CHECK(clip_norm >= 0, kValue, "optimizer: clip_norm is {}, needs to be at least 0", clip_norm);
  for (const ParameterPtr& p : parameters_)
    QKV_CHECK(p->value().dtype() == DType::kF32, kDtype, "optimizer: {} is {}, masters are f32", p->name(),
              name(p->value().dtype()));
}

Tensor Optimizer::add_state(size_t i, const char* what, const Shape& shape) {
  state_.push_back({parameters_[i]->name() + "." + what, Tensor::zeros(shape, DType::kF32)});
  return state_.back().value;
}

double Optimizer::grad_norm() const {
  const trace::Span span("grad_norm");
  double total = 0;
  for (const ParameterPtr& p : parameters_)
    if (p->trainable()) total += sum_squares(p->grad());
  return std::sqrt(total);
}

void Optimizer::step(double rate, double norm) {
  const trace::Span span("optimizer");
  const Update u{
      .rate = rate, .grad_scale = clip_norm_ > 0 && norm > clip_norm_ ? clip_norm_ / norm : 1, .t = ++steps_};
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i]->trainable()) continue;
    update(i, u);
    parameters_[i]->value_changed();
  }
  zero_grad();
}

void Optimizer::zero_grad() {
  for (const ParameterPtr& p : parameters_) p->zero_grad();
}

}  // namespace qkv
