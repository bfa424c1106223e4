"""A run's page: there from the start, true at the end, and nothing in it can be anything but text."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess

import pytest
from safelight.errors import PageError
from safelight.preview.html.bundle import WEB, bundle
from safelight.preview.html.document import document, script_safe_json
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.manifest import read_manifest
from safelight.preview.run import Run
from safelight.preview.sinks.page import MIN_WRITE_INTERVAL_S, PAGE_NAME, Page
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles

NODE = shutil.which("node")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "<img src=x onerror=alert(1)>",
    "&lt;script&gt;",
    "\u2028\u2029\0\x7f",
    '"\\',
    "{script} {0} %s",
    "\ud800",
]


class Reader(html.parser.HTMLParser):
    """What a browser makes of a page: its elements, and the texts of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self._in = [], [], None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def manifest_in(page):
    return json.loads(Reader(page).scripts[0])


@pytest.fixture
def run(clock):
    return Run(clock=clock, sampler={"steps": 20, "seed": 7})


@pytest.fixture
def folder(tmp_path, run):
    return RunFolder(tmp_path / "run", run)


@pytest.fixture
def page_of(folder):
    return lambda: (folder.path / PAGE_NAME).read_text("utf-8")


# When it is written


def test_the_page_is_there_from_the_start_and_says_what_is_known(folder, page_of):
    folder.open()
    Page(folder).open()
    told = manifest_in(page_of())
    assert (told["state"], told["page"], told["sampler"]["steps"], told["steps"]) == ("running", PAGE_NAME, 20, [])
    assert read_manifest(folder.path)["page"] == PAGE_NAME


@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
def test_at_the_end_the_page_holds_what_the_manifest_holds(folder, page_of, picture, pipeline, step, state, run):
    sinks = [folder, Page(folder), StepFiles(folder, ImageEncoding())]
    with pipeline(*sinks, run=run, state=state) as offered:
        for index in (1, 2, 3):
            offered.offer(step(index))
        run.note("step 2: something")
    told, saved = manifest_in(page_of()), read_manifest(folder.path)
    assert told == saved
    assert (told["state"], len(told["steps"]), told["notes"]) == (state, 3, ["step 2: something"])


def test_while_the_run_goes_on_the_page_is_written_now_and_then(folder, page_of, picture, clock):
    folder.open()
    page = Page(folder, clock)
    page.open()
    steps = []
    for index, now in ((1, 1.0), (2, MIN_WRITE_INTERVAL_S), (3, MIN_WRITE_INTERVAL_S + 1)):
        clock.now = now
        folder.record(picture(index=index), f"{index}.png")
        page.show(picture(index=index))
        steps.append(len(manifest_in(page_of())["steps"]))
    assert steps == [0, 2, 2]


def test_a_page_that_cannot_be_written_costs_a_note_and_not_the_run(folder, pipeline, step, run, monkeypatch):
    write = RunFolder.write

    def full(self, name, content):
        if name == PAGE_NAME:
            raise OSError(28, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(RunFolder, "write", full)
    with pipeline(folder, Page(folder), StepFiles(folder, ImageEncoding()), run=run) as offered:
        offered.offer(step(1))
    saved = read_manifest(folder.path)
    assert (saved["state"], len(saved["steps"]), saved["page"]) == ("finished", 1, None)
    [note] = saved["notes"]
    assert note.startswith("page could not be opened: OSError: [Errno 28]")


def test_a_page_without_its_modules_costs_a_note_and_not_the_run(folder, pipeline, step, run, monkeypatch):
    def broken(entry):
        raise PageError("web/page.mjs cannot be read")

    monkeypatch.setattr("safelight.preview.sinks.page.bundle", broken)
    with pipeline(folder, Page(folder), run=run) as offered:
        offered.offer(step(1))
    assert read_manifest(folder.path)["notes"] == ["page could not be opened: PageError: web/page.mjs cannot be read"]


# What is in it


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_run_can_become_markup_or_script(text):
    plain = Reader(document({"format": "x", "text": "plain"}, "go()").html)
    page = document({"format": "x", "text": text, text: [text]}, "go()").html
    read = Reader(page)
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain.tags]
    assert json.loads(read.scripts[0]) == {"format": "x", "text": text, text: [text]}
    assert read.scripts[1] == "go()"
    assert script_safe_json(text).isascii()
    assert not set(script_safe_json(text)) & set("<>&\u2028\u2029")


def test_the_only_script_that_may_run_is_the_one_of_the_page():
    page = document({}, bundle("page"))
    read = Reader(page.html)
    _, script = read.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [meta["content"] for meta in read.attributes("meta") if "http-equiv" in meta]
    assert policy == page.policy
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives["script-src"] == f"'sha256-{digest}'"
    assert directives["default-src"] == "'none'"
    assert "connect-src" not in directives
    assert [attributes.get("type") for attributes in read.attributes("script")] == ["application/json", "module"]


def test_the_page_names_no_other_file_and_no_network():
    read = Reader(document({"format": "safelight.run/1"}, bundle("page")).html)
    named = [value for _, attributes in read.tags for key, value in attributes.items() if key in ("src", "href")]
    assert named == ["data:,"]
    urls = set(re.findall(r"https?://[\w./-]+", " ".join(read.scripts)))
    assert urls <= {"http://www.w3.org/2000/svg"}


def test_what_json_has_no_word_for_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        document({"cfg": float("nan")}, "")


# The modules as one script


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
def test_modules_see_what_they_import_and_nothing_else_of_each_other(bundled):
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
def test_the_viewers_own_modules_make_a_script_that_node_can_read(tmp_path):
    (tmp_path / "page.mjs").write_text(bundle("page"), "utf-8")
    ran = subprocess.run([NODE, "--check", tmp_path / "page.mjs"], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_script_holds_every_module_that_is_needed_once():
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
def test_what_the_bundler_does_not_know_is_refused(bundled, line):
    with pytest.raises(PageError, match=r"web/page\.mjs: expected `import .* found") as refused:
        bundled(page=f"{line}\nexport function start() {{}}\n", b="export const a = 1;")
    assert line.removeprefix("const a = await ").removeprefix("const here = ")[:12] in str(refused.value)


@pytest.mark.parametrize("text", ["</script>", "</SCRIPT >", "<!-- x", "<script>"])
def test_a_module_that_would_end_the_script_is_refused(bundled, text):
    with pytest.raises(PageError, match="would end the script"):
        bundled(page=f"export function start() {{ return `{text}`; }}\n")


def test_types_in_comments_are_left_alone(bundled):
    script = bundled(page='/** @typedef {import("./viewer.mjs").Run} Run */\nexport function start() {}\n')
    assert 'import("./viewer.mjs")' in script


def test_modules_that_import_in_a_circle_are_refused(bundled):
    with pytest.raises(PageError, match=r"web/page\.mjs imports itself by way of page -> a -> page"):
        bundled(page='import { a } from "./a.mjs";\n', a='import { b } from "./page.mjs";\n')


def test_a_module_that_is_missing_is_named(bundled):
    with pytest.raises(PageError, match=r"web/gone\.mjs cannot be read .*the folder of Safelight is incomplete"):
        bundled(page='import { a } from "./gone.mjs";\n')
