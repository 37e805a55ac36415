"""Looking at images and writing the project file that fits them."""
