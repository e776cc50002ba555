"""One adapter a golden file: what it may see, and the outputs computed by this project."""
