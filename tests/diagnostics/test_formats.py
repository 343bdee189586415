"""Each format, letter by letter or against what its readers require."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from jsonschema import Draft4Validator, Draft7Validator
from junitparser import JUnitXml

from cnnspec.diagnostics import Diagnostic, Related, Span, SpecError
from cnnspec.diagnostics.formats import FORMATS, formatted
from cnnspec.diagnostics.formats.text import explained
from cnnspec.graph import build
from cnnspec.spec import load

SCHEMAS = Path(__file__).parent / "schemas"
BAD = Path(__file__).parents[1] / "spec" / "bad"
FILES = ["specs/a.yaml", "specs/b.yaml", "specs/c.yaml"]
ERROR = Diagnostic(
    "unknown-key",
    "error",
    "unknown key of conv2d 'filtres', 100%",
    Span("specs/a.yaml", 3, 22, 3, 29),
    "layers[0].filtres",
    "did you mean filters?",
    ("shapes so far: input",),
    (Related("block 'unit' used here", Span("specs/a.yaml", 9, 5, 9, 9)),),
)
WARNING = Diagnostic("unused-var", "warning", "variable 'a' is never used", Span("specs/b.yaml", 2, 8, 2, 9))


def rendered(name: str) -> str:
    return formatted(name, [ERROR, WARNING], FILES)


def test_concise() -> None:
    assert rendered("concise").splitlines() == [
        "specs/a.yaml:3:22: error[unknown-key]: unknown key of conv2d 'filtres', 100%",
        "specs/b.yaml:2:8: warning[unused-var]: variable 'a' is never used",
        "1 error, 1 warning in 3 files",
    ]


def test_full_shows_the_line_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("a: 1\n\tb: wrong value\n")
    found = Diagnostic("yaml-syntax", "error", "no", Span(str(path), 2, 5, 2, 10), "", "mend it", ("a note",))
    assert explained(found).splitlines() == [
        f"{path}:2:5: error[yaml-syntax]: no",
        "  |",
        "2 | \tb: wrong value",
        "  | \t   ^^^^^",
        "note: a note",
        "help: mend it",
    ]


def test_full_lists_related_places() -> None:
    assert "note: specs/a.yaml:9:5: block 'unit' used here" in rendered("full").splitlines()


def test_json_and_jsonl_say_the_same() -> None:
    whole = json.loads(rendered("json"))
    lines = [json.loads(line) for line in rendered("jsonl").splitlines()]
    assert whole["files"] == FILES
    assert whole["diagnostics"] == lines
    assert (lines[0]["code"], lines[0]["file"], lines[0]["line"], lines[0]["column"]) == (
        "unknown-key",
        "specs/a.yaml",
        3,
        22,
    )


def test_github_escapes_what_its_commands_mean() -> None:
    assert rendered("github").splitlines()[0] == (
        "::error file=specs/a.yaml,line=3,col=22,endLine=3,endColumn=29,title=unknown-key::"
        "unknown key of conv2d 'filtres', 100%25%0Ahelp: did you mean filters?"
    )


def test_gitlab_has_what_a_code_quality_report_requires() -> None:
    issues = json.loads(formatted("gitlab", [ERROR, ERROR, WARNING], FILES))
    assert [issue["severity"] for issue in issues] == ["major", "major", "minor"]
    assert len({issue["fingerprint"] for issue in issues}) == 3
    assert issues[0]["location"] == {"path": "specs/a.yaml", "lines": {"begin": 3}}
    assert issues[0]["check_name"] == "unknown-key"


def test_junit_has_a_case_for_each_file() -> None:
    suite = fromstring(rendered("junit"))[0]
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert cases == {"specs/a.yaml": ["failure"], "specs/b.yaml": ["system-out"], "specs/c.yaml": []}


def test_sarif_has_rules_results_and_places() -> None:
    run = json.loads(rendered("sarif"))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["unknown-key", "unused-var"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 3, "startColumn": 22, "endLine": 3, "endColumn": 29}
    assert run["results"][0]["relatedLocations"][0]["message"]["text"] == "block 'unit' used here"


@pytest.fixture(scope="module")
def corpus() -> tuple[list[Diagnostic], list[str]]:
    """What is found in a few dozen bad specs."""
    files = [str(path) for path in sorted(BAD.glob("*.yaml"))[::4]]
    found: list[Diagnostic] = []
    for file in files:
        try:
            build(load(file))
        except SpecError as error:
            found += error.diagnostics
    assert len(found) > 20
    return found, files


def test_sarif_fits_its_published_schema(corpus: tuple[list[Diagnostic], list[str]]) -> None:
    """OASIS Static Analysis Results Interchange Format 2.1.0, of which draft-04 is the language."""
    report = json.loads(formatted("sarif", *corpus))
    schema = json.loads((SCHEMAS / "sarif-2.1.0.json").read_text())
    Draft4Validator(schema).validate(report)
    (run,) = report["runs"]
    assert len(run["results"]) == len(corpus[0])
    assert all(Path(artifact["location"]["uri"]).suffix == ".yaml" for artifact in run["artifacts"])
    run["results"][0]["level"] = "dreadful"
    assert not Draft4Validator(schema).is_valid(report)


@pytest.mark.parametrize("found", [True, False])
def test_junit_fits_the_schema_of_its_readers(found: bool, corpus: tuple[list[Diagnostic], list[str]]) -> None:
    """The one of Jenkins, which is also what pytest keeps to."""
    schema = pytest.importorskip("xmlschema").XMLSchema(SCHEMAS / "junit-10.xsd")
    text = formatted("junit", corpus[0] if found else [], corpus[1])
    schema.validate(text)
    assert not schema.is_valid(text.replace("<testcase name", "<testcase nome"))


@pytest.mark.parametrize("name", ["github", "gitlab", "sarif"])
def test_code_hosts_get_paths_from_where_they_stand(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs").mkdir()
    monkeypatch.chdir(tmp_path)
    for written in ("specs/a b.yaml", "./specs/a b.yaml", str(tmp_path / "specs" / "a b.yaml")):
        found = Diagnostic("unknown-key", "error", "no", Span(written, 3, 22, 3, 29))
        text = formatted(name, [found], [written])
        assert "specs/a%20b.yaml" in text if name == "sarif" else "specs/a b.yaml" in text
        assert str(tmp_path) not in text
        assert "./" not in text


def test_junit_is_read_by_others_as_it_is_meant(corpus: tuple[list[Diagnostic], list[str]]) -> None:
    (suite,) = JUnitXml.fromstring(formatted("junit", *corpus).encode())
    failed = {diagnostic.span.file for diagnostic in corpus[0] if diagnostic.severity == "error"}
    assert (suite.tests, suite.failures, suite.errors) == (len(corpus[1]), len(failed), 0)
    assert {case.name for case in suite if not case.is_passed} == failed


def test_gitlab_fits_what_its_manual_requires(corpus: tuple[list[Diagnostic], list[str]]) -> None:
    """https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format, in the words of JSON Schema."""
    text = {"type": "string", "minLength": 1}
    lines = {"type": "object", "required": ["begin"], "properties": {"begin": {"type": "integer", "minimum": 1}}}
    location = {"type": "object", "required": ["path", "lines"], "properties": {"path": text, "lines": lines}}
    properties = {
        "description": text,
        "check_name": text,
        "fingerprint": text,
        "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
        "location": location,
    }
    issue = {"type": "object", "required": list(properties), "properties": properties}
    issues = json.loads(formatted("gitlab", *corpus))
    Draft7Validator({"type": "array", "items": issue}).validate(issues)
    assert len({issue["fingerprint"] for issue in issues}) == len(issues) == len(corpus[0])


@pytest.mark.parametrize("name", list(FORMATS))
def test_nothing_found(name: str) -> None:
    text = formatted(name, [], ["a.yaml"])
    if name in ("json", "gitlab", "sarif"):
        json.loads(text)
    elif name == "junit":
        fromstring(text)
    else:
        assert text in ("", "no problems in 1 file")


def test_a_name_of_any_length_is_shown_by_its_ends() -> None:
    span = Span("net.yaml", 1, 1, 1, 2)
    found = Diagnostic("invalid-value", "error", f"id: got '{'a' * 100_000}'", span, notes=("b" * 5_000,))
    assert found.message.startswith("id: got 'aaa")
    assert found.message.endswith("aaa'")
    assert len(found.message) == len(found.notes[0]) == 2_005
