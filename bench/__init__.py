"""Benches: how fast this is beside what others would use. ``python -m bench.run_all`` does those of training."""
