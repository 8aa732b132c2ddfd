"""The HTTP API: routes, their scopes, and how errors are answered."""
