"""One file per kind of source, each with ``build(argument, split)``; see ``data.source``."""
