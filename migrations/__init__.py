"""The schema: `NNNN_name.sql`, each applied once, in order, by `darkroom migrate`. Never edit a released one."""
