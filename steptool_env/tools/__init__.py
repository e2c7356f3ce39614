"""Tools: what an action calls. One file per source of tools."""
