"""Experiments of masked image modelling."""
