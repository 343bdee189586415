"""JUnit XML: a test case for each file, which fails if the file has errors."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from cnnspec.diagnostics.record import Diagnostic, first_line, printable


def junit(diagnostics: Sequence[Diagnostic], files: Sequence[str]) -> str:
    """Return one suite; warnings are the output of a passing case. A file that others extend has a case if it fails."""
    further = dict.fromkeys(diagnostic.span.file for diagnostic in diagnostics if diagnostic.span.file not in files)
    files = [*files, *further]
    suites = Element("testsuites")
    suite = SubElement(suites, "testsuite", name="cnnspec", tests=str(len(files)), errors="0", time="0")
    failed = 0
    for file in files:
        case = SubElement(suite, "testcase", name=printable(file), classname="cnnspec", time="0")
        diagnostics_of_file = [diagnostic for diagnostic in diagnostics if diagnostic.span.file == file]
        errors = [diagnostic for diagnostic in diagnostics_of_file if diagnostic.severity == "error"]
        if errors:
            failed += 1
            failure = SubElement(case, "failure", type=errors[0].code, message=errors[0].message)
            failure.text = "\n".join(first_line(diagnostic) for diagnostic in diagnostics_of_file)
        elif diagnostics_of_file:
            SubElement(case, "system-out").text = "\n".join(
                first_line(diagnostic) for diagnostic in diagnostics_of_file
            )
    suite.set("failures", str(failed))
    indent(suites)
    return tostring(suites, encoding="unicode", xml_declaration=True)
