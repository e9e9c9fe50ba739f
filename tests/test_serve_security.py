"""Who may ask, and what stands in every answer. Over real sockets, since clients tidy up what they send."""

import json

import live_server
import pytest

from inklab.errors import ConfigError
from inklab.serve.address import AllowedHosts, AuthToken, check_address, is_loopback, token_of
from inklab.serve.app import page_files

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def server():
    return live_server.shared()


@pytest.fixture(scope="module")
def locked():
    import toy_run

    with live_server.serving(toy_run.finished(), token=TOKEN) as server:
        yield server


def asked(server, target="/health", method="GET", body=b"", **headers):
    """Status, headers and JSON of the answer to a request written by hand; None leaves a header out."""
    given = {"Host": f"127.0.0.1:{server.port}", "Connection": "close"}
    given |= (
        {"Content-Length": str(len(body)), "Content-Type": "application/json"} if method == "POST" else {}
    )
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items() if v is not None), "", ""]
    head, _, content = server.raw("\r\n".join(lines).encode("latin-1") + body).partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    told = dict(line.lower().split(": ", 1) for line in rest)
    is_json = told.get("content-type", "").startswith("application/json")
    return int(first.split()[1]), told, json.loads(content) if is_json and content else {}


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "LocalHost:{}", "[::1]:{}"])
    def test_its_own_names_are_answered(self, server, host):
        assert asked(server, Host=host.format(server.port))[0] == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example", "evil.example:{}", "localhost", "localhost:1", "127.0.0.1.evil.example:{}", "",
            "localhost.evil.example:{}", "localhost:{}@evil.example", "127.1:{}", "0.0.0.0:{}", "[::]:{}",
            "localhost:{}:{}", "localhost:{} ,x", "\xe9:{}",
        ],
    )  # fmt: skip
    def test_others_are_refused(self, server, host):
        status, _, told = asked(server, Host=host.replace("{}", str(server.port)))
        assert status in (400, 403)
        if status == 403:
            assert "--allow-host" in told["error"]

    def test_none_or_two_are_refused(self, server):
        assert asked(server, Host=None)[0] == 400
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
            assert asked(server, target, Host="evil.example")[0] == 403
        for target in ("/api/predict", "/api/denoise", "/api/generate"):
            assert asked(server, target, "POST", b"{}", Host="evil.example")[0] == 403

    def test_names_that_are_allowed(self):
        names = AllowedHosts.of("0.0.0.0", 8470, ["lab.example", "::5"])
        assert names.allow("lab.example") and names.allow("Lab.Example:443") and names.allow("[::5]:8470")
        assert (
            not names.allow("0.0.0.0:8470")
            and not names.allow("lab.example:x")
            and not names.allow("example")
        )
        assert AllowedHosts.of("192.168.0.7", 80).allow("192.168.0.7")
        with pytest.raises(ConfigError, match="no name of a machine"):
            AllowedHosts.of("127.0.0.1", 8470, ["http://lab.example/"])


class TestOrigin:
    def test_its_own_page_may_ask(self, server):
        assert asked(server, Origin=f"http://127.0.0.1:{server.port}")[0] == 200

    @pytest.mark.parametrize(
        "origin",
        ["null", "http://evil.example", "http://localhost:1", "https://localhost", "file://", "http://127.0.0.1:{}.evil.example"],
    )  # fmt: skip
    def test_other_pages_may_not(self, server, origin):
        status, headers, told = asked(
            server, "/api/predict", "POST", b"{}", Origin=origin.format(server.port)
        )
        assert status == 403
        assert "its own page" in told["error"]
        assert "access-control-allow-origin" not in headers

    def test_it_must_be_the_name_that_was_asked(self, server):
        assert asked(server, Origin=f"http://localhost:{server.port}")[0] == 403

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_other_sites_may_follow_a_link_to_the_page_and_nothing_else(self, server, site):
        visit = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert asked(server, "/", **visit)[0] == 200
        assert asked(server, "/", **{**visit, "Sec_Fetch_Dest": "iframe"})[0] == 403
        assert asked(server, "/api/study", **visit)[0] == 403
        assert asked(server, "/api/study", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403
        assert asked(server, "/api/study", Sec_Fetch_Site="same-origin")[0] == 200


class TestHeaders:
    @pytest.mark.parametrize(
        "target", ["/", "/health", "/static/drawing.js", "/nothing", "/api/predict", "/openapi.json"]
    )
    def test_every_answer_has_them(self, server, target):
        _, headers, _ = asked(server, target)
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
        assert asked(server, "/api/study")[1]["cache-control"] == "no-store"

    def test_refusals_have_them_too(self, server):
        for answer in (asked(server, Host="evil.example"), asked(server, "/api/predict", "POST", b"")):
            assert "default-src 'none'" in answer[1]["content-security-policy"]


class TestMethodsAndPaths:
    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
    @pytest.mark.parametrize(
        "target", ["/", "/health", "/api/predict", "/api/networks", "/static/drawing.js"]
    )
    def test_other_methods(self, server, method, target):
        status, headers, _ = asked(server, target, method)
        assert status == 405
        assert headers["allow"] == ("post" if target == "/api/predict" else "get")
        assert not any(name.startswith("access-control") for name in headers)

    def test_methods_that_do_not_fit(self, server):
        assert asked(server, "/api/predict")[0] == 405
        assert asked(server, "/health", "POST", b"{}")[0] == 405

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
        status, _, told = asked(server, target)
        assert status in (400, 404), target
        assert set(told) == {"error"}

    @pytest.mark.parametrize(
        "target", ["http://evil.example/health", "*", "health", "http://127.0.0.1/health"]
    )
    def test_targets_in_other_forms_are_refused(self, server, target):
        assert asked(server, target)[0] == 400

    def test_a_file_is_sent_once(self, server):
        _, headers, _ = asked(server, "/static/drawing.js")
        assert headers["content-type"].startswith("text/javascript")
        assert asked(server, "/static/drawing.js", If_None_Match=headers["etag"])[0] == 304

    def test_only_the_pages_own_files_are_there(self, server):
        assert {"index.html", "drawing.js", "framing.js"} <= set(page_files())
        assert all("/" not in name and not name.endswith(".py") for name in page_files())
        for name in page_files():
            assert asked(server, f"/static/{name}")[0] == 200


class TestToken:
    def test_without_it_nothing_is_told(self, locked):
        for target in ("/", "/health", "/api/networks", "/static/drawing.js", "/?token=wrong", "/?token="):
            status, headers, told = asked(locked, target)
            assert status == 401
            assert headers["www-authenticate"] == "bearer"
            assert TOKEN not in json.dumps(told)

    def test_as_a_bearer(self, locked):
        assert asked(locked, Authorization=f"Bearer {TOKEN}")[0] == 200
        for wrong in (f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é"):
            assert asked(locked, Authorization=wrong)[0] == 401

    def test_a_link_opens_the_page_for_a_browser(self, locked):
        visit = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        status, headers, _ = asked(locked, f"/?token={TOKEN}", **visit)
        assert status == 200
        cookie, *rest = headers["set-cookie"].split("; ")
        assert {"httponly", "samesite=strict", "path=/"} <= set(rest)
        assert TOKEN not in cookie
        assert asked(locked, Cookie=cookie)[0] == 200
        assert asked(locked, Cookie=f"other=1; {cookie}")[0] == 200
        assert asked(locked, Cookie=cookie[:-1] + "x")[0] == 401
        assert asked(locked, Cookie="\xe9=;;=")[0] == 401

    def test_only_the_page_itself_is_opened_so(self, locked):
        assert asked(locked, f"/health?token={TOKEN}")[0] == 401
        assert asked(locked, f"/?token={TOKEN}&token={TOKEN}")[0] == 401

    def test_a_foreign_page_is_refused_before_it(self, locked):
        assert asked(locked, Host="evil.example", Authorization=f"Bearer {TOKEN}")[0] == 403

    def test_tokens_that_are_none(self):
        assert len(token_of("auto")) >= 16 and token_of("auto") != token_of("auto")
        assert token_of(None) is None
        for wrong in ("", "short", "x" * 15, "with a space in it", "x" * 201, "wîth-an-accent-here"):
            with pytest.raises(ConfigError, match="letters, digits"):
                token_of(wrong)

    def test_other_machines_need_one(self):
        for address in ("0.0.0.0", "::", "192.168.0.7", "lab.example"):
            with pytest.raises(ConfigError, match="--token auto"):
                check_address(address, None)
            check_address(address, TOKEN)
        for address in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
            assert is_loopback(address)
            check_address(address, None)

    def test_cookies_of_two_servers_do_not_mix(self):
        assert AuthToken(TOKEN, 1).cookie != AuthToken(TOKEN, 2).cookie


class TestDescription:
    def test_it_tells_every_route_and_works(self, server):
        told = server.client.get("/openapi.json").json()
        assert set(told["paths"]) == {
            "/health", "/api/networks", "/api/predict", "/api/denoise", "/api/generate", "/api/study",
            "/api/study/events",
        }  # fmt: skip
        for path in ("/api/predict", "/api/denoise", "/api/generate"):
            examples = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
            for each in examples.values():
                assert server.client.post(path, json=each["value"]).status_code == 200

    def test_answers_are_as_it_says(self, server):
        jsonschema = pytest.importorskip("jsonschema")
        told = server.client.get("/openapi.json").json()
        image = live_server.text(live_server.examples()[0])
        bodies = {"predict": {"images": [image]}, "denoise": {"images": [image]}, "generate": {"count": 2}}
        for name, body in bodies.items():
            schema = told["paths"][f"/api/{name}"]["post"]["responses"]["200"]["content"]["application/json"][
                "schema"
            ]
            jsonschema.validate(server.ask(name, **body), {**schema, "components": told["components"]})
