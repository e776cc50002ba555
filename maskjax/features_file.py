"""Features of an image set as a table of columns, written as Parquet or npz."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from maskjax import data_parts
from maskjax.evaluation import draws_for
from maskjax.observe import files
from maskjax.saved import SavedRun

Table = dict[str, np.ndarray]


def embed(run: SavedRun, spec: str, split: str) -> Table:
    """Columns id [n], label [n] (if any), cls [n, D], mean [n, D] of every image of a data spec.

    Raises:
        UserError: if the data cannot be read.
    """
    config = ConfigDict(run.config)
    config.data.path, config.data.mixture, config.data.test_split = spec, (), split
    encode, columns = run.predict["encode"], {}
    for batch in data_parts.eval_batches(config, "test", ids=True)():
        ids, valid = np.asarray(batch.pop("id")), batch["valid"]
        features = encode(run.params, run.extra, batch, draws_for(batch, config.seed))
        rows = {"id": ids, "cls": features["cls"], "mean": features["mean"]}
        if "label" in batch:
            rows["label"] = batch["label"]
        for name, values in rows.items():
            columns.setdefault(name, []).append(np.asarray(values)[valid])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def write(path: pathlib.Path, table: Table):
    """Writes the table by the suffix of `path`, whole or not at all."""
    with files.replacing(path) as temporary:
        (_write_parquet if path.suffix == ".parquet" else _write_npz)(temporary, table)


def _write_npz(path: pathlib.Path, table: Table):
    np.savez(path, **table)


def _write_parquet(path: pathlib.Path, table: Table):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(values: np.ndarray) -> pa.Array:
        if values.ndim == 1:
            return pa.array(values)
        flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    pq.write_table(pa.table({name: column(values) for name, values in table.items()}), path)
