"""The image demo model: its architecture, its data, its training, and what its pictures show."""
