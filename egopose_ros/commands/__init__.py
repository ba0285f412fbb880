"""The commands of `egopose`, one a module."""

DAMAGED = 3
"""exit status where all is done, but with a damaged recording only as far as it goes"""
