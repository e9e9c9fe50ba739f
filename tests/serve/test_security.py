"""Who may send requests, and the headers of every response. Over real sockets: clients tidy requests."""

import json

import live_server
import pytest

from inklab.errors import ConfigError
from inklab.serve.address import AllowedHosts, AuthToken, BindAddress, is_loopback, parse_token
from inklab.serve.server import FILES

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def server():
    return live_server.shared()


@pytest.fixture(scope="module")
def locked():
    import toy_run

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


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "LocalHost:{}", "[::1]:{}"])
    def test_its_own_names_are_answered(self, server, host):
        assert send(server, Host=host.format(server.port))[0] == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example", "evil.example:{}", "localhost", "localhost:1", "127.0.0.1.evil.example:{}", "",
            "localhost.evil.example:{}", "localhost:{}@evil.example", "127.1:{}", "0.0.0.0:{}", "[::]:{}",
            "localhost:{}:{}", "localhost:{} ,x", "\xe9:{}",
        ],
    )  # fmt: skip
    def test_others_are_refused(self, server, host):
        status, _, content = send(server, Host=host.replace("{}", str(server.port)))
        assert status in (400, 403)
        if status == 403:
            assert "--allowed-host" in content["error"]

    def test_none_or_two_are_refused(self, server):
        assert send(server, Host=None)[0] == 400
        both = f"GET /health HTTP/1.1\r\nHost: localhost:{server.port}\r\nHost: evil.example\r\n\r\n"
        assert b" 400 " in server.raw(both.encode(), timeout=1)

    def test_every_route_is_behind_it(self, server):
        for target in (
            "/",
            "/health",
            "/api/networks",
            "/api/study",
            "/api/study/events",
            "/openapi.json",
            "/nothing",
        ):
            assert send(server, target, Host="evil.example")[0] == 403
        for target in ("/api/predict", "/api/denoise", "/api/generate"):
            assert send(server, target, "POST", b"{}", Host="evil.example")[0] == 403

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
        assert send(server, Origin=f"http://127.0.0.1:{server.port}")[0] == 200

    @pytest.mark.parametrize(
        "origin",
        ["null", "http://evil.example", "http://localhost:1", "https://localhost", "file://", "http://127.0.0.1:{}.evil.example"],
    )  # fmt: skip
    def test_other_pages_may_not(self, server, origin):
        status, headers, content = send(
            server, "/api/predict", "POST", b"{}", Origin=origin.format(server.port)
        )
        assert status == 403
        assert set(content) == {"error"}
        assert "access-control-allow-origin" not in headers

    def test_it_must_be_the_name_of_the_host_header(self, server):
        assert send(server, Origin=f"http://localhost:{server.port}")[0] == 403

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_other_sites_may_follow_a_link_to_the_page_and_nothing_else(self, server, site):
        visit = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert send(server, "/", **visit)[0] == 200
        assert send(server, "/", **{**visit, "Sec_Fetch_Dest": "iframe"})[0] == 403
        assert send(server, "/api/study", **visit)[0] == 403
        assert send(server, "/api/study", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403
        assert send(server, "/api/study", Sec_Fetch_Site="same-origin")[0] == 200


class TestHeaders:
    @pytest.mark.parametrize(
        "target", ["/", "/health", "/static/drawing.js", "/nothing", "/api/predict", "/openapi.json"]
    )
    def test_every_answer_has_them(self, server, target):
        _, headers, _ = send(server, target)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert (
            headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        )
        assert "server" not in headers

    def test_answers_of_the_api_are_not_kept(self, server):
        assert send(server, "/api/study")[1]["cache-control"] == "no-store"

    def test_refusals_have_them_too(self, server):
        for answer in (send(server, Host="evil.example"), send(server, "/api/predict", "POST", b"")):
            assert "default-src 'none'" in answer[1]["content-security-policy"]


class TestMethodsAndPaths:
    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
    @pytest.mark.parametrize(
        "target", ["/", "/health", "/api/predict", "/api/networks", "/static/drawing.js"]
    )
    def test_other_methods(self, server, method, target):
        status, headers, _ = send(server, target, method)
        assert status == 405
        assert headers["allow"] == ("post" if target == "/api/predict" else "get")
        assert not any(name.startswith("access-control") for name in headers)

    def test_methods_that_do_not_fit(self, server):
        assert send(server, "/api/predict")[0] == 405
        assert send(server, "/health", "POST", b"{}")[0] == 405

    @pytest.mark.parametrize(
        "target",
        [
            "/static/../../cli/main.py", "/static/..%2f..%2fcli%2fmain.py", "/static/%2e%2e/%2e%2e/errors.py",
            "/static/%252e%252e/errors.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/",
            "/static", "/static/..", "/static/%00", "/static/drawing.js%00.html", "/../../etc/passwd",
            "/static/drawing.js/", "/static\\..\\..", "/STATIC/drawing.js", "//evil.example/",
            "/api/predict/",
            "/static/....//....//errors.py", "/api/../api/../../etc/passwd", "/static/%ff%fe", "/plan.json",
            "/docs", "/redoc", "/static/static.py", "/static/__init__.py",
        ],
    )  # fmt: skip
    def test_paths_lead_nowhere(self, server, target):
        status, _, content = send(server, target)
        assert status in (400, 404), target
        assert set(content) == {"error"}

    @pytest.mark.parametrize(
        "target", ["http://evil.example/health", "*", "health", "http://127.0.0.1/health"]
    )
    def test_targets_in_other_forms_lead_nowhere(self, server, target):
        assert send(server, target)[0] in (400, 404)

    def test_a_file_is_sent_once(self, server):
        _, headers, _ = send(server, "/static/drawing.js")
        assert headers["content-type"].startswith("text/javascript")
        assert send(server, "/static/drawing.js", If_None_Match=headers["etag"])[0] == 304

    def test_only_the_pages_own_files_are_there(self, server):
        assert {"index.html", "drawing.js", "preprocessing.js"} <= set(FILES)
        assert all("/" not in name and not name.endswith(".py") for name in FILES)
        for name in FILES:
            assert send(server, f"/static/{name}")[0] == 200


class TestToken:
    def test_without_it_nothing_is_sent(self, locked):
        for target in ("/", "/health", "/api/networks", "/static/drawing.js", "/?token=wrong", "/?token="):
            status, headers, content = send(locked, target)
            assert status == 401
            assert headers["www-authenticate"] == "bearer"
            assert TOKEN not in json.dumps(content)

    def test_as_a_bearer(self, locked):
        assert send(locked, Authorization=f"Bearer {TOKEN}")[0] == 200
        for wrong in (f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é"):
            assert send(locked, Authorization=wrong)[0] == 401

    def test_a_link_opens_the_page_for_a_browser(self, locked):
        visit = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        status, headers, _ = send(locked, f"/?token={TOKEN}", **visit)
        assert status == 200
        cookie, *rest = headers["set-cookie"].split("; ")
        assert {"httponly", "samesite=strict", "path=/"} <= set(rest)
        assert TOKEN not in cookie
        assert send(locked, Cookie=cookie)[0] == 200
        assert send(locked, Cookie=f"other=1; {cookie}")[0] == 200
        assert send(locked, Cookie=cookie[:-1] + "x")[0] == 401
        assert send(locked, Cookie="\xe9=;;=")[0] == 401

    def test_only_the_page_itself_is_opened_so(self, locked):
        assert send(locked, f"/health?token={TOKEN}")[0] == 401
        assert send(locked, f"/?token={TOKEN}&token={TOKEN}")[0] == 401

    def test_a_foreign_page_is_refused_before_it(self, locked):
        assert send(locked, Host="evil.example", Authorization=f"Bearer {TOKEN}")[0] == 403

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


class TestDescription:
    def test_it_lists_every_route_with_examples_that_work(self, server):
        content = server.client.get("/openapi.json").json()
        assert set(content["paths"]) == {
            "/health", "/api/networks", "/api/predict", "/api/denoise", "/api/generate", "/api/study",
            "/api/study/events",
        }  # fmt: skip
        for path in ("/api/predict", "/api/denoise", "/api/generate"):
            examples = content["paths"][path]["post"]["requestBody"]["content"]["application/json"][
                "examples"
            ]
            for example in examples.values():
                assert server.client.post(path, json=example["value"]).status_code == 200

    def test_responses_match_their_schemas(self, server):
        jsonschema = pytest.importorskip("jsonschema")
        content = server.client.get("/openapi.json").json()
        image = live_server.encoded_examples()[0]
        bodies = {"predict": {"images": [image]}, "denoise": {"images": [image]}, "generate": {"count": 2}}
        for name, body in bodies.items():
            schema = content["paths"][f"/api/{name}"]["post"]["responses"]["200"]["content"][
                "application/json"
            ]["schema"]
            jsonschema.validate(server.post(name, **body), {**schema, "components": content["components"]})
