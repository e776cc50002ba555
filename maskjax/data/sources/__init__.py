"""One file per kind of source; each has ``build(argument, split) -> Source``. See ``data.source``."""
