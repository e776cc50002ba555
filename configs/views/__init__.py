"""Experiments on several views of one thing: pairs, modalities, video, point clouds."""
