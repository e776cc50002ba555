"""The `maskjax` command: one file a subcommand; each parses, builds, calls."""
