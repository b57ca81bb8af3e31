#!/usr/bin/env bash
# Runs a command in the fastest surroundings found for PyTorch and oneDNN on a CPU: OpenBLAS on OpenMP's threads, where it is installed
# (Debian: libopenblas0-openmp; the usual build has threads of its own, which fight those), threads that stay on their cores, and a malloc
# that keeps freed pages instead of returning every large tensor to the kernel.
#   torch_env.sh THREADS COMMAND...
export OMP_NUM_THREADS=$1 OMP_PROC_BIND=true OMP_PLACES=cores
export LD_LIBRARY_PATH=/usr/lib/$(uname -m)-linux-gnu/openblas-openmp${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=34359738368
exec "${@:2}"
