"""Experiments, one small file a method, grouped by family."""
