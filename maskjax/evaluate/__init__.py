"""What a model is worth: scores, each with its protocol and baselines, and pictures.

features      frozen features of every image, once
knn, linear_probe, rank     scores of features
baselines     raw pixels as features
scores        score rows, tables, scores.json
evaluators    the above as evaluators that the trainer and `maskjax evaluate` run
"""
