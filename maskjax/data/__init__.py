"""Data: sources named by one string, transforms on numpy arrays, a training and an evaluation
iterator.

Import what you need from the submodules; this file imports nothing, so that the parts which need
only numpy and Pillow stay free of Grain.

    source.resolve("photo_crops", "train")      one string -> a random-access source
    transforms.TrainTransform, EvalTransform    one example -> uint8[H, W, C]
    pairs, modalities, video, points            the same for other kinds of examples
    train.train_iterator                        endless, exact to resume on any number of hosts
    evaluate.evaluation_batches                 finite, every image exactly once
    stats.run, stats.known_stats                mean and standard deviation per channel
    prepare.prepare                             images reduced once, written in shards
"""
