"""The catalogue: rows in a database, under one small protocol."""
