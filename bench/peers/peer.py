"""What the PyTorch programs here share: the stopwatch of `qkv bench` and its JSON line (apps/cli/bench_timing.cc), attention, and a
process for each measurement, so that its peak memory is its own. They run on PyTorch 1.13 (Debian 12) and later."""
import argparse
import concurrent.futures
import functools
import json
import math
import resource
import statistics
import sys
import time

try:
    import torch
except ImportError:
    sys.exit(f'{sys.argv[0]}: needs PyTorch; on Debian: apt-get install python3-torch libopenblas0-openmp')
import torch.nn.functional as F

DTYPES = {'f32': torch.float32, 'bf16': torch.bfloat16}


def cpu_time():
    """All jiffies of the machine so far, and those that the host took away."""
    with open('/proc/stat') as stat:
        jiffies = [int(x) for x in stat.readline().split()[1:9]]
    return sum(jiffies), jiffies[7]


def timed(call, reps=5, warm=2, budget=60.0):
    """At least `reps` timed calls after `warm` untimed ones, more while they sum to under half a second; stops past `budget` seconds, but
    not below three."""
    for _ in range(warm):
        call()
    before, start, times = cpu_time(), time.perf_counter(), []
    while len(times) < reps or (len(times) < 50 and sum(times) < 0.5):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
        if time.perf_counter() - start > budget and len(times) >= 3:
            break
    total, stolen = (b - a for a, b in zip(before, cpu_time()))
    return {'n': len(times), 'min_s': min(times), 'med_s': statistics.median(times), 'steal_pct': 100 * stolen / max(1, total)}


def peak_rss_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def line(case, dtype, timing, work, unit, **more):
    """`work` of a call in units: its best and median rate become UNIT_best and UNIT_med."""
    return {'case': case, 'n': timing['n'], 'min_ms': round(timing['min_s'] * 1e3, 4), 'med_ms': round(timing['med_s'] * 1e3, 4),
            unit + '_best': round(work / timing['min_s'], 2), unit + '_med': round(work / timing['med_s'], 2), **more,
            'dtype': dtype, 'threads': torch.get_num_threads(), 'torch': torch.__version__, 'peak_rss_mb': round(peak_rss_mb()),
            'steal_pct': round(timing['steal_pct'], 1)}


def options(description, dtypes):
    """The options of every program; more can be added before parse_args()."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--dtype', choices=dtypes, help='default: each')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    return parser


def begin(threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with open('/proc/meminfo') as meminfo:  # so that too large a case fails by itself instead of taking others with it
        free = next(int(row.split()[1]) * 1024 for row in meminfo if row.startswith('MemAvailable'))
    resource.setrlimit(resource.RLIMIT_AS, (free, free))


def measure(threads, function, *variants):
    """Prints the line that function(*variant) returns, for each variant in a process of its own: the fastest last. What fails says so on
    standard error; if all do, the program does."""
    lines = []
    for variant in variants:
        with concurrent.futures.ProcessPoolExecutor(1, initializer=begin, initargs=(threads,)) as process:
            try:
                lines.append(process.submit(function, *variant).result())
            except Exception as error:
                print(f'{function.__name__}{variant}: {error or type(error).__name__}', file=sys.stderr)
    for each in sorted(lines, key=lambda each: -each['med_ms']):
        print(json.dumps(each), flush=True)
    if not lines:
        sys.exit(1)


@functools.lru_cache
def future(length, dtype):
    """What hides from each of `length` positions those after it."""
    return torch.full((length, length), float('-inf'), dtype=dtype).triu(1)


def attend_plainly(q, k, v, causal=False):
    """softmax(q k^T / sqrt(d_k)) v over [batch, heads, length, d_k], in operations that every version has."""
    scores = (q @ k.transpose(-1, -2)) * (1 / math.sqrt(q.shape[-1]))
    if causal:
        scores = scores + future(q.shape[-2], scores.dtype)
    return torch.softmax(scores, -1).to(v.dtype) @ v


def attend_fused(q, k, v, causal=False):
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


HAS_FUSED = hasattr(F, 'scaled_dot_product_attention')  # since 2.0
attend = attend_fused if HAS_FUSED else attend_plainly
