"""Rows of `mutation_table` for students of frozen teachers: DMAE, MaskAlign."""

DMAE = (
    (
        "sign",
        "differences of features without absolute value",
        "losses/feature.py",
        "difference = jnp.abs(prediction.astype",
        "difference = (prediction.astype",
    ),
    (
        "normaliser",
        "the teacher's features keep their length",
        "methods/distill/dmae.py",
        "unit(shown), unit(taught)",
        "unit(shown), taught",
    ),
    (
        "stop-gradient",
        "the teacher learns, too",
        "pretext/teacher.py",
        "params = jax.lax.stop_gradient(params)",
        "params = dict(params)",
    ),
    (
        "order",
        "the teacher's patches stand in each other's places",
        "methods/distill/dmae.py",
        'self.teacher(extra["teacher"], visible, split.visible_ids,',
        'self.teacher(extra["teacher"], visible, split.visible_ids[:, ::-1],',
    ),
    (
        "count",
        "the class token is not aligned",
        "methods/distill/dmae.py",
        "losses.feature_error(shown, taught, self.distance)",
        "losses.feature_error(shown[:, 1:], taught[:, 1:], self.distance)",
    ),
)
MASKALIGN = (
    (
        "sign",
        "where the teacher looks is hidden",
        "methods/distill/maskalign.py",
        "guided.sampled(noise, importance, num_visible=num_visible)",
        'guided.sampled(noise, importance, num_visible=num_visible, favour="hidden")',
    ),
    (
        "normaliser",
        "targets keep their mean",
        "targets/features.py",
        "x = x - x.mean(-1, keepdims=True)",
        "x = x + 0",
    ),
    (
        "stop-gradient",
        "gradient flows through the teacher to the image",
        "methods/distill/maskalign.py",
        'jax.lax.stop_gradient(self.teacher.patches(batch["image"]))',
        'self.teacher.patches(batch["image"])',
    ),
    (
        "order",
        "columns of the matrix are the teacher's blocks",
        "nn/aligned_student.py",
        "pick(self.mix, row)",
        "pick(self.mix.T, row)",
    ),
    (
        "count",
        "smooth L1 counts once",
        "methods/distill/maskalign.py",
        "twice = 2.0 if",
        "twice = 1.0 if",
    ),
)
