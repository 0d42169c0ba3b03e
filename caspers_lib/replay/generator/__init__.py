"""The generator of the canonical dataset: an invented business with real rhythms."""

from caspers_lib.replay.generator.generate import generate_dataset

__all__ = ["generate_dataset"]
