"""Files in the object store: stored, thumbnailed and deleted; `media` decodes them."""
