"""The command line: `token-limit`, and the same commands for Flask and Django. `main.py` is the entry point."""
