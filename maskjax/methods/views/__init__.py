"""Several views of one thing: pairs of images, modalities, video, point clouds."""
