"""Cutting a text into chunks, on exact offsets."""
