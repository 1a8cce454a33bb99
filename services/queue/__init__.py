"""Waiting and running jobs: handed out in order, reported on by workers, and taken back from those that are gone."""
