"""nginx and Caddy in front of a server, with the configurations of docs/proxies on free ports of this machine."""

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "proxies"
NAME = "draw.example.com"
PROGRAMS = {"nginx.conf": "nginx", "nginx-prefix.conf": "nginx", "Caddyfile": "caddy", "Caddyfile-prefix": "caddy"}
NGINX = """\
daemon off; master_process off; pid {directory}/pid; error_log {directory}/log warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    include {directory}/site;
}}
"""
CADDY = "{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tstorage file_system {directory}\n}}\n"


@dataclass
class Proxy:
    """A proxy that listens, under the name of docs/proxies."""

    port: int

    @property
    def host(self):
        return f"{NAME}:{self.port}"

    def ask(self, method, path, body=None, headers=None, server_name=NAME):
        """Give status, headers by lower-case name and body."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # self-signed
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        with plain, context.wrap_socket(plain, server_hostname=server_name) as client.sock:
            with contextlib.suppress(OSError):  # a proxy that has its answer may read no further
                client.request(method, path, body, {"host": self.host, **(headers or {})})
            answer = client.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def missing(configuration):
    """Name the program that a configuration needs and this machine lacks."""
    needed = [PROGRAMS[configuration], *(["openssl"] if PROGRAMS[configuration] == "nginx" else [])]
    return next((program for program in needed if shutil.which(program) is None), None)


@contextlib.contextmanager
def in_front(configuration, upstream_port, directory):
    """Run a proxy with a file of docs/proxies in front of a port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = (DOCS / configuration).read_text().replace("127.0.0.1:8000", f"127.0.0.1:{upstream_port}")
    is_nginx = PROGRAMS[configuration] == "nginx"
    command = _nginx(text, port, directory) if is_nginx else _caddy(text, port, directory)
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={"HOME": str(directory), "PATH": "/usr/bin:/bin"})
    try:
        _wait(process, port, directory / "output")
        yield Proxy(port)
    finally:
        process.terminate()
        process.wait(20)


def _nginx(text, port, directory):
    key, certificate = directory / "key", directory / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={NAME}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/draw.example.com.pem", str(certificate)),
        ("/etc/ssl/draw.example.com.key", str(key)),
    ):
        assert old in text
        text = text.replace(old, new)
    (directory / "site").write_text(text)
    (directory / "conf").write_text(NGINX.format(directory=directory))
    return [shutil.which("nginx"), "-p", str(directory), "-c", str(directory / "conf"), "-e", str(directory / "log")]


def _caddy(text, port, directory):
    assert f"\n{NAME} {{" in text
    text = text.replace(f"\n{NAME} {{", f"\n{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls internal")
    (directory / "Caddyfile").write_text(CADDY.format(directory=directory) + text)
    return [shutil.which("caddy"), "run", "--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]


def _wait(process, port, output):
    for _ in range(600):
        assert process.poll() is None, output.read_text()
        with contextlib.suppress(OSError, ssl.SSLError):
            Proxy(port).ask("GET", "/healthz")
            return
        time.sleep(0.1)
    raise AssertionError(f"the proxy doesn't answer: {output.read_text()}")
