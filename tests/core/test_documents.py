"""The documents say what the code does: their generated parts, links, names and versions.

``python -m tests.core.test_documents`` writes the generated parts of README.md anew.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import trafficlog
from trafficlog.cli import main
from trafficlog.config import PREFIX, Config
from trafficlog.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CHANGELOG.md", "GLOSSARY.md")
COMMON_OPTIONS = {"database_url", "data_dir", "as_json"}


def leaves(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def in_one_line(text: str | None) -> str:
    """A help text without its line breaks."""
    return " ".join((text or "").split())


def option_lines(command: click.Command, context: click.Context, *, common: bool) -> list[str]:
    """The help of a command's own options, or of those that most commands share."""
    records = [
        parameter.get_help_record(context)
        for parameter in command.params
        if isinstance(parameter, click.Option) and (parameter.name in COMMON_OPTIONS) == common
    ]
    return [f"  - `{form}`: {in_one_line(text)}" for form, text in filter(None, records)]


def commands() -> str:
    """The command reference, from what ``--help`` shows."""
    serve = main.commands["serve"]
    # Its first paragraph says what trafficlog is.
    parts = [
        in_one_line((main.help or "").partition("\n\n")[2]),
        "",
        "- for all but `ship` and `simulate`:",
    ]
    parts += option_lines(serve, click.Context(serve, info_name="serve"), common=True)
    for name, command in leaves(main, ("trafficlog",)):
        context = click.Context(command, info_name=name)
        arguments = [
            parameter.make_metavar(context)
            for parameter in command.params
            if isinstance(parameter, click.Argument)
        ]
        parts.append(f"- **`{' '.join([name, *arguments])}`**: {in_one_line(command.help)}")
        parts += option_lines(command, context, common=False)
    return "\n".join(parts)


def settings() -> str:
    """The table of settings."""
    bounds = {
        PREFIX + each.name.upper(): (each.metadata["low"], each.metadata["high"])
        for each in fields(Config)
    }
    rows = [
        f"| `{name}` | {default} | {bounds[name][0]} to {bounds[name][1]} | {text} |"
        for name, default, text in Config.table()
    ]
    return "\n".join(["| name | default | from, to | what |", "|---|---|---|---|", *rows])


def metrics() -> str:
    """The table of metrics."""
    every = Metrics()
    # A metric knows its labels before it has a value; what it exposes then has none yet.
    labels = {
        each._name: ", ".join(f"`{label}`" for label in each._labelnames) or "-"
        for each in vars(every).values()
        if hasattr(each, "_labelnames")
    }
    rows = [
        f"| `{exposed(family)}` | {family.type} | {labels[family.name]} | {family.documentation} |"
        for family in every.registry.collect()
    ]
    return "\n".join(["| metric | type | labels | what |", "|---|---|---|---|", *rows])


def exposed(family: Metric) -> str:
    """The name under which a metric is read."""
    return family.name + ("_total" if family.type == "counter" else "")


GENERATED = {"commands": commands, "settings": settings, "metrics": metrics}


def marked(name: str) -> re.Pattern[str]:
    """A generated part with its two markers."""
    return re.compile(
        rf"(<!-- generated: {name} -->\n)(.*?)(<!-- end of {name} -->)", flags=re.DOTALL
    )


def read(name: str) -> str:
    """A file of the project, by its path."""
    return (ROOT / name).read_text("utf-8")


def write_generated_parts() -> None:
    """Brings README.md up to date with the code."""
    text = read("README.md")
    for name, make in GENERATED.items():
        text = marked(name).sub(lambda found, make=make: found[1] + make() + "\n" + found[3], text)
    (ROOT / "README.md").write_text(text, "utf-8")


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_part_is_what_the_code_says_now(name):
    """A command, setting or metric is described as it is: python -m tests.core.test_documents."""
    found = marked(name).search(read("README.md"))
    assert found, f"README.md has no markers for {name}"
    assert found[2] == GENERATED[name]() + "\n"


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as they are made where it is shown."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-").strip("-")
        for heading in headings
    }


def without_code(text: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_within_the_project_leads_somewhere(name):
    """A relative link names a file that is there, and a heading that is in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(read(name))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        document = path or name
        assert (ROOT / document).exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(read(document)), f"{name} links to {target}"


def product_text() -> str:
    """All of the product's own source: Python and SQL."""
    files = [*(ROOT / "trafficlog").rglob("*.py"), *(ROOT / "sql").rglob("*.sql")]
    return "\n".join(path.read_text("utf-8") for path in files)


def test_the_names_of_the_glossary_are_in_the_code():
    """Each identifier that the glossary binds a word to is one that the code uses."""
    source = product_text()
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \| [^|]+ \|$", read("GLOSSARY.md"), re.MULTILINE
    )
    named = [(word, name) for word, code in rows for name in re.findall(r"`([^`]+)`", code)]
    assert len(named) > 40
    missing = [
        f"{word}: {name}"
        for word, name in named
        if not re.search(rf"(?<!\w){re.escape(name.rstrip('()'))}(?!\w)", source)
    ]
    assert missing == []


def test_the_tests_that_the_readme_names_exist():
    """A guarantee rests on the test that the README names for it."""
    named = set(re.findall(r"`(tests/[\w/.]+?\.py)(?:::(\w+))?`", read("README.md")))
    assert named
    for path, function in named:
        assert (ROOT / path).exists(), path
        assert not function or f"def {function}(" in read(path), f"{path}::{function}"


def test_the_changelog_opens_with_the_present_version():
    """The newest entry of CHANGELOG.md is of the version that the package says it is."""
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert versions[0] == trafficlog.__version__


def compose() -> dict:
    """The Compose file as it is read."""
    yaml = pytest.importorskip("yaml", reason="PyYAML reads docker-compose.yml")
    return yaml.safe_load(read("docker-compose.yml"))


def test_the_compose_file_is_whole():
    """What a service of docker-compose.yml mounts is declared in it, and no secret stands in it."""
    whole = compose()
    assert set(whole["services"]) == {"postgres", "trafficlog", "prometheus"}
    for name, service in whole["services"].items():
        assert "healthcheck" in service, name
        for config in service.get("configs", []):
            assert config["source"] in whole["configs"]
        for secret in service.get("secrets", []):
            assert secret in whole["secrets"]
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in whole["volumes"]
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or value.startswith("${"), variable


def test_the_compose_file_s_prometheus_is_configured_rightly(tmp_path):
    """Prometheus' own tool accepts the scrape configuration and the alerts."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    key = tmp_path / "metrics_key"
    key.write_text("tl_a_key\n")
    for name in ("prometheus", "alerts"):
        content = compose()["configs"][name]["content"].replace("$$", "$")
        (tmp_path / f"{name}.yml").write_text(content.replace("/run/secrets/metrics_key", str(key)))
    checked = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_watch_metrics_that_there_are():
    """Each metric in an alert is one that the service exposes."""
    text = compose()["configs"]["alerts"]["content"]
    names = {exposed(family) for family in Metrics().registry.collect()}
    assert set(re.findall(r"trafficlog_\w+", text)) <= names


if __name__ == "__main__":
    write_generated_parts()
