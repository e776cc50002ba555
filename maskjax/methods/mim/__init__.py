"""Masked image modelling."""
