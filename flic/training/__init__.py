"""Training: the published recipe, resumable to the last digit, in one process or several."""

from .distributed import leads
from .loop import Options, train
from .recipe import LAMBDAS, Recipe, published_lambda

__all__ = ["LAMBDAS", "Options", "Recipe", "leads", "published_lambda", "train"]
