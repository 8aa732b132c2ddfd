"""The operators' page in the browser, under ``/operate``: plain HTML without a script."""
