"""medallion."""
