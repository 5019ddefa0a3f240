"""Recipes: frozen, strict, torch-free."""

from r1mega.config.error import UserError
from r1mega.config.layout import LayoutConfig
from r1mega.config.model import ModelConfig
from r1mega.config.recipe import Recipe

__all__ = ["LayoutConfig", "ModelConfig", "Recipe", "UserError"]
