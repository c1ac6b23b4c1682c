"""Benchmarks: what README claims, measured here and now, ratios side by side in one run."""
