"""What `raymd doctor` found, as a table a node, and a sentence at the end."""

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from raymd.execution.doctor.examine import Examination
from raymd.execution.doctor.finding import CLUSTER, Finding, Level, count
from raymd.view.text import count_of

STYLES: dict[Level, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}
# of more nodes only what is not well is shown
FEW_NODES = 4


def finding_parts(examination: Examination) -> list[RenderableType]:
    """A table for the cluster and for each node, then how many problems there are."""
    is_short = len(examination.nodes) > FEW_NODES
    of_node = {
        node: [one for one in examination.findings if one.node == node]
        for node in (CLUSTER, *examination.nodes)
    }
    tables = [_table(node, found, is_short=is_short) for node, found in of_node.items()]
    problems = count(examination.findings, "problem")
    warnings = count(examination.findings, "warning")
    return [*tables, Text(f"{count_of(problems, 'problem')}, {count_of(warnings, 'warning')}")]


def _table(node: str, findings: Sequence[Finding], *, is_short: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=Text(node, style="bold"),
        title_justify="left",
    )  # fmt: skip
    for name in ("check", "", "found, and what to do"):
        table.add_column(name, overflow="fold")
    shown = [one for one in findings if not (is_short and one.level == "ok")]
    for one in shown:
        remedy = f"\n-> {one.remedy}" if one.remedy else ""
        text = Text(one.found).append(remedy, style="bold")
        table.add_row(one.check, Text(one.level, style=STYLES[one.level]), text)
    if len(shown) < len(findings):
        table.add_row("", "ok", f"{count_of(len(findings) - len(shown), 'other check')}")
    return table
