"""The store in one directory of a POSIX file system: where things are, and how they survive."""
