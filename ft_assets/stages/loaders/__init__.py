"""Reads one file into pages of text and records; one module per format.

This code runs in a parser process, which limits time and memory: see `stages/parsing/process.py`.
"""
