"""What tests of code that uses this library need: `caspers_lib.testing.workspace`."""

__all__: list[str] = []
