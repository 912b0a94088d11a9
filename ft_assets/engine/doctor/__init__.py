"""What of this machine the project can rely on. A line of the report is one function in `report.py`'s list."""
