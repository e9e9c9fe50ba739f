"""Who may send requests, and the headers of every response. Over real sockets: clients tidy requests."""

import json

import live_server
import pytest
import toy_run

from inklab.errors import ConfigError
from inklab.serve.address import AllowedHosts, AuthToken, BindAddress, is_loopback, parse_token
from inklab.serve.server import FILES

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def server():
    return live_server.shared()


@pytest.fixture(scope="module")
def locked():
    with live_server.serving(toy_run.finished(), token=TOKEN) as server:
        yield server


def send(server, target="/health", method="GET", body=b"", **headers):
    """Status, headers and JSON of the response to a request written by hand; None leaves a header out."""
    sent = {"Host": f"127.0.0.1:{server.port}", "Connection": "close"}
    if method == "POST":
        sent |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items() if v is not None), "", ""]
    head, _, content = server.raw("\r\n".join(lines).encode("latin-1") + body).partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    received = dict(line.lower().split(": ", 1) for line in rest)
    is_json = received.get("content-type", "").startswith("application/json")
    return int(first.split()[1]), received, json.loads(content) if is_json and content else {}


def status(*request, **headers):
    return send(*request, **headers)[0]


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "LocalHost:{}", "[::1]:{}"])
    def test_its_own_names_are_answered(self, server, host):
        assert status(server, Host=host.format(server.port)) == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example", "evil.example:{}", "localhost", "localhost:1", "127.0.0.1.evil.example:{}", "",
            "localhost.evil.example:{}", "localhost:{}@evil.example", "127.1:{}", "0.0.0.0:{}", "[::]:{}",
            "localhost:{}:{}", "localhost:{} ,x", "\xe9:{}",
        ],
    )  # fmt: skip
    def test_others_are_refused(self, server, host):
        code, _, content = send(server, Host=host.replace("{}", str(server.port)))
        assert code in (400, 403)
        assert code == 400 or "--allowed-host" in content["error"]

    def test_a_person_reads_on_a_page_what_to_type(self, server):
        visit = {"Accept": "text/html,*/*;q=0.8", "Sec_Fetch_Mode": "navigate"}
        for name, expected in (("lab.example:80", "lab.example"), ("<b>", "NAME")):
            code, headers, _ = send(server, "/", Host=name, **visit)
            content = server.raw(f"GET / HTTP/1.0\r\nHost: {name}\r\nAccept: text/html\r\n\r\n".encode())
            assert code == 403 and headers["content-type"].startswith("text/html")
            assert f"--allowed-host {expected}<".encode() in content and b"<b>" not in content
        assert send(server, "/", Host="lab.example", **{**visit, "Sec_Fetch_Mode": "cors"})[2]["error"]

    def test_none_or_two_are_refused(self, server):
        assert status(server, Host=None) == 400
        both = f"GET /health HTTP/1.1\r\nHost: localhost:{server.port}\r\nHost: evil.example\r\n\r\n"
        assert b" 400 " in server.raw(both.encode(), timeout=1)

    def test_every_route_is_behind_it(self, server):
        for name in " health api/networks api/study api/study/events openapi.json nothing".split(" "):
            assert status(server, f"/{name}", Host="evil.example") == 403
        for name in ("predict", "denoise", "generate"):
            assert status(server, f"/api/{name}", "POST", b"{}", Host="evil.example") == 403

    def test_names_that_the_user_allows(self):
        hosts = AllowedHosts.of(BindAddress("0.0.0.0", allowed_hosts=["lab.example", "::5"]), 8470)
        for host in ("lab.example", "Lab.Example:443", "[::5]:8470"):
            assert hosts.allow(host)
        for host in ("0.0.0.0:8470", "lab.example:x", "example"):
            assert not hosts.allow(host)
        assert AllowedHosts.of(BindAddress("192.168.0.7"), 80).allow("192.168.0.7")
        with pytest.raises(ConfigError) as caught:
            AllowedHosts.of(BindAddress(allowed_hosts=["http://lab.example/"]), 8470)
        assert caught.value.key == "allowed-host"


class TestOrigin:
    def test_its_own_page_may_ask(self, server):
        assert status(server, Origin=f"http://127.0.0.1:{server.port}") == 200
        assert status(server, Origin=f"http://localhost:{server.port}") == 403  # not that of the Host header

    @pytest.mark.parametrize(
        "origin",
        ["null", "http://evil.example", "http://localhost:1", "https://localhost", "file://", "http://127.0.0.1:{}.evil.example"],
    )  # fmt: skip
    def test_other_pages_may_not(self, server, origin):
        own = origin.format(server.port)
        code, headers, content = send(server, "/api/predict", "POST", b"{}", Origin=own)
        assert code == 403 and set(content) == {"error"}
        assert "access-control-allow-origin" not in headers

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_other_sites_may_follow_a_link_to_the_page_and_nothing_else(self, server, site):
        visit = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert status(server, "/", **visit) == 200
        assert status(server, "/", **{**visit, "Sec_Fetch_Dest": "iframe"}) == 403
        assert status(server, "/api/study", **visit) == 403
        assert status(server, "/api/study", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors") == 403
        assert status(server, "/api/study", Sec_Fetch_Site="same-origin") == 200


class TestHeaders:
    @pytest.mark.parametrize(
        "target", ["/", "/health", "/static/drawing.js", "/nothing", "/api/predict", "/openapi.json"]
    )
    def test_every_answer_has_them(self, server, target):
        _, headers, _ = send(server, target)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert {headers[f"cross-origin-{name}-policy"] for name in ("opener", "resource")} == {"same-origin"}
        assert "server" not in headers

    def test_answers_of_the_api_are_not_kept(self, server):
        assert send(server, "/api/study")[1]["cache-control"] == "no-store"

    def test_refusals_have_them_too(self, server):
        for answer in (send(server, Host="evil.example"), send(server, "/api/predict", "POST", b"")):
            assert "default-src 'none'" in answer[1]["content-security-policy"]


class TestMethodsAndPaths:
    @pytest.mark.parametrize("target", ["", "health", "api/predict", "api/networks", "static/drawing.js"])
    def test_other_methods(self, server, target):
        allowed = "post" if target == "api/predict" else "get"
        methods = ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"]
        methods += ["GET" if allowed == "post" else "POST"]
        for method in methods:
            code, headers, _ = send(server, f"/{target}", method)
            assert (code, headers["allow"]) == (405, allowed), method
            assert not any(name.startswith("access-control") for name in headers)

    @pytest.mark.parametrize(
        "target",
        [
            "/static/../../cli/main.py", "/static/..%2f..%2fcli%2fmain.py", "/static/%2e%2e/%2e%2e/errors.py",
            "/static/%252e%252e/errors.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/",
            "/static", "/static/..", "/static/%00", "/static/drawing.js%00.html", "/../../etc/passwd",
            "/static/drawing.js/", "/static\\..\\..", "/STATIC/drawing.js", "//evil.example/",
            "/api/predict/", "/static/....//....//errors.py", "/api/../api/../../etc/passwd",
            "/static/%ff%fe", "/plan.json", "/docs", "/redoc", "/static/static.py", "/static/__init__.py",
        ],
    )  # fmt: skip
    def test_paths_lead_nowhere(self, server, target):
        code, _, content = send(server, target)
        assert code in (400, 404) and set(content) == {"error"}

    @pytest.mark.parametrize(
        "target", ["http://evil.example/health", "*", "health", "http://127.0.0.1/health"]
    )
    def test_targets_in_other_forms_lead_nowhere(self, server, target):
        assert status(server, target) in (400, 404)

    def test_a_file_is_sent_once(self, server):
        _, headers, _ = send(server, "/static/drawing.js")
        assert headers["content-type"].startswith("text/javascript")
        assert status(server, "/static/drawing.js", If_None_Match=headers["etag"]) == 304

    def test_only_the_pages_own_files_are_there(self, server):
        assert {"index.html", "drawing.js", "preprocessing.js"} <= set(FILES)
        assert all("/" not in name and not name.endswith(".py") for name in FILES)
        assert {status(server, f"/static/{name}") for name in FILES} == {200}


class TestToken:
    def test_without_it_nothing_is_sent(self, locked):
        for target in ("/", "/health", "/api/networks", "/static/drawing.js", "/?token=wrong", "/?token="):
            code, headers, content = send(locked, target)
            assert (code, headers["www-authenticate"]) == (401, "bearer")
            assert TOKEN not in json.dumps(content)

    def test_as_a_bearer(self, locked):
        bearer = f"Bearer {TOKEN}"
        assert status(locked, Authorization=bearer) == 200
        assert status(locked, Host="evil.example", Authorization=bearer) == 403  # a foreign page
        for wrong in (bearer[:-1], f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é"):
            assert status(locked, Authorization=wrong) == 401

    def test_a_link_opens_the_page_for_a_browser(self, locked):
        visit = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        code, headers, _ = send(locked, f"/?token={TOKEN}", **visit)
        assert code == 200
        cookie, *rest = headers["set-cookie"].split("; ")
        assert {"httponly", "samesite=strict", "path=/"} <= set(rest) and TOKEN not in cookie
        assert {status(locked, Cookie=good) for good in (cookie, f"other=1; {cookie}")} == {200}
        assert {status(locked, Cookie=bad) for bad in (cookie[:-1] + "x", "\xe9=;;=")} == {401}
        for target in (f"/health?token={TOKEN}", f"/?token={TOKEN}&token={TOKEN}"):
            assert status(locked, target) == 401  # only the page itself is opened so

    def test_tokens_that_are_none(self):
        assert len(parse_token("auto")) >= 16 and parse_token("auto") != parse_token("auto")
        assert parse_token(None) is None
        for wrong in ("", "short", "x" * 15, "with a space in it", "x" * 201, "wîth-an-accent-here"):
            with pytest.raises(ConfigError) as caught:
                parse_token(wrong)
            assert caught.value.key == "token"

    def test_other_machines_need_one(self):
        for host in ("0.0.0.0", "::", "192.168.0.7", "lab.example"):
            with pytest.raises(ConfigError) as caught:
                BindAddress(host).check()
            assert caught.value.key == "token"
            BindAddress(host, token=TOKEN).check()
        for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
            assert is_loopback(host)
            BindAddress(host).check()

    def test_cookies_of_two_servers_do_not_mix(self):
        assert AuthToken(TOKEN, 1).cookie != AuthToken(TOKEN, 2).cookie


def test_the_report_is_served_in_a_sandbox_that_cannot_reach_the_server(server):
    code, headers, _ = send(server, "/report.html")
    if not (server.state.report_path and server.state.report_path.is_file()):
        assert code == 404
        server.state.report_path.write_text("<!doctype html><title>A report</title>")
        code, headers, _ = send(server, "/report.html")
    policies = [part.strip() for part in headers["content-security-policy"].split(";")]
    assert code == 200 and headers["content-type"].startswith("text/html")
    (sandbox,) = [part for part in policies if part.startswith("sandbox")]
    assert "allow-same-origin" not in sandbox and "default-src 'none'" in policies
    assert not any(part.startswith("connect-src") for part in policies)
    assert server.client.get("/api/study").json()["has_report"]


def test_what_is_read_is_compressed_and_what_is_asked_while_drawing_is_not(server):
    for target in ("/", "/static/main.js", "/api/networks", "/openapi.json"):
        assert server.client.get(target).headers["content-encoding"] == "gzip"
    response = server.client.post("/api/predict", json={"images": live_server.encoded_examples()})
    assert len(response.content) > 1000 and "content-encoding" not in response.headers


def test_client_generators_get_names_tags_types_and_the_token(server, locked):
    content = server.client.get("/openapi.json").json()
    operations = [operation for path in content["paths"].values() for operation in path.values()]
    names = {operation["operationId"] for operation in operations}
    posts, gets = {"predict", "denoise", "generate", "inspect"}, {"digits", "examples", "health", "networks"}
    assert names == posts | gets | {"study", "events"}
    assert (
        all(operation["tags"] for operation in operations) and "securitySchemes" not in content["components"]
    )
    locked_content = locked.client.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert locked_content["security"] == [{"token": []}]
    assert locked_content["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    text = json.dumps(content)
    assert "patternProperties" not in text and '"oneOf": [{"required"' not in text
    assert content["components"]["schemas"]["Results"]["properties"]["experiments"]["additionalProperties"]


def test_the_description_lists_every_route_with_examples_and_schemas_that_hold(server):
    jsonschema = pytest.importorskip("jsonschema")
    content = server.client.get("/openapi.json").json()
    gets = {"/health", "/api/digits", "/api/examples", "/api/networks", "/api/study", "/api/study/events"}
    posts = {"/api/predict", "/api/denoise", "/api/generate", "/api/inspect"}
    assert set(content["paths"]) == gets | posts
    for path in posts:
        route = content["paths"][path]["post"]
        schema = route["responses"]["200"]["content"]["application/json"]["schema"]
        for example in route["requestBody"]["content"]["application/json"]["examples"].values():
            response = server.client.post(path, json=example["value"])
            assert response.status_code == 200
            jsonschema.validate(response.json(), {**schema, "components": content["components"]})
