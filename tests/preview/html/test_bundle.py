"""The viewer's modules as one script."""

import re
import shutil
import subprocess

import pytest
from safelight.errors import PageError
from safelight.preview.html.bundle import WEB, bundle

NODE = shutil.which("node")


@pytest.fixture
def bundled(tmp_path):
    def bundled(**modules):
        for name, source in modules.items():
            (tmp_path / f"{name}.mjs").write_text(source, "utf-8")
        return bundle("page", tmp_path)

    return bundled


def runs(script, *, document="null"):
    ran = subprocess.run(
        [NODE, "--input-type=module", "--eval", f"const document = {document};\n{script}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.skipif(NODE is None, reason="no Node on the path")
def test_modules_see_their_imports_and_nothing_else_of_each_other(bundled):
    script = bundled(
        page=(
            '/** Says. */\nimport { two, Adder as Sum } from "./a.mjs";\n'
            'import {\n  one,\n  later,\n} from "./b.mjs";\n'
            "const mine = 100;\nexport function start() {\n"
            "  later().then((third) => console.log(mine, one, two, new Sum().of(one, two), third));\n}\n"
        ),
        a=(
            'import { one } from "./b.mjs";\nconst mine = one;\nexport const two = mine + 1;\n'
            "export class Adder {\n  of(...all) {\n    return all.reduce((a, b) => a + b);\n  }\n}\n"
        ),
        b="const mine = 1;\nexport const one = mine;\nexport async function later() {\n  return 3;\n}",
    )
    assert runs(script) == "100 1 2 3 3"


@pytest.mark.skipif(NODE is None, reason="no Node on the path")
def test_the_viewer_becomes_a_script_that_node_can_parse(tmp_path):
    (tmp_path / "page.mjs").write_text(bundle("page"), "utf-8")
    ran = subprocess.run([NODE, "--check", tmp_path / "page.mjs"], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_script_contains_each_needed_module_once():
    script = bundle("page")
    functions = re.findall(r"^const \$(\w+) = \(\(\) => \{$", script, re.MULTILINE)
    assert len(functions) == len(set(functions))
    assert functions[-1] == "page"
    assert {"viewer", "manifest"} <= set(functions)
    for name in (re.sub(r"(?=[A-Z])", "-", function).lower() for function in functions):
        body = (WEB / f"{name}.mjs").read_text("utf-8").splitlines()[-2]
        assert body in script


@pytest.mark.parametrize(
    "line",
    [
        'import "./a.mjs";',
        'import a from "./a.mjs";',
        'import * as a from "./a.mjs";',
        'import { a } from "https://example.com/a.mjs";',
        'import { a } from "../a.mjs";',
        'import { a } from "./a.js";',
        'import { default as "a b" } from "./b.mjs";',
        'const a = await import("./a.mjs");',
        "const here = import.meta.url;",
        "export default class {}",
        "export let a = 1;",
        "export { a };",
        'export * from "./a.mjs";',
    ],
)
def test_unsupported_forms_are_refused(bundled, line):
    with pytest.raises(PageError, match=r"web/page\.mjs: expected `import .* found") as refused:
        bundled(page=f"{line}\nexport function start() {{}}\n", b="export const a = 1;")
    assert line.removeprefix("const a = await ").removeprefix("const here = ")[:12] in str(refused.value)


@pytest.mark.parametrize("text", ["</script>", "</SCRIPT >", "<!-- x", "<script>"])
def test_a_module_that_would_end_the_script_is_refused(bundled, text):
    with pytest.raises(PageError, match="would end the script"):
        bundled(page=f"export function start() {{ return `{text}`; }}\n")


def test_types_in_comments_are_not_changed(bundled):
    script = bundled(page='/** @typedef {import("./viewer.mjs").Run} Run */\nexport function start() {}\n')
    assert 'import("./viewer.mjs")' in script


def test_modules_that_import_in_a_circle_are_refused(bundled):
    with pytest.raises(PageError, match=r"web/page\.mjs imports itself through page -> a -> page"):
        bundled(page='import { a } from "./a.mjs";\n', a='import { b } from "./page.mjs";\n')


def test_a_missing_module_is_named(bundled):
    with pytest.raises(PageError, match=r"web/gone\.mjs cannot be read .*the installation of Safelight is incomplete"):
        bundled(page='import { a } from "./gone.mjs";\n')
