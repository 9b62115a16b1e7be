"""One file is one method; the file name is its name."""
