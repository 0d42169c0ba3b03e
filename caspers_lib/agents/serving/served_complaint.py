"""The complaint agent as a model from code: mlflow runs this file, and nobody else needs it."""

from caspers_lib.agents.serving.served import set_served_model

set_served_model("complaint")
