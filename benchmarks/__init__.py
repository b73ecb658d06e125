"""Benchmarks: speed beside accuracy, beside the peers, on the same bytes in the same run."""
