"""Experiments of generative models."""
