"""The customer's page in the browser: plain HTML that works without a script."""
