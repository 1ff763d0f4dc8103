"""Commands for models that travel: exporting, installing and listing them."""
