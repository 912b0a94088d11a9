"""Files of records: JSON, JSON Lines, CSV, TSV and Parquet, also in gzip, whatever their names say.

`load.py` finds out what a file is; `json_values.py` and `tables.py` give its entries, `readers.py` makes
each entry an instruction record, a text, or a reason. Every key of an entry is used, or counted.
"""
