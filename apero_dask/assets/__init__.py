"""Files that cannot be shipped or measured: what is used, where a better one goes, how to bring one in."""
