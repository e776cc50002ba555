"""Bodies of pretext tasks that several methods share; a method file says what is its own."""
