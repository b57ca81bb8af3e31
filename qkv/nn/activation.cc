#include "qkv/nn/activation.h"

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv {

using kernels::Activation;

Activation activation_from_name(std::string_view name, std::string_view where) {
  if (name == "relu") return Activation::kRelu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_new") return Activation::kGeluTanh;
  if (name == "swish" || name == "silu") return Activation::kSilu;
  if (name == "tanh") return Activation::kTanh;
  throw_error(ErrorCode::kValue,
              "{}: activation {} is not one of relu, gelu, gelu_new, swish, silu, tanh", where, quote(name));
}

std::string activation_name(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return "none";
    case Activation::kRelu:
      return "relu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_new";
    case Activation::kSilu:
      return "swish";
    case Activation::kTanh:
      return "tanh";
    case Activation::kEluPlusOne:
      return "elu_plus_one";
  }
  return "?";
}

}  // namespace qkv
