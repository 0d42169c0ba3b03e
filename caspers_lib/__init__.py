"""Casper's Kitchens as a library: replay, medallion, agents, Postgres and a console.

Importing this package has no side effect and loads neither Spark nor DuckDB.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
