"""Algorithms of the textbooks, each a module of its own with its properties beside it."""
