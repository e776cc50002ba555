"""What a config says about data."""

import pytest

from maskjax import data_parts
from maskjax.config import default_config
from maskjax.data.wrap import MixSource
from maskjax.errors import UserError


def config(**data):
    made = default_config("mim.mae")
    for name, value in data.items():
        with made.data.ignore_type():
            made.data[name] = value
    return made


def test_a_subset_is_for_training_only(tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("000005\n000003\n")
    chosen = config(path="digits", subset=str(ids))
    assert len(data_parts.data_source(chosen, "train")) == 2
    assert len(data_parts.data_source(chosen, "test")) == 397
    ids.write_text("500000\n")
    with pytest.raises(UserError, match=r"config\.data\.subset"):
        data_parts.data_source(chosen, "train")


def test_a_mixture_as_a_list():
    lines = ("0.7*digits", "0.3*mnist5k")
    source = data_parts.data_source(config(mixture=lines), "train")
    assert isinstance(source, MixSource)
    assert source.counts == (7, 3)
    assert data_parts.data_spec(config(path="x", mixture=(*lines, "labels=offset"))) == (
        "mix:0.7*digits + 0.3*mnist5k | labels=offset"
    )


def test_slices_of_splits():
    part = data_parts.data_source(config(path="digits", train_split="train[:50%]"), "train")
    assert len(part) == 700
