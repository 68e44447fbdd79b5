"""The live page: what it shows to whom, that all is escaped, and, in headless Chromium, that a person can use it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from support.browser import PROGRAM, Browser, Page, browser
from support.http_calls import HttpServer, http_engine, infer_json
from support.recorded import EXAMPLE, deploy

NewHttp = Callable[..., HttpServer]
#: What the model itself refuses: it multiplies both.
WRONG_SIZES = infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 3], [1, 2, 3]))
EVIL = """"><script>alert('x')</script>'&{{7*7}}"""


def predict(http: HttpServer, name: str, times: int = 1) -> None:
    for _ in range(times):
        reply = http.ask("POST", f"/invocations/{quote(name, safe='')}", EXAMPLE)
        assert reply.status == 200, reply.body


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_engine(tmp_path_factory.mktemp("pages")) as server:
        deploy(server, "wine")
        deploy(server, "über/a b", model_uri=EVIL, notes=json.dumps([EVIL]), flavor=EVIL, example=EVIL, version=EVIL)
        predict(server, "wine", 20)
        yield server


class TestHtml:
    """Without a browser."""

    def test_the_overview_has_every_deployment(self, http: HttpServer) -> None:
        text = http.ask("GET", "/").body.decode()

        for shown in ("wine", "models:/wine@champion · version 3", "passed", "ONNX CPU", "über/a b"):
            assert shown in text, shown
        assert 'href="/live/deployments/%C3%BCber%2Fa%20b"' in text

    def test_only_database_0_is_served_and_the_page_says_so(self, new_http: NewHttp) -> None:
        from support.tiny_models import product_and_sum

        server = new_http()
        blob = product_and_sum("ONNX").blob
        server.engine.client(db=1).execute_command("AI.MODELSTORE", "elsewhere", "ONNX", "CPU", "BLOB", blob)
        assert "There is no deployment in database 0 that you may read" in server.ask("GET", "/").body.decode()

        deploy(server, "wine")
        text = server.ask("GET", "/").body.decode()

        assert "Deployments in database 0 of Redis" in text
        assert "elsewhere" not in text
        assert server.ask("GET", "/v2/models/elsewhere").status == 404

    def test_a_deployment_has_its_record_and_its_example(self, http: HttpServer) -> None:
        text = http.ask("GET", "/live/deployments/wine").body.decode()

        for shown in ("run-of-it", "2026-11-26T12:00:00+00:00", "ann", "a note", "revision", "v1", "models:/wine"):
            assert shown in text, shown
        assert json.dumps(EXAMPLE).replace('"', "&#34;") in text

    def test_a_signature_is_a_table(self, http: HttpServer) -> None:
        columns = [{"name": "alcohol", "type": "double", "required": False}]
        tensors = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]
        deploy(http, "signed", signature=json.dumps({"inputs": json.dumps(columns), "outputs": json.dumps(tensors)}))

        text = http.ask("GET", "/live/deployments/signed").body.decode()

        for caption, cells in (("Inputs", ("alcohol", "double", "no")), ("Outputs", ("", "float32 [-1, 3]", "yes"))):
            (table,) = re.findall(f"<caption>{caption}</caption>(.*?)</table>", text, re.DOTALL)
            assert tuple(re.findall("<td>(.*?)</td>", table)) == cells

    def test_all_values_are_escaped(self, http: HttpServer) -> None:
        for path in ("/", "/live/deployments/%C3%BCber%2Fa%20b"):
            text = http.ask("GET", path).body.decode()

            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#39;&amp;{{7*7}}" in text
            assert re.findall(r"<script[^>]*>", text) == ['<script src="/live/static/live.js" defer>']

    def test_a_policy_allows_nothing_but_this_server(self, http: HttpServer) -> None:
        headers = http.ask("GET", "/").headers

        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"

    def test_a_missing_deployment_is_not_found(self, http: HttpServer) -> None:
        for path in ("/live/deployments/missing", "/live/events/missing", "/live/static/pages.py"):
            assert http.ask("GET", path).status == 404, path

    def test_a_broken_record_hides_nothing_else(self, http: HttpServer) -> None:
        broken = dict.fromkeys(("verification", "notes", "options", "signature", "mapping"), "[" * 10_000)
        deploy(http, "broken", **broken)

        assert http.ask("GET", "/live/deployments/broken").status == 200
        assert "broken" in http.ask("GET", "/").body.decode()


def test_nothing_is_shown_without_the_rights_of_the_user_who_asks(new_http: NewHttp) -> None:
    """Ann may read what begins with `a`, and the default user nothing at all."""
    http = new_http()
    for name in ("a:one", "b:two"):
        deploy(http, name)
    client = http.engine.client()
    client.execute_command("ACL", "SETUSER", "ann", "on", ">pw", "%R~a:*", "%R~mlflow-redisai:{a:*", "+@all")
    ann = http.as_user("ann:pw")
    client.execute_command("ACL", "SETUSER", "default", "on", ">secret", "resetkeys", "+@all")

    assert http.ask("GET", "/").status == 401
    text = ann.ask("GET", "/").body.decode()
    assert "a:one" in text
    assert "b:two" not in text
    assert ann.ask("GET", "/live/deployments/a:one").status == 200
    for path in ("/live/deployments/b:two", "/live/events/b:two"):
        reply = ann.ask("GET", path)
        assert reply.status == 404, path
        assert b"ONNX" not in reply.body
    assert ann.ask("POST", "/invocations/b:two", EXAMPLE).status == 403


def test_open_pages_hold_up_no_end(new_http: NewHttp) -> None:
    """A stream of events ends when the engine does."""
    http = new_http()
    deploy(http, "m")
    connection = http.connection()
    connection.request("GET", "/live/events/m")
    assert connection.getresponse().readline().startswith(b"data: {")

    assert http.engine.stop(timeout_s=10) == 0
    connection.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def page(chromium: Browser) -> Page:
    return chromium.page()


needs_browser = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium, on the PATH or downloaded by Playwright")


@needs_browser
class TestInABrowser:
    """Chromium, headless."""

    @pytest.mark.parametrize("width", [390, 1440])
    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("path", ["/", "/live/deployments/wine"])
    def test_every_page_fits_and_complains_of_nothing(
        self,
        page: Page,
        http: HttpServer,
        path: str,
        width: int,
        dark: bool,  # noqa: FBT001  # a parameter of the test
    ) -> None:
        page.look(width, dark=dark)
        page.open(f"http://127.0.0.1:{http.port}{path}")
        page.wait_for("document.getElementById('state').textContent === 'live'")
        if path != "/":
            predict(http, "wine", 3)
            page.wait_for("document.querySelectorAll('figure svg').length === 4")

        assert page.value("document.documentElement.scrollWidth") <= width
        back = page.value("getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(16, 20, 26)" if dark else "rgb(255, 255, 255)")
        assert page.complaints == []
        assert {url.split("/")[2] for url in page.asked} == {f"127.0.0.1:{http.port}"}

    def test_the_form_is_used_by_keyboard_alone(self, page: Page, http: HttpServer) -> None:
        page.look(1440, dark=False)
        page.open(f"http://127.0.0.1:{http.port}/")
        page.tab_to('a[href="/live/deployments/wine"]')
        page.press("Enter")
        page.wait_for("location.pathname === '/live/deployments/wine' && document.readyState === 'complete'")
        page.tab_to("#input")
        assert json.loads(page.value("document.activeElement.value")) == EXAMPLE
        page.tab_to("#try button")
        page.press("Enter")
        page.wait_for("document.getElementById('took').textContent.startsWith('200 after')")

        answer = json.loads(page.value("document.getElementById('answer').textContent"))
        assert answer["predictions"]["product"] == [[5.25, 11.25]]
        assert page.value("document.activeElement.id") == "answer"
        assert page.complaints == []

    def test_what_the_model_refuses_is_shown_as_such(self, page: Page, http: HttpServer) -> None:
        page.open(f"http://127.0.0.1:{http.port}/live/deployments/wine")
        page.tab_to("#input")
        page.press("a", control=True)
        page.type('{"inputs": {"a": [[1.5, 2.5]]}}')
        page.tab_to("#try button")
        page.press(" ")
        page.wait_for("document.getElementById('took').textContent.startsWith('400 after')")

        assert page.value("document.getElementById('answer').className") == "failed"

    def test_charts_show_requests_and_where_a_version_came(self, page: Page, http: HttpServer) -> None:
        deploy(http, "moving")
        predict(http, "moving", 5)
        page.open(f"http://127.0.0.1:{http.port}/live/deployments/moving")
        page.wait_for("document.querySelector('[data-value=requests]').textContent === '5'")
        deploy(http, "moving")
        predict(http, "moving", 2)
        page.wait_for("document.querySelector('[data-value=requests]').textContent === '7'")

        page.wait_for("document.querySelectorAll('[data-chart=requests] .mark').length === 2")
        assert page.value("document.querySelectorAll('[data-chart=latency] .line0, .dot0').length") > 0
        page.tab_to('[data-range="3600"]')
        page.press("Enter")
        assert page.value("document.querySelector('[data-range=\"3600\"]').getAttribute('aria-pressed')") == "true"

    def test_the_overview_tells_what_each_deployment_is_doing(self, page: Page, http: HttpServer) -> None:
        deploy(http, "busy")
        page.open(f"http://127.0.0.1:{http.port}/")
        page.wait_for("document.getElementById('state').textContent === 'live'")
        predict(http, "busy", 30)
        assert http.ask("POST", "/v2/models/busy/infer", WRONG_SIZES).status == 400

        for value in ("rate", "p50", "p99", "batch_rows", "model_bytes"):
            page.wait_for(f"Number(document.querySelector('[data-name=busy] [data-value={value}]').textContent) > 0")
        page.wait_for("document.querySelector('[data-name=busy] [data-value=errors]').textContent === '1'")

    def test_the_last_errors_are_listed_with_their_text(self, page: Page, http: HttpServer) -> None:
        deploy(http, "failing")
        page.open(f"http://127.0.0.1:{http.port}/live/deployments/failing")
        page.wait_for("document.getElementById('last-errors').innerText === 'none'")
        told = http.ask("POST", "/v2/models/failing/infer", WRONG_SIZES).json()["error"]

        page.wait_for("document.getElementById('last-errors').innerText !== 'none'")
        shown = page.value("document.getElementById('last-errors').innerText").split("\t")
        assert shown[1] == "run"
        assert told.partition("\n")[0][:100] in shown[2]

    def test_markup_in_a_name_or_a_record_is_text(self, page: Page, http: HttpServer) -> None:
        page.open(f"http://127.0.0.1:{http.port}/live/deployments/{quote('über/a b', safe='')}")

        page.wait_for("document.getElementById('state').textContent === 'live'")
        assert EVIL in page.value("document.body.innerText")
        assert page.value("document.scripts.length") == 1
        assert page.complaints == []

    def test_a_browser_is_let_in_with_redis_credentials(self, chromium: Browser, new_http: NewHttp) -> None:
        http = new_http()
        deploy(http, "m")
        http.engine.client().execute_command("ACL", "SETUSER", "default", "on", ">pw", "resetpass", ">pw")
        page = chromium.page(credentials="default:pw")
        page.open(f"http://127.0.0.1:{http.port}/live/deployments/m")

        page.wait_for("document.getElementById('state').textContent === 'live'")
        page.tab_to("#try button")
        page.press("Enter")
        page.wait_for("document.getElementById('took').textContent.startsWith('200 after')")
