"""The schema of recipes: what may be said, in which ranges, and which choices exclude each other. It imports nothing
else of guie."""
