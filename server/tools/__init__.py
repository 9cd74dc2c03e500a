"""Calls of functions: what a request offers, how a model writes a call, and how it is forced to.

Texts and grammars only: nothing here knows of HTTP or of the engine's process.
"""
