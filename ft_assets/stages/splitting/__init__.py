"""Cuts a text into chunks with exact offsets."""
