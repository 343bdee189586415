"""cnnspec: a declarative model-spec compiler for convolutional networks, in NumPy."""

__version__ = "0.1.0"
