"""What hostile pictures cost `inkfold serve`: its memory, and how long strokes wait beside them.

    python benchmarks/serve_limits.py RUN_OR_ONNX          # each picture alone, then 16 clients for a minute
    python benchmarks/serve_limits.py RUN_OR_ONNX --quick
    python benchmarks/serve_limits.py --peaks              # bytes per pixel at the peak, which images/announced.py bounds

Each case has a server of its own. The 16 clients have addresses of their own and send the pictures that take most, alone and 16
to a form; another one sends the strokes of a sketch ten times a second. Clients share the machine with the server. Linux only.
"""

import argparse
import asyncio
import contextlib
import io
import json
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

CLIENTS, PROBE_EVERY_S, PATIENCE_S = 16, 0.1, 60.0
PEAK_SIDE_PX = 3000
PEAK_CODE = """
import io, sys
from PIL import Image
from inkfold.images import ink_box, paper
from inkfold.images.preprocess import ImageOptions, read_drawing
status = lambda name: next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name))
options = ImageOptions(size_px=224, resize="crop_to_ink", paper="auto")
data, small = sys.stdin.buffer.read(), io.BytesIO()
Image.new("RGBA", (300, 300), "white").save(small, "PNG")
read_drawing(small.getvalue(), options)
before = status("VmRSS")
read_drawing(data, options)
print(status("VmHWM") - before)
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    """Write a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def long_png() -> bytes:
    """Write a PNG of 68 bytes that announces 1 x 25,000,000 pixels and holds four of them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 25_000_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(8))) + chunk(b"IEND", b"")


def saved(picture: Image.Image, name: str, **options: object) -> bytes:
    """Write a picture's file."""
    data = io.BytesIO()
    picture.save(data, name, **options)
    return data.getvalue()


def marked(mode: str, side_px: int) -> Image.Image:
    """Make a page of one colour with a mark, transparent where there may be."""
    picture = Image.new(mode, (side_px, side_px), (255, 255, 255, 0) if mode == "RGBA" else "white")
    picture.paste((0, 0, 0, 255) if mode == "RGBA" else "black", (side_px // 3, side_px // 3, side_px // 2, side_px // 2))
    return picture


def pictures() -> dict[str, bytes]:
    """Write the pictures that take most, by what is said of them."""
    frames = [marked("RGB", 1200) for _ in range(16)]
    for i, frame in enumerate(frames):
        frame.paste("black", (0, 0, 50 * i + 1, 50))
    return {
        "PNG of 1 x 25,000,000": long_png(),
        "WebP RGBA of 5,000 x 5,000": saved(marked("RGBA", 5000), "WEBP", lossless=True, quality=0, method=0),
        "WebP RGBA of 4,000 x 4,000": saved(marked("RGBA", 4000), "WEBP", lossless=True, quality=0, method=0),
        "PNG RGBA of 4,900 x 4,900": saved(marked("RGBA", 4900), "PNG"),
        "JPEG of 5,000 x 5,000": saved(marked("RGB", 5000), "JPEG", progressive=True),
        "GIF of 16 frames": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }


def form(data: bytes) -> tuple[bytes, str]:
    """Write a form with 16 copies of a picture, and its type."""
    part = b"--x\r\ncontent-disposition: form-data; name=f; filename=a\r\n\r\n" + data + b"\r\n"
    return part * 16 + b"--x--\r\n", "multipart/form-data; boundary=x"


def sketch() -> bytes:
    """Write an ordinary sketch."""
    rng = np.random.default_rng(0)
    strokes = [(300 + rng.normal(0, 4, (40, 2)).cumsum(0)).round(1).tolist() for _ in range(8)]
    return json.dumps({"strokes": strokes, "width": 600, "height": 600}).encode()


async def post(port: int, body: bytes, kind: str, address: str) -> tuple[int, float]:
    """Send one request from an address of this machine; gives the status, 0 where there is none, and the seconds."""
    started, status = time.perf_counter(), 0
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            try:
                head = f"POST /predict?nearest=0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n"
                writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                status = int((await reader.readuntil(b"\r\n")).split()[1])
                await reader.read()
            finally:
                writer.close()
    return status, time.perf_counter() - started


def memory_mib(process: int, name: str) -> float:
    """Read a process's memory, or its peak."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


@contextlib.contextmanager
def serving(model: Path) -> Iterator[tuple[int, int]]:
    """Run the server; gives its port and process."""
    command = [sys.executable, "-m", "inkfold", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next((line.split()[1] for line in iter(process.stdout.readline, "") if line.startswith("page: ")), None)
        if address is None:
            raise SystemExit("the server didn't start")
        try:
            yield int(address.rstrip("/").rpartition(":")[2]), process.pid
        finally:
            process.terminate()
            process.stdout.read()


async def probe(port: int, seconds: list[float], statuses: Counter[int]) -> None:
    """Send strokes again and again."""
    body = sketch()
    while True:
        status, took_s = await post(port, body, "application/json", "127.0.0.100")
        seconds.append(took_s)
        statuses[status] += 1
        await asyncio.sleep(PROBE_EVERY_S)


async def mixed(port: int, length_s: float) -> tuple[list[float], Counter[int], Counter[int]]:
    """Let 16 clients send the worst pictures; gives the seconds and statuses of strokes, and the statuses of pictures."""
    bodies = [body for data in pictures().values() for body in ((data, "image/x"), form(data)) if len(body[0]) < 8 << 20]
    seconds: list[float] = []
    strokes, statuses, end = Counter[int](), Counter[int](), time.perf_counter() + length_s

    async def client(turn: int) -> None:
        while time.perf_counter() < end:
            body, kind = bodies[turn % len(bodies)]
            status, _ = await post(port, body, kind, f"127.0.0.{2 + turn % CLIENTS}")
            statuses[status] += 1
            turn += CLIENTS + 1

    probing = asyncio.create_task(probe(port, seconds, strokes))
    await asyncio.gather(*(client(i) for i in range(CLIENTS)))
    probing.cancel()
    return seconds, strokes, statuses


async def forms_beside_strokes(port: int) -> tuple[int, float]:
    """Send five forms of 16 small files that decode to 100 MB each, then a sketch; gives its status and seconds."""
    body, kind = form(pictures()["WebP RGBA of 5,000 x 5,000"])
    forms = [asyncio.create_task(post(port, body, kind, "127.0.0.1")) for _ in range(5)]
    await asyncio.sleep(0.5)
    answer = await post(port, sketch(), "application/json", "127.0.0.1")
    await asyncio.gather(*forms)
    return answer


def measure(model: Path, *, is_quick: bool) -> dict[str, float]:
    """Run all cases and print a table."""
    result: dict[str, float] = {}
    print(f"{'picture':<30} {'bytes':>9} {'status':>6} {'s':>6} {'more MiB':>9}")
    for name, data in list(pictures().items())[: 2 if is_quick else None]:
        with serving(model) as (port, process):
            asyncio.run(post(port, sketch(), "application/json", "127.0.0.1"))
            before = memory_mib(process, "VmRSS")
            status, took_s = asyncio.run(post(port, data, "image/x", "127.0.0.1"))
            more = memory_mib(process, "VmHWM") - before
        print(f"{name:<30} {len(data):>9} {status:>6} {took_s:>6.2f} {more:>9.0f}")
        result["more_mib_" + "".join(filter(str.isalnum, name)).lower()] = more
    with serving(model) as (port, _):
        status, took_s = asyncio.run(forms_beside_strokes(port))
    print(f"five forms of 16 WebP files, then strokes: {status} after {took_s:.2f} s")
    result |= {"strokes_beside_forms_status": status, "strokes_beside_forms_s": took_s}
    with serving(model) as (port, process):
        asyncio.run(post(port, sketch(), "application/json", "127.0.0.1"))
        before = memory_mib(process, "VmRSS")
        seconds, strokes, statuses = asyncio.run(mixed(port, 8 if is_quick else 60))
        peak = memory_mib(process, "VmHWM")
    p50, p95, slowest = (1000 * float(np.quantile(seconds, q)) for q in (0.5, 0.95, 1))
    print(f"16 clients: pictures {dict(sorted(statuses.items()))}, strokes {dict(sorted(strokes.items()))}")
    print(f"  strokes: p50 {p50:.0f}, p95 {p95:.0f}, slowest {slowest:.0f} ms; memory {before:.0f}, at the peak {peak:.0f} MiB")
    return result | {"p50_ms": p50, "p95_ms": p95, "slowest_ms": slowest, "start_mib": before, "peak_mib": peak}


def peaks() -> dict[str, float]:
    """Measure the bytes per pixel that reading pictures of each kind takes at the peak."""
    grey, colour, alpha = marked("L", PEAK_SIDE_PX), marked("RGB", PEAK_SIDE_PX), marked("RGBA", PEAK_SIDE_PX)
    other = colour.copy()
    other.paste("black", (0, 0, 50, 50))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 16)
    real = Image.fromarray(np.asarray(grey).astype(np.float32))
    files = {
        "png_grey": saved(grey, "PNG"),
        "png_colour": saved(colour, "PNG"),
        "png_alpha": saved(alpha, "PNG"),
        "png_palette": saved(colour.quantize(4), "PNG", transparency=0),
        "png_16_bits": saved(deep, "PNG"),
        "tiff_float": saved(real, "TIFF"),
        "tiff_cmyk": saved(colour.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "webp_colour": saved(colour, "WEBP", lossless=True, quality=0, method=0),
        "webp_alpha": saved(alpha, "WEBP", lossless=True, quality=0, method=0),
        "gif_frames": saved(colour, "GIF", save_all=True, append_images=[other]),
        "png_frames": saved(alpha, "PNG", save_all=True, append_images=[other.convert("RGBA")]),
        "webp_frames": saved(colour, "WEBP", save_all=True, append_images=[other], lossless=True, quality=0, method=0),
        "avif_alpha": saved(alpha, "AVIF", speed=10),
        "jpeg": saved(colour, "JPEG", subsampling=0),
        "jpeg_progressive": saved(colour, "JPEG", progressive=True, subsampling=0),
    }
    result = {}
    for name, data in files.items():
        done = subprocess.run([sys.executable, "-c", PEAK_CODE], input=data, capture_output=True, check=True)
        result[name] = int(done.stdout) / PEAK_SIDE_PX**2
        print(f"{name:<18} {len(data):>9} bytes: {result[name]:>5.1f} per pixel at the peak", flush=True)
    return result


def main() -> None:
    """Measure, print a table and the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="a run or an exported model")
    parser.add_argument("--quick", action="store_true", help="two pictures, and 8 s of the mix")
    parser.add_argument("--peaks", action="store_true", help="measure reading alone, without a server")
    given = parser.parse_args()
    if not given.peaks and given.model is None:
        parser.error("give a run or an exported model, or --peaks")
    result = peaks() if given.peaks else measure(given.model, is_quick=given.quick)
    print("RESULT " + " ".join(f"{name}={value:.4g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
