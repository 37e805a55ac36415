"""Scores of many pairs in bounded memory, and the metrics of `samespace.metrics` on them, weighted by identity."""
