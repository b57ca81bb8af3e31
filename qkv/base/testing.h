#pragma once
// For tests: expectations on errors.

#include <gtest/gtest.h>

#include <string>

#include "qkv/base/error.h"

namespace qkv::test {

/// The text of the Error that `call` throws, which has to be of this code; "" (and a failure) without one.
template <class Call>
std::string error_of(ErrorCode code, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(name(error.code()), std::string(name(code))) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace qkv::test

/// The Error thrown has this code and its text holds `part`.
#define EXPECT_ERROR(code, part, ...)                                                              \
  do {                                                                                             \
    const std::string text_ = ::qkv::test::error_of(::qkv::ErrorCode::code, [&] { __VA_ARGS__; }); \
    EXPECT_NE(text_.find(part), std::string::npos) << "the message is: " << text_;                 \
  } while (0)
