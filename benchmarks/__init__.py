"""What tq costs and how fast it is; `python -m benchmarks` measures all of it."""
