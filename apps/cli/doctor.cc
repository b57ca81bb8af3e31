#include "apps/cli/doctor.h"

#include <fmt/core.h>
#include <unistd.h>

#include <memory>

#include "apps/cli/data_path.h"
#include "apps/cli/output.h"
#include "qkv/base/cpu.h"
#include "qkv/base/parallel.h"
#include "qkv/io/file.h"
#include "qkv/io/json.h"
#include "qkv/tasks/translation_model.h"

namespace qkv::cli {
namespace {

void run(bool json) {
  const CpuFeatures& cpu = cpu_features();
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 30);
  if (json) {
    print("{}\n", io::dump_json({{"version", QKV_VERSION},
                                 {"cpu", cpu.model},
                                 {"vendor", cpu.vendor},
                                 {"cores", omp_get_num_procs()},
                                 {"threads", threads()},
                                 {"memory_gib", memory},
                                 {"isa", name(isa())},
                                 {"best_isa", name(best_isa())},
                                 {"avx2", cpu.avx2_fma},
                                 {"avx512", cpu.avx512},
                                 {"avx512_bf16", cpu.avx512_bf16},
                                 {"avx512_vnni", cpu.avx512_vnni},
                                 {"avx512_fp16", cpu.avx512_fp16},
                                 {"amx_bf16", cpu.amx_bf16},
                                 {"amx_int8", cpu.amx_int8},
                                 {"fast_bf16_dot", cpu.fast_bf16_dot},
                                 {"dtype", name(default_compute_dtype())},
                                 {"data", data_folder()}}));
    return;
  }
  const auto yes = [](bool b) { return b ? "yes" : "no"; };
  print("qkv {}\n\n", QKV_VERSION);
  print("CPU        {} ({})\n", cpu.model, cpu.vendor);
  print("cores      {} ({} threads in use)\n", omp_get_num_procs(), threads());
  print("memory     {:.1f} GiB\n\n", memory);
  print(
      "AVX2+FMA   {}\nAVX-512    {}\n  bf16     {}{}\n  VNNI     {}\n  fp16     {}\nAMX bf16   {}\nAMX int8  "
      " {}\n\n",
      yes(cpu.avx2_fma), yes(cpu.avx512), yes(cpu.avx512_bf16),
      cpu.avx512_bf16 ? (cpu.fast_bf16_dot ? ", faster than f32: used" : ", slower than f32 here: not used")
                      : "",
      yes(cpu.avx512_vnni), yes(cpu.avx512_fp16), yes(cpu.amx_bf16), yes(cpu.amx_int8));
  print("kernels    {}{}\n", name(isa()),
        isa() < best_isa() ? fmt::format(" (QKV_ISA; best is {})", name(best_isa())) : "");
  print("models run in {} unless told otherwise (--dtype)\n", name(default_compute_dtype()));
  print("data       {} ({})\n", data_folder(),
        io::is_directory(data_folder()) ? "there" : "not there; docs/data.md says what to fetch");
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  CLI::App* doctor = app.add_subcommand("doctor", "what this CPU can do, and what qkv makes of it");
  struct Flags {
    bool json = false, roofline = false;
  };
  auto flags = std::make_shared<Flags>();
  doctor->add_flag("--json", flags->json, "one JSON object");
  doctor->add_flag("--roofline", flags->roofline,
                   "measure what products and memory can do at most, on random numbers; takes ten seconds");
  doctor->footer(
      "Examples:\n  qkv doctor\n  qkv doctor --roofline --threads 2\n  QKV_ISA=avx2 qkv doctor --json");
  doctor->callback([flags] { flags->roofline ? print_roofline(flags->json) : run(flags->json); });
}

}  // namespace qkv::cli
