#include "apps/cli/data_path.h"

#include <cstdlib>

#include "qkv/io/file.h"

namespace qkv::cli {

std::string data_folder() {
  if (const char* folder = std::getenv("QKV_DATA"); folder != nullptr && *folder != '\0') return folder;
  return io::is_directory("../shared/data") ? "../shared/data" : "data";
}

std::string data_path(const std::string& path) {
  return path.empty() || path.front() == '/' ? path : data_folder() + "/" + path;
}

}  // namespace qkv::cli
