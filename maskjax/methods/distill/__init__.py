"""Students of frozen teachers."""
