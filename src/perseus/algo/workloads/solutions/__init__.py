"""One solution of each problem, on the library where that is what one would do."""
