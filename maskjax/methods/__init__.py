"""One method = one file, grouped by family; methods never import each other."""
