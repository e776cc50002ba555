"""Experiments with labels: fine-tuning, probes, training from scratch."""
