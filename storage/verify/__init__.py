"""Whether what is kept is what was put there: row by row, blob by blob, while others push.

A pass goes through all stages below in small pieces, each one transaction over at most PAGE rows or
one blob; nothing is locked meanwhile, and a pass may stop between any two pieces and go on there
another day, so that also a store is covered that takes a week to read. (Two things are read in one
go: SQLite's own check of its file, and a single blob.)

What is wrong is put right where something else proves how: the columns and edges of a manifest by
its body, the size in a link by bytes that fit the digest. Else it is marked, so that it is not
served and a push of the same heals it, and wrong bytes are put aside (storage.damage). While a
manifest or any other record is marked the collector deletes nothing.
"""

from storage.verify.findings import Finding, Gravity, Report
from storage.verify.passes import Verifier, last_began

__all__ = ["Finding", "Gravity", "Report", "Verifier", "last_began"]
