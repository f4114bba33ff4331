import io
import struct

import numpy as np
from PIL import Image, ImageDraw

from inkfold.images.decode import decode_image

XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
FORMS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}


def encode(picture: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def upright() -> Image.Image:
    picture = Image.new("L", (64, 40), 255)
    ImageDraw.Draw(picture).polygon([(4, 4), (40, 4), (4, 30)], fill=0)
    return picture


def lying() -> Image.Image:
    return upright().transpose(Image.Transpose.ROTATE_90)  # orientation 6 turns it back


def stands_upright(data: bytes) -> bool:
    pixels = decode_image(data)
    return pixels.shape == (40, 64) and np.abs(pixels.astype(int) - np.asarray(upright())).mean() < 5


def exif(value: int = 6, order: str = "<", kind: int = 3, others: int = 0) -> bytes:
    entries = [struct.pack(order + "HHII", tag, 4, 1, number) for tag, number in (numbers | {279: pixels.size}).items()]
    entries.append(struct.pack(order + "HHI", 274, kind, 1) + struct.pack(order + FORMS[kind], 6).ljust(4, b"\0"))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + pixels.size)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    assert stands_upright(head + pixels.tobytes() + directory)
