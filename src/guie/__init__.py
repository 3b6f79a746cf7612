"""guie: the pipeline that wins the Google Universal Image Embedding Challenge, as software. Importing it has
no side effects."""

__version__ = "0.1.0"
