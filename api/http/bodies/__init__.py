"""Bodies of requests: JSON, a form with one file, and the texts in them."""
