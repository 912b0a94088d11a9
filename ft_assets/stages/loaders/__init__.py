"""From one file to pages of text and to records: a module for each format.

All of it runs in a parser process, which bounds time and memory: see `stages/parsing/process.py`.
"""
