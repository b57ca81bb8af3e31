#include "apps/cli/command_line.h"

#include <algorithm>

#include "qkv/io/file.h"

namespace qkv::cli {

std::string own_command_line() {
  std::string bytes = io::read_file("/proc/self/cmdline", 1 << 20);
  std::replace(bytes.begin(), bytes.end(), '\0', ' ');
  return bytes;
}

}  // namespace qkv::cli
