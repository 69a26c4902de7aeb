"""Decoders: their sizes, parameters, forward passes, adapters, and files."""
