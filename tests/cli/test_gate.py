"""`validate` as a gate: which files it takes, a project's settings, known findings, and what cannot be silenced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cnnspec.cli import main
from cnnspec.diagnostics.catalogue import CATALOGUE

Captured = pytest.CaptureFixture[str]
GOOD, BAD, WARNS = CATALOGUE["unknown-key"].good, CATALOGUE["unknown-key"].bad, CATALOGUE["unused-var"].bad
FOREIGN = {
    "docker-compose.yml": "services:\n  cnnspec:\n    image: x\n    layers: 3\n",
    "deploy.yaml": "apiVersion: v1\nkind: Pod\n---\nkind: Service\n",
    "node_modules/a/b.yaml": "cnnspec: 1\nthis: is another's\n",
    ".hidden/c.yaml": "cnnspec: 1\n",
    "broken.yaml": "a: [\n",
}


@pytest.fixture(name="repository", autouse=True)
def _repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return tmp_path


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def last(captured: Captured) -> str:
    return captured.readouterr().out.splitlines()[-1]


def test_a_folder_gives_its_specs_only(capsys: Captured) -> None:
    for path, text in FOREIGN.items():
        write(path, text)
    for number in range(300):
        write(f"charts/{number}.yaml", f"kind: Deployment\nnumber: {number}\n")
    write("models/a/net.yaml", "# a comment\n---\n" + GOOD)
    write("models/b/own.yaml", "# another\nextends: ../a/net.yaml\nseed: 7\n")
    write(".eslintrc.yaml", "extends: airbnb\n")
    write("eslint.yaml", "extends: [airbnb, prettier]\n")
    write("models/forgotten.yaml", GOOD.replace("cnnspec: 1\n", ""))
    assert main(["validate", ".", "--format", "concise"]) == 1
    told = capsys.readouterr()
    assert "models/forgotten.yaml:1:1: error[missing-key]" in told.out
    assert told.out.splitlines()[-1] == "1 error in 3 files"
    assert "304 YAML files are no spec" in told.err


def test_specs_in_another_encoding_or_with_a_large_suffix_are_taken(capsys: Captured) -> None:
    write("models/a.YAML", BAD)
    Path("models/b.yaml").write_text(GOOD, encoding="utf-16")
    Path("models/c.yaml").write_text(FOREIGN["deploy.yaml"], encoding="utf-16")
    assert main(["validate", ".", "--format", "concise"]) == 1
    found = [line.partition(": error")[::2] for line in capsys.readouterr().out.splitlines()]
    assert [place for place, _ in found[:2]] == ["models/a.YAML:2:1", "models/b.yaml:1:1"] or len(found) == 3
    assert "not-utf8" in found[1][1]


def test_a_folder_without_specs_is_a_mistake(capsys: Captured) -> None:
    write("charts/a.yaml", FOREIGN["deploy.yaml"])
    assert main(["validate", "charts"]) == 2
    assert "no spec at charts" in (told := capsys.readouterr().err)
    assert "1 YAML file does not say cnnspec:" in told
    assert main(["validate", "charts/a.yaml"]) == 1, "a file that is named is a spec"


def test_what_a_hook_names_is_taken_as_in_a_folder(capsys: Captured) -> None:
    write("a.yaml", FOREIGN["deploy.yaml"])
    write("net.yaml", GOOD)
    write("old/net.yaml", BAD)
    words = ["validate", "a.yaml", "net.yaml", "old/net.yaml", "--force-exclude", "--exclude", "old"]
    assert main(words) == 0
    assert last(capsys) == "no problems in 1 file"
    assert main(["validate", "a.yaml", "--force-exclude"]) == 0
    assert last(capsys) == "no problems in 0 files"


@pytest.mark.parametrize(("file", "table"), [("pyproject.toml", "[tool.cnnspec]\n"), ("cnnspec.toml", "")])
def test_settings_are_found_upwards(file: str, table: str, capsys: Captured) -> None:
    write(file, table + 'exclude = ["fixtures", "models/*.old.yaml"]\nignore = ["unused-var"]\n')
    write("models/a.yaml", WARNS)
    write("models/b.old.yaml", BAD)
    write("models/fixtures/deep/c.yaml", BAD)
    assert main(["validate", "models", "--strict"]) == 0
    assert last(capsys) == "no problems in 1 file"
    assert main(["validate", "models", "--strict", "--select", "unused-id"]) == 0
    os.chdir("models")
    assert main(["validate", ".", "--strict"]) == 0


@pytest.mark.parametrize("pattern", ["**/bad.yaml", "./bad.yaml", "/bad.yaml", "bad.*", "**/bad.y?ml", "bad.yaml/"])
def test_patterns_are_read_as_those_of_git(pattern: str, capsys: Captured) -> None:
    write("cnnspec.toml", f'exclude = ["{pattern}", "old/**/a.yaml", "build/"]\n')
    for path in ("bad.yaml", "old/a.yaml", "old/deep/a.yaml", "build/b.yaml"):
        write(path, BAD)
    write("net.yaml", GOOD)
    assert main(["validate", "."]) == 0
    assert last(capsys) == "no problems in 1 file"


def test_a_nearer_file_wins_and_may_extend_another(capsys: Captured) -> None:
    write("cnnspec.toml", 'exclude = ["old.yaml"]\nselect = ["unused-id"]\n')
    write("team/cnnspec.toml", 'extend = "../cnnspec.toml"\nexclude = ["older.yaml"]\nselect = ["unused-var"]\n')
    write("other/cnnspec.toml", "")
    for folder in ("team", "other"):
        write(f"{folder}/old.yaml", BAD)
        write(f"{folder}/older.yaml", BAD)
        write(f"{folder}/net.yaml", WARNS)
    assert main(["validate", "team"]) == 0
    assert last(capsys) == "1 warning in 1 file"
    assert main(["validate", "other"]) == 1
    assert last(capsys) == "2 errors, 1 warning in 3 files"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exlude = []\n", "unknown key 'exlude'\nhelp: did you mean exclude?"),
        ('exclude = "a"\n', "exclude: expected a list of texts"),
        *((f'exclude = ["{path}"]\n', f"exclude: '{path}' matches no path below") for path in ("", ".", "/", "../a")),
        ('ignore = ["unusd-var"]\n', "ignore: unknown code 'unusd-var'\nhelp: did you mean unused-var?"),
        ('ignore = ["unknown-key"]\n', "ignore: unknown-key is an error, and only warnings can be ignored"),
        ("exclude = [\n", "is no TOML"),
        ('extend = "cnnspec.toml"\n', "leads in a circle"),
        ('extend = "none.toml"\n', "there is no none.toml"),
    ],
)
def test_settings_that_say_nothing_are_refused(text: str, message: str, capsys: Captured) -> None:
    write("cnnspec.toml", text)
    write("net.yaml", GOOD)
    assert main(["validate", "net.yaml"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("comment", ["ignore[unknown-key]", "ignore-file[unknown-key]"])
def test_an_error_is_never_silenced(comment: str, capsys: Captured) -> None:
    write("net.yaml", BAD.replace("pading: 1}", f"pading: 1}}  # cnnspec: {comment}"))
    assert main(["validate", "net.yaml", "--format", "concise"]) == 1
    told = capsys.readouterr().out
    assert "error[unknown-key]" in told
    assert "unknown-key is an error, which no comment ignores" in told
    assert main(["validate", "net.yaml", "--ignore", "unknown-key"]) == 2
    assert "only warnings can be ignored" in capsys.readouterr().err
    assert main(["validate", "net.yaml", "--select", "unused-id"]) == 1


def test_a_comment_holds_for_a_whole_file(capsys: Captured) -> None:
    write("net.yaml", f"# cnnspec: ignore-file[unused-var]\n{WARNS}")
    assert main(["validate", "net.yaml", "--strict"]) == 0
    write("net.yaml", f"# cnnspec: ignore-file[unused-id, unused-var]\n{WARNS}")
    assert main(["validate", "net.yaml", "--strict", "--format", "concise"]) == 1
    assert "net.yaml:1:24: warning[unused-ignore]: no unused-id to ignore in this file" in capsys.readouterr().out


def test_known_findings_pass_and_new_ones_fail(capsys: Captured) -> None:
    write("a.yaml", BAD)
    write("b.yaml", WARNS)
    assert main(["validate", ".", "--baseline", "known.json"]) == 2
    assert "write it with --update-baseline" in capsys.readouterr().err
    assert main(["validate", ".", "--baseline", "known.json", "--update-baseline"]) == 0
    assert "2 known findings written to known.json" in capsys.readouterr().out
    write("a.yaml", "# a line more moves every finding\n" + BAD)
    assert main(["validate", ".", "--baseline", "known.json", "--strict"]) == 0
    assert "2 known in known.json" in capsys.readouterr().err
    write("a.yaml", BAD + BAD.splitlines()[-1].replace("pading", "stridde") + "\n")
    assert main(["validate", ".", "--baseline", "known.json", "--format", "concise"]) == 1
    told = capsys.readouterr().out
    assert "stridde" in told
    assert "pading" not in told
    write("a.yaml", GOOD)
    assert main(["validate", "a.yaml", "--baseline", "known.json"]) == 0
    assert "1 of known.json healed: take it out with --update-baseline" in capsys.readouterr().err
    Path("b.yaml").unlink()
    assert main(["validate", "a.yaml", "--baseline", "known.json"]) == 0
    assert "2 of known.json healed: take them out" in capsys.readouterr().err, "what was in a file that is gone, too"
    write("known.json", "[]")
    assert main(["validate", ".", "--baseline", "known.json"]) == 2
    assert "known.json is no baseline" in capsys.readouterr().err


def test_statistics_count_by_code(capsys: Captured) -> None:
    write("a.yaml", BAD)
    write("b.yaml", BAD)
    write("c.yaml", WARNS)
    assert main(["validate", ".", "--statistics"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["2", "error[unknown-key]", "A", "key", "that", "nothing", "reads."]
    assert lines[-1] == "2 errors, 1 warning in 3 files"
    for words in (["--format", "json"], ["--output-file", "found.txt"]):
        assert main(["validate", ".", "--statistics", *words]) == 2
    assert not Path("found.txt").exists()


def test_several_processes_find_the_same(capsys: Captured) -> None:
    for number in range(9):
        write(f"{number}.yaml", (GOOD, BAD, WARNS)[number % 3])
    told = []
    for jobs in ("1", "3"):
        assert main(["validate", ".", "--format", "json", "--jobs", jobs]) == 1
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


def test_a_base_may_lie_anywhere_in_the_repository(repository: Path, capsys: Captured) -> None:
    write("shared/base.yaml", GOOD)
    write("teams/a/net.yaml", "extends: ../../shared/base.yaml\nseed: 3\n")
    assert main(["validate", "teams/a/net.yaml"]) == 0
    write("teams/a/net.yaml", "extends: ../../../base.yaml\n")
    assert main(["validate", "teams/a/net.yaml", "--format", "concise"]) == 1
    assert f"lies outside of {repository.name}/, the spec's repository" in capsys.readouterr().out
    (repository / ".git").rmdir()
    write("teams/a/net.yaml", "extends: ../../shared/base.yaml\nseed: 3\n")
    assert main(["validate", "teams/a/net.yaml", "--format", "concise"]) == 1
    assert "lies outside of a/, the spec's own folder" in capsys.readouterr().out
    assert main(["validate", "teams/a/net.yaml", "--allow-outside"]) == 0


FIXABLE = "\ufeffcnnspec: 1\r\ninput: [1, 8, 8]\r\nlayers:\r\n  - {type: conv2d, filtres: 4, kernel_size: 3}\r\n"


def test_a_fix_keeps_links_modes_line_ends_and_marks(repository: Path) -> None:
    write("real/net.yaml", "")
    real = Path("real/net.yaml")
    real.write_bytes(FIXABLE.encode())
    real.chmod(0o640)
    Path("link.yaml").symlink_to(real)
    os.link(real, "second.yaml")
    assert main(["validate", "link.yaml", "--fix"]) == 0
    assert Path("link.yaml").is_symlink()
    assert real.stat().st_nlink == 2
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_bytes() == Path("second.yaml").read_bytes() == FIXABLE.replace("filtres", "filters").encode()
    Path("second.yaml").unlink()
    real.write_bytes(FIXABLE.encode())
    assert main(["validate", "link.yaml", "--fix"]) == 0
    assert Path("link.yaml").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in Path("real").iterdir()) == ["net.yaml"]


def test_a_fix_is_of_the_text_that_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import cnnspec.cli.validate as validate

    write("net.yaml", BAD)
    checked = validate._checked

    def checked_and_then_saved(*arguments: Any) -> Any:
        found = checked(*arguments)
        write("net.yaml", f"# a line more, saved by an editor\n{BAD}")
        return found

    monkeypatch.setattr(validate, "_checked", checked_and_then_saved)
    assert main(["validate", "net.yaml", "--fix"]) == 0
    assert Path("net.yaml").read_text() == f"# a line more, saved by an editor\n{BAD.replace('pading', 'padding')}"


def test_a_baseline_keeps_links_and_modes() -> None:
    write("a.yaml", BAD)
    write("real/known.json", "")
    real = Path("real/known.json")
    real.chmod(0o640)
    Path("known.json").symlink_to(real)
    os.link(real, "second.json")
    for names in (2, 1):
        assert main(["validate", ".", "--baseline", "known.json", "--update-baseline"]) == 0
        assert Path("known.json").is_symlink()
        assert (real.stat().st_nlink, real.stat().st_mode & 0o777) == (names, 0o640)
        assert main(["validate", ".", "--baseline", "known.json"]) == 0
        Path("second.json").unlink(missing_ok=True)
        write("real/known.json", "{}")


@pytest.mark.parametrize("form", ["github", "gitlab", "sarif"])
def test_paths_are_the_repositorys(form: str, capsys: Captured) -> None:
    write("models/a/net.yaml", BAD)
    os.chdir("models")
    assert main(["validate", "a", "--format", form]) == 1
    told = capsys.readouterr().out
    assert "models/a/net.yaml" in told
    if form == "sarif":
        run = json.loads(told)["runs"][0]
        assert run["tool"]["driver"]["version"]
        assert run["results"][0]["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"] == {
            "text": "padding"
        }
        assert "help" in run["tool"]["driver"]["rules"][0]


def test_a_name_cannot_forge_an_annotation(capsys: Captured) -> None:
    write("a%0A::error::forged,b.yaml", BAD.replace("pading", '"pad\\n::error::forged%0A"'))
    assert main(["validate", ".", "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("::error file=a%250A%3A%3Aerror%3A%3Aforged%2Cb.yaml,line=4")


def test_junit_names_a_base_that_is_wrong(capsys: Captured) -> None:
    write("base/base.txt", BAD)
    write("net.yaml", "extends: base/base.txt\n")
    assert main(["validate", "net.yaml", "--format", "junit"]) == 1
    assert 'failures="1"' in (told := capsys.readouterr().out)
    assert "unknown-key" in told
