"""The commands as typer sees them: their arguments, their help, and what each prints."""
