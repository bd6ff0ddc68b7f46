"""Benchmarks beside the peers and the physical floor: ``python -m benchmarks``."""
