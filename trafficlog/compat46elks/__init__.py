"""History as the API of 46elks shows it, under ``/a1/``: for clients that were written for that."""
