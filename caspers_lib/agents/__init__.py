"""Agents that recommend refunds and answer complaints.

Contract: docs/contracts.md, Agents. The modules here are rules, streams and SQL tools; `model` asks
a model, `serving` answers single requests, `evaluation` says how right an agent is. Nothing heavy
is imported here.
"""
