"""Other libraries: one file each, imported only by who uses that library."""
