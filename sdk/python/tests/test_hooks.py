"""Hooks: what they take and give, what is said of mistakes, and what the build makes of them."""

import json
import tempfile
import unittest
from dataclasses import dataclass
from pathlib import Path

import gw_sdk
from gw_sdk import Answer, HttpError, Infer, Pass, Request, Response, Tensor, Watch
from gw_sdk import build, hooks, registry
from gw_sdk.outputs import ModelError, Outputs


@dataclass
class State:
    path: str
    sizes: list[int]


NUMBERS = Tensor([2], [1, 2], "fp32")


class HooksTest(unittest.TestCase):
    def setUp(self) -> None:
        self.addCleanup(self.forget)
        self.forget()
        self.said: list[tuple[str, str]] = []

    def forget(self) -> None:
        hooks._pre = hooks._post = registry._init = None
        hooks._places.clear()

    def report(self, place: str, text: str) -> None:
        self.said.append((place, text))

    def before(self, request: Request) -> hooks.Outcome:
        return hooks.before(request, self.report)

    def after(self, state: bytes, answer: Outputs | Response) -> Response:
        return hooks.after(state, Answer(answer), self.report)

    def test_a_state_goes_from_one_to_the_other(self) -> None:
        @gw_sdk.pre
        def look(request: Request) -> Infer:
            return Infer("double", {"x": NUMBERS}, State(request.path, [len(request.body)]))

        @gw_sdk.post
        def double(state: State, answer: Answer) -> object:
            return {"path": state.path, "sizes": state.sizes, "y": answer.outputs().read("y").data}

        asked = self.before(Request(path_with_query="/a?b", body=b"abc"))
        assert isinstance(asked, Infer)
        self.assertEqual((asked.model, asked.inputs["x"].tolist()), ("double", [1.0, 2.0]))
        self.assertEqual(asked.state, b'{"path":"/a","sizes":[3]}')
        answer = self.after(asked.state, Outputs(None, {"y": Tensor([2], [2, 4], "fp32")}))
        self.assertEqual(answer.parsed(), {"path": "/a", "sizes": [3], "y": [2.0, 4.0]})
        # They stay functions.
        self.assertEqual(look(Request()).state, State("/", [0]))

    def test_a_state_without_a_type_is_its_json(self) -> None:
        gw_sdk.pre(lambda request: Watch({"a": [1, None]}))
        gw_sdk.post(lambda state, answer: [state, answer.response().status])
        watched = self.before(Request())
        assert isinstance(watched, Watch)
        self.assertEqual(self.after(watched.state, Response(204)).parsed(), [{"a": [1, None]}, 204])

    def test_a_request_goes_on_as_it_is_or_changed(self) -> None:
        outcome: object = Pass()
        gw_sdk.pre(lambda request: outcome)
        gw_sdk.post(lambda state, answer: state)
        self.assertEqual(self.before(Request()), Pass())
        outcome = Watch(1, Request("PUT", "/b", [("X-A", "b")], "text"))
        changed = Request("PUT", "/b", [("x-a", b"b")], b"text")
        self.assertEqual(self.before(Request()), Watch(b"1", changed))
        outcome = {"answered": True}
        answer = self.before(Request())
        assert isinstance(answer, Response)
        self.assertEqual((answer.status, answer.body), (200, b'{"answered":true}'))

    def test_a_response_comes_back_with_all_its_headers(self) -> None:
        gw_sdk.pre(lambda request: Watch(None))
        gw_sdk.post(lambda state, answer: answer.response().with_header("X-Seen", "yes"))
        cookies = [("set-cookie", b"a=1"), ("x-seen", b"no"), ("set-cookie", b"b=\xff")]
        answer = self.after(b"null", Response(201, b"body", cookies))
        self.assertEqual((answer.status, answer.body), (201, b"body"))
        self.assertEqual(answer.headers, [cookies[0], cookies[2], ("x-seen", b"yes")])

    def test_an_http_error_is_answered_as_that_of_a_handler(self) -> None:
        def refuses(*_: object) -> object:
            raise HttpError(415, "no", "not that", field="body")

        gw_sdk.pre(lambda request: refuses())
        gw_sdk.post(lambda state, answer: refuses())
        expected = {"error": {"code": "no", "message": "not that", "field": "body"}}
        for answer in (self.before(Request()), self.after(b"1", Response())):
            assert isinstance(answer, Response)
            self.assertEqual((answer.status, answer.parsed()), (415, expected))
        self.assertEqual(self.said, [])

    def test_another_exception_is_a_500_whose_place_is_logged(self) -> None:
        def fails(*_: object) -> object:
            raise ValueError("no")

        line = fails.__code__.co_firstlineno + 1
        gw_sdk.pre(lambda request: fails())
        gw_sdk.post(lambda state, answer: fails())
        for answer in (self.before(Request()), self.after(b"1", Response())):
            assert isinstance(answer, Response)
            self.assertEqual(answer.parsed()["error"]["code"], "plugin_failed")
            place, text = self.said.pop()
            self.assertTrue(place.endswith(f"test_hooks.py:{line}"), place)
            self.assertTrue(text.startswith(f"{place}: ValueError: no"), text)

    def test_mistakes_name_the_fix(self) -> None:
        outcome: object = None
        gw_sdk.pre(lambda request: outcome)

        @gw_sdk.post
        def typed(state: State, answer: Answer) -> object:
            return answer.outputs().read("y").tolist()

        self.before(Request())
        self.assertIn("returned nothing: return Infer, Pass, Watch", self.said.pop()[1])
        for state in ({1, 2}, float("nan"), "\ud800"):
            outcome = Watch(state)
            self.before(Request())
            self.assertRegex(self.said.pop()[1], r"the state that the @pre at test_hooks.py:\d+ ")
        self.after(b"[]", Response())
        self.assertIn("does not fit the state of @pre: state is a list", self.said.pop()[1])
        state = json.dumps({"path": "", "sizes": []}).encode()
        self.assertEqual(self.code(self.after(state, Response())), "unexpected_answer")
        self.assertEqual(self.code(self.after(state, Outputs(None, {}))), "inference_refused")
        with self.assertRaisesRegex(TypeError, "'x' of model 'm' is a list, no Tensor: write"):
            Infer("m", {"x": [1]})
        with self.assertRaisesRegex(ModelError, "the model: it has no output 'z', only y"):
            Outputs(None, {"y": NUMBERS}).read("z")

    def code(self, answer: Response) -> object:
        return answer.parsed()["error"]["code"]

    def test_a_second_or_strange_hook_is_refused(self) -> None:
        with self.assertRaisesRegex(TypeError, "app.py has no @pre: write @pre above"):
            hooks.required("app.py")
        gw_sdk.pre(lambda request: None)
        with self.assertRaisesRegex(TypeError, r"has no @post beside the @pre at .*: write @post"):
            hooks.required("app.py")
        with self.assertRaisesRegex(TypeError, "is one already"):
            gw_sdk.pre(lambda request: None)
        with self.assertRaisesRegex(TypeError, "takes a state and an Answer: write def"):
            gw_sdk.post(lambda one, two: None)
        with self.assertRaisesRegex(TypeError, "write def, not async def"):

            @gw_sdk.post
            async def waits(state: object, answer: Answer) -> None: ...


class BuildTest(unittest.TestCase):
    def form(self, **files: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                Path(folder, f"{name}.py").write_text(text)
            return build.form_of(build.parsed(Path(folder)), "app.py")

    def test_the_form_is_that_of_the_decorators(self) -> None:
        both = "@pre\ndef a(request): ...\n@post\ndef b(state, answer): ...\n"
        self.assertEqual(self.form(app="from gw_sdk import pre, post\n" + both), "hooks")
        self.assertEqual(self.form(app="from gw_sdk import *\n" + both), "hooks")
        named = both.replace("@", "@gw_sdk.")
        self.assertEqual(self.form(app="import gw_sdk\n" + named), "hooks")
        other = "from gw_sdk import post as answers\n@answers\ndef b(state, answer): ..."
        apart = "import other\nfrom gw_sdk import handler, pre\n@pre\ndef a(request): ..."
        self.assertEqual(self.form(app=apart, other=other), "hooks")
        handler = "from gw_sdk import handler\n@handler\ndef a(request): ...\n"
        self.assertEqual(self.form(app=handler), "handler")
        # Names of somebody else.
        self.assertEqual(self.form(app=handler + "from requests import post\npost()"), "handler")
        self.assertEqual(self.form(app="x = 1"), "handler")

    def test_one_of_the_hooks_or_a_handler_beside_them_is_refused(self) -> None:
        one = "from gw_sdk import handler, pre, post\n@{}\ndef a(request): ...\n"
        cases = [
            ("pre", r"app.py:2 has @pre, and no file has @post: .* write @post above .* in app.py"),
            ("post", r"app.py:2 has @post, and no file has @pre: .* write @pre above .* in app.py"),
        ]
        for name, words in cases:
            with self.assertRaisesRegex(build.BuildError, words):
                self.form(app=one.format(name))
        words = r"app.py:2 has @post, and other.py:2 has @handler: .* a \[\[plugin\]\] of its own"
        with self.assertRaisesRegex(build.BuildError, words):
            self.form(app=one.format("post"), other=one.format("handler"))

    def test_the_world_is_that_of_the_form(self) -> None:
        for form, line in (
            ("handler", "export wasi:http/incoming-handler@0.2.12;"),
            ("hooks", "include gw:plugin/hooks@0.1.0;"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                world = build.write_world(Path(folder, "wit"), form, {"config"})
                text = (world / "world.wit").read_text()
                self.assertTrue((world / "deps/hooks.wit").is_file())
            self.assertIn(f"world {form} {{", text)
            self.assertIn(line, text)
            self.assertIn("import wasi:config/store@0.2.0-rc.1;", text)
            compile(build.entry_module("app", form), "gw_entry.py", "exec")


if __name__ == "__main__":
    unittest.main()
