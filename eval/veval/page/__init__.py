"""The page of `veval report --html`."""
