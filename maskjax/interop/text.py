"""Settings as strings, for the headers of weights files."""

import json
from typing import Any


def metadata_text(value: Any) -> str:
    """A string as it is; anything else in JSON, arrays of numpy as lists."""
    return value if isinstance(value, str) else json.dumps(value, default=lambda x: x.tolist())
