"""Explanations and tests of classifiers that can be run on a visible region of an image.

A classifier is here a function (images [B, H, W, C], visible bool[B, H, W]) -> probabilities
float32[B, K]; `runs.classifiers` makes them of a run, one for each way of hiding pixels.
"""
