"""fastnn against its peers on the same work, in turns, medians.

    python asv_bench/versus.py                          all rows, a table
    python asv_bench/versus.py --rows "adam|1024x"      rows whose name matches
    python asv_bench/versus.py --markdown docs/speed.md writes the table between the markers of that file
    python asv_bench/versus.py --summary README.md      writes the short table, a line for each group of rows
    python asv_bench/versus.py --json results.json      every variant and round
    python asv_bench/versus.py --busy 2                 beside two processes that never rest
    python asv_bench/versus.py --blas 500               after a matrix product of NumPy before each call

Each peer runs in a process of its own, at its best setting: of its variants (eager and compiled, a step and an epoch in
one call, ...) the fastest counts, for fastnn as for its peers. A turn is: rest until the threads of the process before
have gone to sleep, run until one's own are awake, then time calls that last a moment. Every result is compared with
NumPy in float64 before it is timed. A peer that is not installed leaves an empty column.

ratio: time of the best peer / time of fastnn. of peak: floating-point operations of the matrix products against the
fused multiply-adds that all threads can do in registers, measured in the same run.
"""

import argparse
import contextlib
import datetime
import importlib
import json
import math
import os
import pathlib
import pickle
import re
import statistics
import subprocess
import sys
import time
import traceback

import numpy as np
from marked import replace
from work import all_work, expected

PEERS = ("fastnn", "numpy", "torch", "jax", "onnx", "sklearn")
REST, WAKE, TURN = 0.12, 0.015, 0.03
# What threads of two libraries do to each other takes longer to settle.
MIXED_TURN = 1.0


def widest_core_type():
    """OpenBLAS's kernels for the CPU's widest vectors: it does not always pick those itself."""
    from fastnn.kernels.simd import VECTOR_BYTES

    return {64: "SkylakeX", 32: "Haswell"}.get(VECTOR_BYTES)


# --- a peer's process ---------------------------------------------------------------------------------------------


def timed(case):
    """Seconds of one unit of a case: its threads are awake, and it has found its pace."""
    begin, best = time.perf_counter(), math.inf
    while (start := time.perf_counter()) - begin < WAKE:
        case.call()
        best = min(best, time.perf_counter() - start)
    count = max(1, int(TURN / best))
    start = time.perf_counter()
    for _ in range(count):
        case.call()
    return (time.perf_counter() - start) / count / case.units


def timed_after_blas(case, size):
    """Seconds of one unit of a case on average, each call after a matrix product of NumPy, which does not count."""
    factor = np.ones((size, size), np.float32)
    seconds, count, begin = 0.0, 0, time.perf_counter()
    while time.perf_counter() - begin < MIXED_TURN:
        factor @ factor
        start = time.perf_counter()
        case.call()
        seconds += time.perf_counter() - start
        count += case.units
    return seconds / count


def serve(name):
    """Answer requests on standard input until it ends; results go to what was standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(value):
        pickle.dump(value, answers)
        answers.flush()

    try:
        peer = importlib.import_module(f"peers.{name}_peer")
    except ImportError as error:
        answer(("missing", str(error)))
        return
    answer(("ready", peer.versions()))
    cases = {}
    with contextlib.suppress(EOFError):
        while True:
            request, value = pickle.load(sys.stdin.buffer)
            try:
                if request == "prepare":
                    cases = peer.cases(value)
                    results = {}
                    for variant, case in cases.items():
                        case.call()
                        results[variant] = case.result()
                    answer(("done", results))
                elif request == "peak":
                    from peak import peak_gflops

                    answer(("done", peak_gflops(np.dtype(value).type)))
                else:
                    variant, blas = value
                    answer(("done", timed_after_blas(cases[variant], blas) if blas else timed(cases[variant])))
            except Exception:
                answer(("failed", traceback.format_exc()))


class Process:
    """A peer's process, seen from the table's."""

    def __init__(self, name, label, environment):
        self.name, self.label = name, label
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**{k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}, **environment},
        )
        self.state, self.versions = pickle.load(self._process.stdout)

    def ask(self, request, value):
        pickle.dump((request, value), self._process.stdin)
        self._process.stdin.flush()
        state, answer = pickle.load(self._process.stdout)
        if state == "failed":
            raise RuntimeError(f"{self.name} {self.label}: {answer}")
        return answer

    def close(self):
        self._process.stdin.close()
        self._process.wait()


# --- the table ----------------------------------------------------------------------------------------------------


def check(work, process, results, right):
    """A fast wrong result is none: float32 sums of thousands of products agree to some 1e-4 of the largest entry.

    After adam the mean error counts, generously: it makes a step of full length of a gradient that rounding alone
    decides, and scikit-learn puts eps elsewhere.
    """
    share = 1e-3 if work.what == "adam" else 1e-9 if work.dtype == "float64" else 2e-4
    tolerance = share * np.abs(right).max()
    for variant, result in results.items():
        errors = np.abs(result.reshape(right.shape) - right)
        error = errors.mean() if work.what == "adam" else errors.max()
        if not error <= tolerance:
            raise AssertionError(
                f"{process.name} ({variant}), {work.name}: off by {error:.3g} (allowed {tolerance:.3g})"
            )


def measure(work, processes, rounds, blas):
    """{(peer, variant): [seconds, ...]} and the peak of one core in GFLOP/s."""
    right = expected(work)
    turns = []
    for process in processes:
        results = process.ask("prepare", work)
        check(work, process, results, right)
        turns += [(process, variant) for variant in results]
    times, peaks = {(p.name, p.label + v): [] for p, v in turns}, []
    for _ in range(rounds):
        for process, variant in turns:
            time.sleep(REST)
            times[process.name, process.label + variant].append(process.ask("time", (variant, blas)))
        peaks.append(processes[0].ask("peak", work.dtype))
    return times, statistics.median(peaks)


def summary(work, times, peak, threads):
    """One row of the table as a dictionary."""
    medians = {key: statistics.median(record) for key, record in times.items()}
    best = {}
    for (peer, variant), seconds in medians.items():
        if peer not in best or seconds < best[peer][0]:
            best[peer] = seconds, variant
    ours = best["fastnn"][0]
    others = [seconds for peer, (seconds, _) in best.items() if peer != "fastnn"]
    return {
        "name": work.name,
        "group": work.group,
        "best": best,
        "ratio": min(others) / ours if others else math.nan,
        "of_peak": work.flops / ours / 1e9 / (peak * threads),
        "peak": peak,
        "times": {f"{peer}: {variant}": record for (peer, variant), record in times.items()},
    }


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def cells(row):
    """The row as text."""
    times = [f"{row['best'][peer][0] * 1e6:,.1f}" if peer in row["best"] else "" for peer in PEERS]
    return [row["name"], *times, f"{row['ratio']:.2f}", f"{row['of_peak']:.0%}" if row["of_peak"] else ""]


def group_lines(rows):
    """Geometric means: of the ratios to the best peer, group by group, and to each peer."""
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        ratios = [row["ratio"] for row in members]
        text = f"{group}: least {min(ratios):.2f}, geometric mean {geometric_mean(ratios):.2f}"
        for peer in PEERS[1:]:
            pairs = [row["best"][peer][0] / row["best"]["fastnn"][0] for row in members if peer in row["best"]]
            if pairs:
                text += f"; {peer} {geometric_mean(pairs):.2f}"
        yield text


def best_peer(row):
    return min((peer for peer in row["best"] if peer != "fastnn"), key=lambda peer: row["best"][peer][0], default="")


def group_cells(rows):
    """A line of the short table for each group: of all ratios below 1 it has the row and the peer, and of the least."""
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        least = min(members, key=lambda row: row["ratio"])
        others = [row for row in members if row is not least and row["ratio"] < 1]
        told = lambda row: f"{row['ratio']:.2f}: {best_peer(row)}, {row['name']}"
        mean = geometric_mean([row["ratio"] for row in members])
        yield [group, str(len(members)), f"{mean:.2f}", told(least), "; ".join(map(told, others)) or "none"]


def heading(processes, threads):
    versions = dict.fromkeys(process.versions for process in processes if process.state == "ready")
    from fastnn.info import cpu_model

    return f"{cpu_model()}, {threads} threads, {datetime.date.today()}; {', '.join(versions)}"


HEADS = ["work (us each)", *PEERS, "ratio", "of peak"]
GROUP_HEADS = ["group", "rows", "geometric mean", "least ratio", "other ratios below 1"]


@contextlib.contextmanager
def busy_processes(count):
    """So many processes that want a core for themselves."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def table(heads, rules, lines):
    return [f"| {' | '.join(heads)} |", f"|{'|'.join(rules)}|", *[f"| {' | '.join(line)} |" for line in lines]]


def write_markdown(path, mark, rows, head):
    lines = table(HEADS, ["---"] + ["---:"] * (len(HEADS) - 1), map(cells, rows))
    lines += ["", *[f"- {line}" for line in group_lines(rows)]]
    replace(path, mark, "\n".join([head, "", *lines]))


def write_summary(path, mark, rows, head):
    lines = table(GROUP_HEADS, ["---", "---:", "---:", "---", "---"], group_cells(rows))
    replace(path, mark, "\n".join([head, "", *lines]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default="", help="a regular expression that the names of the rows match")
    parser.add_argument("--peers", default=",".join(PEERS[1:]), help="those to compare with")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="a file for every variant and round")
    parser.add_argument("--markdown", help="a file with the markers between which the table goes")
    parser.add_argument("--summary", help="a file with the markers between which the short table of the groups goes")
    parser.add_argument("--variants", action="store_true", help="print the median of every variant too")
    parser.add_argument("--busy", type=int, default=0, help="processes that never rest, beside which to measure")
    parser.add_argument("--blas", type=int, default=0, help="size of the product of NumPy that goes before each call")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)

    mark = "versus.py"
    if options.busy:
        mark += f" --busy {options.busy}"
    if options.blas:
        mark += f" --blas {options.blas}"
    # At once, and not after minutes of measuring.
    for path, name in ((options.markdown, mark), (options.summary, f"{mark} --summary")):
        if path and f"<!-- {name} -->" not in pathlib.Path(path).read_text():
            parser.error(f"{path}: expected a file with the markers <!-- {name} --> and <!-- end of {name} -->")

    import fastnn

    threads = fastnn.get_num_threads()
    chosen = ["fastnn", *[peer for peer in options.peers.split(",") if peer]]
    if unknown := set(chosen) - set(PEERS):
        parser.error(f"--peers: expected some of {', '.join(PEERS[1:])}, got {', '.join(sorted(unknown))}")
    processes = [Process(name, "", {}) for name in chosen]
    core_type = widest_core_type()
    if "numpy" in chosen and core_type:
        processes.append(Process("numpy", f"OPENBLAS_CORETYPE={core_type}, ", {"OPENBLAS_CORETYPE": core_type}))
    for process in processes:
        if process.state == "missing":
            print(f"{process.name} is left out: {process.versions}", file=sys.stderr)
    head = heading(processes, threads)
    if options.busy:
        head += f"; beside {options.busy} busy processes"
    if options.blas:
        head += f"; each call after a product of two {options.blas} x {options.blas} float32 matrices by NumPy"
    ready = [process for process in processes if process.state == "ready"]
    print(head)
    print(HEADS[0].ljust(38) + "".join(text.rjust(11) for text in HEADS[1:]))
    rows = []
    with busy_processes(options.busy):
        for work in all_work():
            if re.search(options.rows, work.name):
                rows.append(summary(work, *measure(work, ready, options.rounds, options.blas), threads))
                first, *rest = cells(rows[-1])
                print(first.ljust(38) + "".join(text.rjust(11) for text in rest), flush=True)
                if options.variants:
                    for variant, record in rows[-1]["times"].items():
                        print(f"    {variant:60}{statistics.median(record) * 1e6:12.1f}", flush=True)
    for process in ready:
        process.close()
    print("\ngeometric means of the ratios:")
    for line in group_lines(rows):
        print(line)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"heading": head, "rows": rows}, indent=1))
    if options.markdown:
        write_markdown(options.markdown, mark, rows, head)
    if options.summary:
        write_summary(options.summary, f"{mark} --summary", rows, head)


if __name__ == "__main__":
    main()
