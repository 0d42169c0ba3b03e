"""Agents that recommend refunds and answer complaints.

Contract: DESIGN section 7. Nothing heavy is imported here; take what you need from the modules.
"""
