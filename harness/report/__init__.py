"""Report: records in, statistics, tables and figures out; no torch on this path."""
