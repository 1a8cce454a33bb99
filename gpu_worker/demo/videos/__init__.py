"""The video demo model: its architecture, its data, its training, and what its clips show."""
