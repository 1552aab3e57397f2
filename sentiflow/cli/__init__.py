"""Commands: arguments in, one call of the library, results on standard output, an exit code."""
