"""Files that a request names by URL: fetched only from hosts that the operator allows, and never from inside."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import final
from urllib.parse import SplitResult, urlsplit

from headstart.core import VERSION
from headstart.core.errors import RequestError, listed
from headstart.server.requests.rows import short

PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
CHUNK = 1 << 16
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@final
@dataclass(frozen=True)
class _Place:
    """Where a URL leads: the address is asked for once, so that no second answer can lead elsewhere."""

    host: str
    port: int
    secure: bool
    target: str
    addresses: tuple[str, ...]


def fetch(url: str, hosts: Sequence[str], *, most_bytes: int, seconds: float) -> bytes:
    """Return the file at a URL.

    Args:
        url: http or https.
        hosts: those that may be asked: a name, or `name:port` for another port than the usual one. A private address
            is asked only where the address itself stands in the list.
        most_bytes: how large it may be.
        seconds: how long all of it may take.

    Raises:
        RequestError: the host is not allowed, is on a private network, redirects, or does not give the file in time.
    """
    until = time.monotonic() + seconds
    place = _place(url, hosts)
    try:
        connected = _connected(place, until)
    except OSError as error:
        raise _failed(place, str(error.strerror or error)) from None
    with connected:
        return _read(connected, place, most_bytes, until)


def _place(url: str, hosts: Sequence[str]) -> _Place:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").encode("idna").decode() if not _literal(parts) else parts.hostname
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        host, port = "", 0
    if not host or "@" in parts.netloc or any(ord(each) < 33 for each in url):
        raise RequestError(f"'{short(url)}' is not a URL that is fetched.", allowed="https://host/path, no password.")
    usual = port == PORTS[parts.scheme]
    if f"{host}:{port}" not in hosts and not (usual and host in hosts):
        raise RequestError(
            f"The file's host is '{short(host)}'{'' if usual else f', port {port}'}, which is not fetched from.",
            allowed=f"Hosts: {listed(hosts)}." if hosts else "Files are sent in the request.",
            hint="The operator allows a host with: headstart serve --url-host NAME",
        )
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return _Place(host, port, parts.scheme == "https", _ascii(target), _addresses(host, port))


def _literal(parts: SplitResult) -> bool:
    return bool(parts.hostname) and _address(str(parts.hostname)) is not None


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _ascii(target: str) -> str:
    return "".join(each if ord(each) < 128 else "".join(f"%{byte:02X}" for byte in each.encode()) for each in target)


def _addresses(host: str, port: int) -> tuple[str, ...]:
    """Return a host's addresses, all of which must be public unless the host is an address itself."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RequestError(f"There is no host '{short(host)}'.", hint="Send the file in the request.") from None
    addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))
    if _address(host) is None and not all(is_public(each) for each in addresses):
        raise RequestError(
            f"The host '{short(host)}' is on a private network, which is not fetched from.",
            hint="Send the file in the request; or the operator allows the address itself.",
        )
    return addresses


def is_public(text: str) -> bool:
    """Return whether an address is one of the public internet, also where it wraps an IPv4 address.

    >>> [is_public(each) for each in ("1.1.1.1", "10.0.0.1", "::ffff:127.0.0.1", "169.254.169.254")]
    [True, False, False, False]
    """
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        address = inner or address
    return address is not None and address.is_global and not address.is_multicast


def _connected(place: _Place, until: float) -> socket.socket:
    error: OSError = TimeoutError("it took too long")
    for address in place.addresses:
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            opened = socket.create_connection((address, place.port), timeout=left)
        except OSError as found:
            error = found
            continue
        if not place.secure:
            return opened
        try:
            context = ssl.create_default_context()
            return context.wrap_socket(opened, server_hostname=place.host, do_handshake_on_connect=False)
        except BaseException:
            opened.close()
            raise
    raise error


def _read(connected: socket.socket, place: _Place, most_bytes: int, until: float) -> bytes:
    # A host that sends a byte now and then is cut off as well: timeouts of sockets hold for each byte alone.
    cut = threading.Timer(max(until - time.monotonic(), 0.001), _shut, [connected])
    cut.daemon = True
    cut.start()
    try:
        if isinstance(connected, ssl.SSLSocket):
            connected.do_handshake()
        found = _asked(connected, place, most_bytes)
        if time.monotonic() >= until:
            # What was cut off looks like a file that has ended.
            raise TimeoutError
        return found
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= until:
            raise _failed(place, "it took too long") from None
        raise _failed(place, str(error) or type(error).__name__) from None
    finally:
        cut.cancel()


def _asked(connected: socket.socket, place: _Place, most_bytes: int) -> bytes:
    kind = http.client.HTTPSConnection if place.secure else http.client.HTTPConnection
    asking = kind(place.host, place.port)
    asking.sock = connected
    headers = {"User-Agent": f"headstart/{VERSION}", "Accept": "*/*", "Connection": "close"}
    asking.request("GET", place.target, headers=headers)
    with asking.getresponse() as response:
        return _content(response, place, most_bytes)


def _content(response: http.client.HTTPResponse, place: _Place, most_bytes: int) -> bytes:
    if 300 <= response.status < 400:
        raise RequestError(
            f"The URL at '{short(place.host)}' leads on to another place, which is not followed.",
            hint="Give the URL where the file is.",
        )
    if response.status != 200:
        raise _failed(place, f"it answered {response.status}")
    found = bytearray()
    while len(found) <= most_bytes and (chunk := response.read1(CHUNK)):
        found += chunk
    if len(found) > most_bytes or (response.length or 0) > most_bytes:
        raise RequestError(
            f"The file at '{short(place.host)}' is larger than {most_bytes / 1e6:g} MB.",
            status=413,
            hint="The operator raises the limit with: headstart serve --max-body-mb N",
        )
    if response.length:
        raise _failed(place, "it was cut off")
    return bytes(found)


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _failed(place: _Place, reason: str) -> RequestError:
    return RequestError(f"No file came from '{short(place.host)}': {reason.rstrip('.')}.")
