"""Experiments of students of frozen teachers."""
