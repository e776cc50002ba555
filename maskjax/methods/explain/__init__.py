"""Explanations of trained networks."""
