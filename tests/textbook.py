"""MAE as the paper's code writes it, in plain jnp on our parameter tree: the reference for tests.

Everything the project's version avoids is here: all patches are projected before the visible ones
are picked, mask tokens are put in and raster order is restored before the decoder, every patch is
predicted, and the loss is weighted by the mask. It shares no code with the project.
"""

import jax
import jax.numpy as jnp
import numpy as np


def patchify(image, patch):
    """[B, H, W, C] -> [B, N, ph * pw * C]."""
    b, height, width, c = image.shape
    rows, columns = height // patch[0], width // patch[1]
    x = image.reshape(b, rows, patch[0], columns, patch[1], c)
    return jnp.transpose(x, (0, 1, 3, 2, 4, 5)).reshape(b, rows * columns, -1)


def positions(grid, dim):
    """[1 + N, dim]: zeros for cls, then columns in the first half, rows in the second."""
    omega = 1.0 / 10000 ** (np.arange(dim // 4, dtype=np.float64) / (dim / 4))
    table = np.zeros((1 + grid[0] * grid[1], dim))
    for row in range(grid[0]):
        for column in range(grid[1]):
            halves = [f(p * omega) for p in (column, row) for f in (np.sin, np.cos)]
            table[1 + row * grid[1] + column] = np.concatenate(halves)
    return jnp.asarray(table, jnp.float32)


def layer_norm(p, x, eps=1e-6):
    """Over the last axis."""
    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, -1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + eps) * p["scale"] + p["bias"]


def linear(p, x):
    """One matrix, one bias."""
    return x @ p["kernel"] + p["bias"]


def attention(p, x):
    """Heads side by side, token first."""
    q, k, v = (
        jnp.einsum("bnd,dhk->bnhk", x, p[name]["kernel"]) + p[name]["bias"]
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhk,bnhk->bhqn", q, k) / jnp.sqrt(q.shape[-1])
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    mixed = jnp.einsum("bhqn,bnhk->bqhk", weights, v)
    return jnp.einsum("bqhk,hkd->bqd", mixed, p["out"]["kernel"]) + p["out"]["bias"]


def mlp(p, x):
    """Exact GELU between two layers."""
    hidden = linear(p["fc1"], x)
    return linear(p["fc2"], 0.5 * hidden * (1 + jax.lax.erf(hidden / np.sqrt(2))))


def blocks(stacked, x):
    """Pre-norm blocks, one after the other."""
    for index in range(stacked["norm1"]["scale"].shape[0]):
        p = jax.tree.map(lambda leaf: leaf[index], stacked)  # noqa: B023
        x = x + attention(p["attn"], layer_norm(p["norm1"], x))
        x = x + mlp(p["mlp"], layer_norm(p["norm2"], x))
    return x


def encode(p, image, patch, ids_keep=None):
    """[B, 1 + K, D], cls first; all patches where `ids_keep` is None: the plain ViT."""
    grid = (image.shape[1] // patch[0], image.shape[2] // patch[1])
    table = positions(grid, p["cls_token"].shape[0])
    x = linear(p["patch_embed"], patchify(image, patch)) + table[1:]
    if ids_keep is not None:
        x = jnp.take_along_axis(x, ids_keep[..., None], axis=1)
    cls = jnp.broadcast_to(p["cls_token"] + table[0], (x.shape[0], 1, x.shape[2]))
    return layer_norm(p["norm"], blocks(p["blocks"], jnp.concatenate([cls, x], 1)))


def decode(p, latent, ids_restore, grid):
    """[B, N, P] for every patch, in raster order."""
    x = linear(p["embed"], latent)
    missing = ids_restore.shape[1] + 1 - x.shape[1]
    tokens = jnp.broadcast_to(p["mask_token"], (x.shape[0], missing, x.shape[2]))
    rest = jnp.concatenate([x[:, 1:], tokens], axis=1)
    rest = jnp.take_along_axis(rest, ids_restore[..., None], axis=1)
    x = jnp.concatenate([x[:, :1], rest], axis=1) + positions(grid, x.shape[2])
    return linear(p["pred"], layer_norm(p["norm"], blocks(p["blocks"], x)))[:, 1:]


def target_of(image, patch, norm_pix):
    """[B, N, P]."""
    target = patchify(image, patch)
    if not norm_pix:
        return target
    mean = target.mean(-1, keepdims=True)
    variance = ((target - mean) ** 2).sum(-1, keepdims=True) / (target.shape[-1] - 1)
    return (target - mean) / (variance + 1e-6) ** 0.5


def mae(params, image, noise, patch, num_visible, norm_pix):
    """(loss, prediction [B, N, P], mask [B, N], latent) of normalised float images."""
    grid = (image.shape[1] // patch[0], image.shape[2] // patch[1])
    ids_shuffle = jnp.argsort(noise, axis=1)
    ids_restore = jnp.argsort(ids_shuffle, axis=1)
    mask = jnp.ones(noise.shape).at[:, :num_visible].set(0)
    mask = jnp.take_along_axis(mask, ids_restore, axis=1)
    latent = encode(params["encoder"], image, patch, ids_shuffle[:, :num_visible])
    prediction = decode(params["decoder"], latent, ids_restore, grid)
    error = ((prediction - target_of(image, patch, norm_pix)) ** 2).mean(-1)
    return (error * mask).sum() / mask.sum(), prediction, mask, latent
