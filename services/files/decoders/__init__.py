"""Processes with limits in which untrusted files are decoded."""
