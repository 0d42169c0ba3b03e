"""lakebase."""
