"""Interfaces to other libraries, one file each; import a file only if its library is installed."""
