"""Training: FLIC's recipe and the published one, resumable to the last digit, in any processes."""

from .distributed import leads
from .loop import Options, train
from .recipe import FAST, LAMBDAS, PUBLISHED, Recipe, published_lambda

__all__ = [
    "FAST",
    "LAMBDAS",
    "PUBLISHED",
    "Options",
    "Recipe",
    "leads",
    "published_lambda",
    "train",
]
