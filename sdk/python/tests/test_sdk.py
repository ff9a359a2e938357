"""What needs no host: input, tensors, handlers and what the build finds out."""

import doctest
import json
import tempfile
import unittest
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import gw_sdk
import gw_sdk.tensor
from gw_sdk import HttpError, Request, Response, Tensor, build, registry


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """The examples in the documentation are tests too."""
    for module in (gw_sdk, gw_sdk.tensor):
        tests.addTests(doctest.DocTestSuite(module))
    return tests


@dataclass
class Inner:
    size: int


@dataclass
class Input:
    name: str
    inner: list[Inner] = field(default_factory=list)
    scale: float | None = None
    mode: Literal["a", "b"] = "a"


class InputTest(unittest.TestCase):
    def test_what_fits_is_converted(self) -> None:
        body = b'{"name": "x", "inner": [{"size": 1}], "scale": 2, "mode": "b", "more": 1}'
        given = Request(body=body).json(Input)
        self.assertEqual(given, Input("x", [Inner(1)], 2.0, "b"))

    def test_what_does_not_fit_is_named_by_its_path(self) -> None:
        cases = [
            (b"{", 400, "invalid_json", "body"),
            (b"[]", 422, "invalid_type", "body"),
            (b"{}", 422, "missing_field", "name"),
            (b'{"name": 1}', 422, "invalid_type", "name"),
            (b'{"name": "x", "inner": [{"size": true}]}', 422, "invalid_type", "inner[0].size"),
            (b'{"name": "x", "inner": [{}]}', 422, "missing_field", "inner[0].size"),
            (b'{"name": "x", "scale": "y"}', 422, "invalid_type", "scale"),
            (b'{"name": "x", "mode": "c"}', 422, "invalid_value", "mode"),
        ]
        for body, status, code, place in cases:
            self.refused(body, Input, status, code, place)

    def refused(self, body: bytes, of: type, status: int, code: str, place: str) -> None:
        with self.assertRaises(HttpError, msg=body[:80]) as caught:
            Request(body=body).json(of)
        error = caught.exception
        told = (error.status, error.code, error.field)
        self.assertEqual(told, (status, code, place), body[:80])

    def test_json_that_nobody_can_work_with_is_refused(self) -> None:
        cases = [
            b'{"name": "\\ud800"}',
            b'{"\\uDFFF": 1}',
            b'"\xed\xa0\x80"',
            b"[" * 100_000,
            b'{"a":' * 129 + b"1" + b"}" * 129,
            b"9" * 5000,
            b"NaN",
            b'{"name": "x", "scale": -Infinity}',
        ]
        for body in cases:
            self.refused(body, object, 400, "invalid_json", "body")

    def test_brackets_count_where_they_nest(self) -> None:
        deepest = b"[" * 128 + b"]" * 128
        flat = b"[" + b",".join([b"[]"] * 1000) + b"]"
        text = json.dumps("[" * 1000 + '\\"' + "{" * 1000 + "\\").encode()
        for body in (deepest, flat, text, b"[" + text + b"," + text + b"]"):
            self.assertEqual(Request(body=body).json(), json.loads(body))
        pair = Request(body=b'"\\ud83d\\ude00 \\\\ud800"').json()
        self.assertEqual(pair, "\U0001f600 \\ud800")

    def test_a_number_that_is_too_large_is_named_by_its_path(self) -> None:
        for number in (b"9" * 401, b"1e999", b"-1e999"):
            body = b'{"name": "x", "scale": ' + number + b"}"
            self.refused(body, Input, 422, "invalid_type", "scale")
        self.refused(b'{"a": [1.5, 1e999]}', object, 422, "invalid_type", "body.a[1]")
        self.refused(b'[{"a": 1e999}]', list, 422, "invalid_type", "body[0].a")
        self.assertEqual(Request(body=b"9" * 401).json(int), int("9" * 401))


class TensorTest(unittest.TestCase):
    def test_types_are_those_of_the_values(self) -> None:
        self.assertEqual(Tensor([2], array("f", [1, 2])).type, "fp32")
        self.assertEqual(Tensor([2], array("q", [1, 2])).type, "i64")
        self.assertEqual(Tensor([2], b"ab").type, "u8")
        self.assertEqual(Tensor([], [7], "i64").tolist(), 7)

    def test_nested_lists_have_a_shape(self) -> None:
        tensor = Tensor.of([[1, 2, 3], [4, 5, 6]], "i32")
        self.assertEqual((tensor.dims, tensor.tolist()), ([2, 3], [[1, 2, 3], [4, 5, 6]]))
        self.assertEqual([row.tolist() for row in tensor.rows()], tensor.tolist())
        again = Tensor.from_bytes([3, 2], "i32", tensor.to_bytes())
        self.assertEqual(again.expect_dims([None, 2]).tolist(), [[1, 2], [3, 4], [5, 6]])

    def test_mistakes_name_the_fix(self) -> None:
        cases = [
            (lambda: Tensor([2, 2], [1], "fp32"), r"\[2, 2\] has 4 elements, and 1 are given"),
            (lambda: Tensor([1], [1]), r'needs its type: Tensor\(dims, values, "fp32"\)'),
            (lambda: Tensor([1], array("f", [1]), "i64"), r"of type 'f', not i64: write array\('q'"),
            (lambda: Tensor([1], ["a"], "fp32"), "the values are not all fp32"),
            (lambda: Tensor([1], [1], "int"), "'int' is no type of elements"),
            (lambda: Tensor([0.5], [1], "u8"), "0.5 of a dimension is no whole number"),
            (lambda: Tensor.of([[1], [1, 2]], "u8"), "different lengths"),
            (lambda: Tensor([2], [1, 2], "u8").expect_dims([3, None]), r"\[2\], not \[3, any\]"),
        ]
        for make, words in cases:
            with self.assertRaisesRegex((TypeError, ValueError), words):
                make()


class HandlerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.addCleanup(self.forget)
        self.forget()
        self.said: list[tuple[str, str]] = []

    def forget(self) -> None:
        registry._handler = registry._place = registry._init = None

    def answer(self, request: Request) -> Response:
        return registry.handle(request, lambda place, text: self.said.append((place, text)))

    def test_parameters_are_told_by_their_types(self) -> None:
        @gw_sdk.handler
        def both(request: Request, given: Input) -> object:
            return {"path": request.path, "given": given}

        answer = self.answer(Request(path_with_query="/a?b=c", body=b'{"name": "x"}'))
        expected = {"name": "x", "inner": [], "scale": None, "mode": "a"}
        self.assertEqual(json.loads(answer.body), {"path": "/a", "given": expected})
        self.assertEqual(answer.header("Content-Type"), "application/json")
        # It stays a function.
        self.assertEqual(both(Request(), Input("y"))["given"].name, "y")

    def test_an_exception_is_a_500_whose_place_is_logged(self) -> None:
        @gw_sdk.handler
        def broken(request: Request) -> object:
            try:
                return {}["a"]
            except KeyError as error:
                raise ValueError("no a") from error

        answer = self.answer(Request())
        self.assertEqual((answer.status, answer.parsed()["error"]["code"]), (500, "plugin_failed"))
        self.assertNotIn("no a", answer.text())
        ((place, text),) = self.said
        line = broken.__code__.co_firstlineno + 5
        self.assertTrue(place.endswith(f"test_sdk.py:{line}"), place)
        self.assertTrue(text.startswith(f"{place}: ValueError: no a"), text)
        self.assertIn("caused by:", text)
        self.assertIn(f"test_sdk.py:{line - 2}: KeyError: 'a'", text)

    def test_an_http_error_is_answered_and_only_logged_where_it_is_ours(self) -> None:
        status = 422

        @gw_sdk.handler
        def refuses(request: Request) -> object:
            raise HttpError(status, "no", "not that", field="x")

        answer = self.answer(Request())
        error = {"code": "no", "message": "not that", "field": "x"}
        self.assertEqual((answer.status, answer.parsed()), (422, {"error": error}))
        self.assertEqual(self.said, [])
        status = 503
        self.assertEqual(self.answer(Request()).status, 503)
        self.assertEqual(len(self.said), 1)

    def test_a_second_or_strange_handler_is_refused(self) -> None:
        with self.assertRaisesRegex(TypeError, "write def, not async def"):

            @gw_sdk.handler
            async def waits(request: Request) -> None: ...

        with self.assertRaisesRegex(TypeError, "give the parameter body a type"):

            @gw_sdk.handler
            def untyped(body): ...

        gw_sdk.handler(lambda request: None)
        with self.assertRaisesRegex(TypeError, "is one already"):
            gw_sdk.handler(lambda request: None)
        self.assertIn("returned nothing", self.answer(Request()) and self.said[0][1])

    def test_what_has_no_bytes_is_the_plugins_failure(self) -> None:
        answers: list[object] = [
            "\ud800",
            float("nan"),
            Response(body="\ud800"),
            Response(headers={"x": "\ud800"}),
        ]
        gw_sdk.handler(lambda request: answers[0])
        while answers:
            answer = self.answer(Request())
            self.assertEqual(answer.parsed()["error"]["code"], "plugin_failed", repr(answers[0]))
            self.assertIsInstance(answer.body, bytes)
            answers.pop(0)
        self.assertEqual(len(self.said), 4)

    def test_what_is_logged_is_characters(self) -> None:
        def fails(request: Request) -> object:
            raise ValueError("\ud800")

        gw_sdk.handler(fails)
        self.assertEqual(self.answer(Request()).status, 500)
        self.assertIn("ValueError: \\ud800", self.said[0][1].encode().decode())

    def test_init_runs_once(self) -> None:
        runs = []
        gw_sdk.init(lambda: runs.append(1))
        gw_sdk.handler(lambda request: len(runs))
        registry.prepare()
        self.assertEqual([self.answer(Request()).body for _ in range(2)], [b"1", b"1"])


class BuildTest(unittest.TestCase):
    def used(self, text: str) -> set[str]:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "app.py").write_text(text)
            return build.modules_used(build.parsed(Path(folder)))

    def test_only_what_is_named_is_imported_of_the_host(self) -> None:
        self.assertEqual(self.used("from gw_sdk import handler, HttpError"), set())
        self.assertEqual(self.used("from gw_sdk import Graph, config"), {"nn", "config"})
        self.assertEqual(self.used("from gw_sdk.outbound import fetch"), {"outbound"})
        self.assertEqual(self.used("import gw_sdk"), set(build.INTERFACES))

    def test_a_syntax_error_is_named_with_its_line(self) -> None:
        with self.assertRaisesRegex(build.BuildError, r"app.py:2:\d+: .*: def \("):
            self.used("x = 1\ndef (:\n")

    def test_a_folder_without_its_files_is_told_which(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(build.BuildError, "has no pyproject.toml"):
                build.entry_of(Path(folder))
            Path(folder, "pyproject.toml").write_text('[tool.gw]\nentry = "main"\n')
            with self.assertRaisesRegex(build.BuildError, "has no main.py"):
                build.entry_of(Path(folder))


if __name__ == "__main__":
    unittest.main()
