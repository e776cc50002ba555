"""Which file names are images, for the sources that go by extensions."""

# In the order in which they are preferred, where one example has several.
EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "jfif", "gif")
_ENDINGS = tuple(f".{extension}" for extension in EXTENSIONS)


def is_image(name: str) -> bool:
    """Whether a file name ends like that of an image, in upper or lower case."""
    return name.lower().endswith(_ENDINGS)
