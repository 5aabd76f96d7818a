"""What PIL makes of the test photograph: bicubic resize of the short side and centre crop as torchvision does them.

    pip install pillow; python resize.py > resize.json
"""
import json

from PIL import Image

SHORT, CROP = 16, 12


def photo(width, height):
    image = Image.new("RGB", (width, height))
    image.putdata([((7 * x + 3 * y) % 256, x * y % 256, (x * x + 5 * y) % 256)
                   for y in range(height) for x in range(width)])
    return image


def view(width, height):
    short, long = min(width, height), SHORT * max(width, height) // min(width, height)
    size = (SHORT, long) if width <= height else (long, SHORT)
    image = photo(width, height)
    if short != SHORT:
        image = image.resize(size, Image.BICUBIC)
    left, top = round((size[0] - CROP) / 2), round((size[1] - CROP) / 2)
    image = image.crop((left, top, left + CROP, top + CROP))
    return {"width": width, "height": height, "rgb": list(image.tobytes())}


print(json.dumps([view(47, 31), view(31, 47), view(11, 9), view(21, 16)]))
