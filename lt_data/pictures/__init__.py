"""Pictures of data, with matplotlib and Pillow."""
