"""The service in a process of its own: what it answers, and what it refuses."""

from __future__ import annotations

import io
import json
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ipad_train.catalogue.photo_files import photo_id

pytestmark = pytest.mark.multiprocess
FIRST = photo_id("garment-00000.jpg")


def png_bomb(width=30_000, height=30_000):
    """The head of a huge PNG with a few bytes of compressed zeros."""
    parts = [
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b"\0" * 5_000_000),
        b"IEND",
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )


def search(service, **asked):
    return service.send("POST", "/api/search", json.dumps(asked).encode(), Content_Type="application/json")


def test_pages_and_headers(service):
    for path, kind in (
        ("/", "text/html"),
        ("/api", "text/html"),
        ("/static/page.js", "text/javascript"),
        ("/openapi.json", "json"),
    ):
        status, headers, content = service.get(path)
        assert status == 200
        assert kind in headers["content-type"]
        assert content
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_pages_ask_nothing_of_other_hosts(service):
    for path in ("/", "/api", "/static/page.js", "/static/api.js", "/static/page.css", "/static/icon.svg"):
        text = service.get(path)[2].decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert '"//' not in text


def test_catalogue_photos_and_search(service):
    info = service.ask("/api/catalogue")
    assert info["photos"] == 40
    assert len(info["attributes"]) == 6
    assert info["columns"]["price"]["low"] < info["columns"]["price"]["high"]
    assert info["has_attention"] is True
    page = service.ask("/api/photos?limit=5&where=price%20%3C%2050")
    assert len(page["photos"]) == 5
    assert all(photo["columns"]["price"] < 50 for photo in page["photos"])
    answer = service.ask("/api/search", {"photo": FIRST, "weights": {"sleeve_length": 1.0}, "limit": 40})
    assert len(answer["hits"]) == 39
    assert FIRST not in {hit["id"] for hit in answer["hits"]}
    facets = {"sleeve_length": [answer["hits"][0]["values"]["sleeve_length"]["value"]]}
    fewer = service.ask(
        "/api/search", {"photo": FIRST, "weights": {"sleeve_length": 1.0}, "facets": facets, "limit": 40}
    )
    assert {hit["values"]["sleeve_length"]["value"] for hit in fewer["hits"]} == set(facets["sleeve_length"])
    assert (
        fewer["facets"]["sleeve_length"] == answer["facets"]["sleeve_length"]
    )  # its own counts are those of what could be chosen
    assert fewer["among"] == answer["facets"]["sleeve_length"][facets["sleeve_length"][0]]


def test_upload_finds_the_same_as_the_photo(service, photos):
    content = (photos / "garment-00000.jpg").read_bytes()
    status, _, answer = service.send("POST", "/api/uploads", content, Content_Type="image/jpeg")
    assert status == 200, answer
    upload = json.loads(answer)["upload"]
    weights = {"collar_design": 1.0, "pant_length": 0.2}
    by_upload = service.ask("/api/search", {"upload": upload, "weights": weights, "limit": 10})["hits"]
    by_photo = service.ask("/api/search", {"photo": FIRST, "weights": weights, "limit": 9})["hits"]
    assert by_upload[0]["id"] == FIRST
    assert [hit["id"] for hit in by_upload[1:]] == [hit["id"] for hit in by_photo]
    status, headers, heat = service.get(f"/api/attention?upload={upload}&attribute=collar_design")
    assert (status, headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(heat)) as picture:
        assert np.asarray(picture)[..., 3].max() > 150


def test_reranking_tells_both_orders(service):
    asked = {"photo": FIRST, "weights": {"sleeve_length": 1.0}, "limit": 20, "rerank": "k_reciprocal"}
    answer = service.ask("/api/search", asked)
    assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 21))
    assert answer["reranked"] is True
    assert len({hit["rank_before"] for hit in answer["hits"]}) == 20


def test_a_photo_that_is_replaced_or_gone_while_it_is_served(service, served_photos):
    path, name = served_photos / "garment-00007.jpg", photo_id("garment-00007.jpg")
    before, tag = service.get(f"/photos/{name}")[2], service.get(f"/photos/{name}")[1]["etag"]
    assert service.get(f"/photos/{name}", If_None_Match=tag)[0] == 304
    assert service.ask(f"/api/photos/{name}")["status"] == "as indexed"
    content = path.read_bytes()
    path.write_bytes((served_photos / "garment-00008.jpg").read_bytes())
    assert service.get(f"/photos/{name}")[2] != before
    assert service.get(f"/photos/{name}", If_None_Match=tag)[0] == 200
    assert service.ask(f"/api/photos/{name}")["status"] == "changed since it was indexed"
    secret = served_photos.parent / "secret.txt"
    for replacement in ("junk", "link", "bomb", "gone"):
        path.unlink(missing_ok=True)
        if replacement == "junk":
            path.write_bytes(b"no image")
        elif replacement == "link":
            path.symlink_to(secret)
        elif replacement == "bomb":
            path.write_bytes(png_bomb())
        for address in (f"/photos/{name}", f"/api/attention?photo={name}&attribute=collar_design"):
            status, _, answer = service.get(address)
            assert status == 410, (replacement, answer)
            assert b"secret" not in answer
        assert service.ask(f"/api/photos/{name}")["id"] == name
    path.write_bytes(content)
    assert service.get(f"/photos/{name}")[2] == before


def hostile_requests():
    """(method, path, body, headers, statuses that are fine); at least a hundred."""
    js = {"Content_Type": "application/json"}
    weights = {"sleeve_length": 1.0}

    def post(content, statuses=(400, 422)):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return ("POST", "/api/search", body, js, statuses)

    for place in (
        "../secret.txt",
        "..%2f..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "....//secret.txt",
        "/etc/passwd",
        "%00",
        "..%5csecret.txt",
        "a" * 5000,
        "%c0%ae%c0%ae/secret.txt",
        "0123456789abcdef",
        "'%20or%201==1",
        "*",
        "~root",
        "con",
        "file:%2f%2f%2fetc%2fpasswd",
    ):
        yield "GET", f"/photos/{place}", None, {}, (404, 414, 400)
        yield "GET", f"/static/{place}", None, {}, (404, 414, 400)
        yield "GET", f"/api/photos/{place}", None, {}, (404, 414, 400)
        yield "GET", f"/api/attention?attribute=sleeve_length&photo={place}", None, {}, (404, 410, 422, 400)
    for size in ("0", "-1", "99999999", "x", "1e9", "320.5"):
        yield "GET", f"/photos/{FIRST}?size={size}", None, {}, (422,)
    for where in (
        "'",
        "1==1",
        "price < 1 or 1 == 1",
        "id != ''",
        "extra['c0'] > 0",
        "price < 1; drop",
        "brand == '\\",
        "((((",
        "a" * 4100,
        "brand like '%'",
        "brand == 'x' or s0 != ''",
        "json_contains(extra, 1)",
        "\u202e",
        "not " * 50 + "price<1",
    ):
        yield post({"photo": FIRST, "weights": weights, "where": where})
    for content in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 30_000,
        b'{"photo": 1}',
        {"weights": weights},
        {"photo": FIRST, "upload": "x", "weights": weights},
        {"photo": FIRST, "weights": {}},
        {"photo": FIRST, "weights": {"sleeve_length": 0}},
        {"photo": FIRST, "weights": {"sleeve_length": "1"}},
        {"photo": FIRST, "weights": {"sleeve_length": -1}},
        {"photo": FIRST, "weights": {"sleeve": 1}},
        {"photo": FIRST, "weights": [1]},
        {"photo": FIRST, "weights": weights, "limit": 10**12},
        {"photo": FIRST, "weights": weights, "limit": 0},
        {"photo": FIRST, "weights": weights, "limit": True},
        {"photo": FIRST, "weights": weights, "rerank": "../reasoner"},
        {"photo": FIRST, "weights": weights, "rerank": "/tmp"},
        {"photo": FIRST, "weights": weights, "unknown": 1},
        {"photo": FIRST, "weights": weights, "facets": {"price": ["1"]}},
        {"photo": FIRST, "weights": weights, "facets": {"sleeve_length": ["x' or 1==1"]}},
        {"photo": FIRST, "weights": weights, "facets": {"sleeve_length": "long"}},
        {"photo": FIRST, "weights": {f"a{i}": 1 for i in range(999)}},
        b'{"photo": "x", "weights": {"sleeve_length": NaN}}',
        b'{"photo": "x", "weights": {"sleeve_length": 1e999}}',
    ):
        yield post(content)
    yield post({"photo": "0" * 16, "weights": weights}, (404,))
    yield post({"upload": "0" * 32, "weights": weights}, (404,))
    yield post({"photo": FIRST, "weights": {f"attribute number {i}": 1.0 for i in range(10_000)}}, (413, 422))
    up = ("POST", "/api/uploads")
    for content, statuses in (
        (b"", (422,)),
        (b"\xff\xd8\xff", (422,)),
        (b"GIF89a" + b"\xff" * 20, (422,)),
        (png_bomb(), (422,)),
        (png_bomb(0, 7), (422,)),
        (png_bomb(2**31 - 1, 2**31 - 1), (422,)),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", (422,)),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", (422,)),
        (b"\0" * 600_000, (413,)),
        (b"II*\0" + b"\xff" * 99, (422,)),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 ", (422,)),
        (b"BM" + b"\xff" * 60, (422,)),
        (b"P6 9 9 255\n" + b"x" * 243, (422,)),
        (b"PK\x03\x04" + b"\0" * 60, (422,)),
        (b"\x80\x04cos\nsystem\n", (422,)),
    ):
        yield (*up, content, {"Content_Type": "image/jpeg"}, statuses)
    for query in (
        "offset=-1",
        "limit=9999",
        "limit=x",
        "where=price",
        "facet=nothing:x",
        "facet=sleeve_length:x",
        "facet=%00",
        "offset=1e9",
    ):
        yield "GET", f"/api/photos?{query}", None, {}, (422,)
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        yield method, "/api/search", None, {}, (405,)
    yield "GET", "/", None, {"Host": "evil.example"}, (421,)
    yield "POST", "/api/uploads", b"x", {"Origin": "https://evil.example"}, (403,)
    yield "GET", "/api/catalogue", None, {"Host": "127.0.0.1.evil.example:80"}, (421,)
    yield "GET", "/api/attention?attribute=nothing&photo=" + FIRST, None, {}, (422,)
    yield "GET", "/docs", None, {}, (404,)


def test_hostile_requests(service):
    """Each gets a 4xx with a sentence; nothing outside the folder is read; the service stays up and answers as before."""
    asked = {"photo": FIRST, "weights": {"sleeve_length": 1.0}}
    before, count = service.ask("/api/search", asked), 0
    for method, path, body, headers, statuses in hostile_requests():
        count += 1
        status, answered, content = service.send(method, path, body, **headers)
        assert status in statuses, (method, path[:80], (body or b"")[:80], status, content[:300])
        assert b"the secret" not in content
        assert b"root:" not in content
        assert b"Traceback" not in content
        if "json" in answered.get("content-type", ""):
            assert json.loads(content)["error"]
    assert count >= 100
    assert service.ask("/api/search", asked) == before


def test_raw_hostile_bytes(service):
    """Requests that no client sends: lengths that lie, endless heads, half a body and then nothing."""
    host, port = service.address.removeprefix("http://").split(":")
    heads = [
        b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx",
        b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nx",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
        b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"
        + b"x" * 700_000,
        b"GET /" + b"a" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    for head in heads:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            try:
                connection.sendall(head)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
            except OSError:  # the service hung up while we wrote
                answer = b""
            assert not answer or answer.split()[1][:1] == b"4", (head[:60], answer[:200])
    assert service.ask("/api/catalogue")["photos"] == 40


def test_token_where_it_is_bound_elsewhere(serving, own_catalogue, served_photos):
    token = "a-token-of-the-test-itself"
    service = serving(own_catalogue, served_photos, "--host", "0.0.0.0", "--token", token)
    service.address = service.address.replace("0.0.0.0", "127.0.0.1")
    for path in ("/", "/api/catalogue", "/openapi.json", f"/photos/{FIRST}", "/?token=wrong", "/static/page.js"):
        status, _, content = service.get(path)
        assert status == 401, path
        assert b"token" in content
    assert service.get("/api/catalogue", Authorization=f"Bearer {token}")[0] == 200
    assert service.get("/api/catalogue", Authorization="Bearer é".encode().decode("latin-1"))[0] == 401
    assert service.get("/api/catalogue", Cookie=f"ipad_catalogue_token={token}", Host="shop.example")[0] == 200
    with socket.create_connection(("127.0.0.1", int(service.address.rsplit(":", 1)[1]))) as connection:
        connection.sendall(f"GET /?token={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 303")
    assert "HttpOnly" in answer
    assert f"?token={token}" in service.running.text()
