"""A batch worker: a folder of work goes in, a folder of answers comes out."""

__version__ = "0.1.0"
