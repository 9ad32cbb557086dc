"""The measuring side of the benchmarks; run.py beside it is the way in."""
