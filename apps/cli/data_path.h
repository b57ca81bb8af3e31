#pragma once

#include <string>

namespace qkv::cli {

/// Where recipes find data: $QKV_DATA, else ../shared/data where that exists, else data.
std::string data_folder();

/// A path of a settings file, under data_folder() unless absolute; "" stays "".
std::string data_path(const std::string& path);

}  // namespace qkv::cli
