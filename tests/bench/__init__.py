"""Benchmarks: `python -m tests.bench.NAME --help`. Each compares two things in one run, in
alternating pairs, prints a table and writes JSON; docs/performance.md keeps the figures."""
