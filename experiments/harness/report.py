"""From records to a page, the table of README, summaries and pictures: the same bytes from the same records."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness import forest, plots, statistics
from experiments.harness.claim import Claim
from experiments.harness.records import Records
from experiments.harness.summary import Summary, as_json, judge, summarize

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- evidence: begin -->", "<!-- evidence: end -->"
VERDICTS = ("holds", "equal, as claimed", "equal, not as claimed", "reversed", "undecided", "not run yet")
VERDICTS_PICTURE = "verdicts.png"
Judged = tuple[statistics.Interval, statistics.Verdict]


def write(claims: Sequence[Claim], folder: Path, root: Path = ROOT) -> list[Path]:
    """Writes everything that follows from the records in ``folder``; returns what was written."""
    summaries = {claim.name: found for claim in claims if (found := summarize(claim, folder)) is not None}
    judged = judge(list(summaries.values()))
    written = []
    shown: dict[str, list[str]] = {}
    for name, summary in summaries.items():
        place = folder / name
        written.append(place / "summary.json")
        text = json.dumps(as_json(summary, judged.get(name)), indent=2, allow_nan=False) + "\n"
        written[-1].write_text(text, encoding="utf-8")
        runs = Records(folder, name).runs(summary.claim.arms)
        shown[name] = []
        for file, figure in plots.pictures(summary.claim, runs, place).items():
            plots.save(figure, place / file)
            written.append(place / file)
            shown[name].append(file)
    written.append(folder / VERDICTS_PICTURE)
    plots.save(forest.figure(forest.rows(claims, judged)), written[-1])
    page = root / "docs" / "evidence.md"
    page.write_text(_page(claims, summaries, judged, shown, folder, root), encoding="utf-8")
    readme = root / "README.md"
    old = readme.read_text(encoding="utf-8")
    if BEGIN in old:
        new = re.sub(
            f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{_short_table(claims, judged)}\n{END}", old, flags=re.DOTALL
        )
        readme.write_text(new, encoding="utf-8")
        written.append(readme)
    return [*written, page]


def _short_table(claims: Sequence[Claim], judged: dict[str, Judged]) -> str:
    """The claims by verdict, each a link to its section: few words, since README has few."""
    groups: dict[str, list[str]] = {word: [] for word in VERDICTS}
    for claim in claims:
        link = f"[{claim.name.replace('_', ' ')}](docs/evidence.md#{_anchor(claim)})"
        groups[_verdict(claim, judged.get(claim.name))].append(link)
    rows = [f"| {word} | {', '.join(links)} |" for word, links in groups.items() if links]
    return "\n".join(["| verdict | claims |", "|---|---|", *rows])


def _verdict(claim: Claim, judged: Judged | None) -> str:
    if judged is None:
        return "not run yet"
    word = judged[1]
    if word != "equal":
        return word
    return "equal, as claimed" if statistics.as_claimed(word, claim.contrast) else "equal, not as claimed"


def _interval(interval: statistics.Interval) -> str:
    return f"{_number(interval.mean)} [{_number(interval.low)}, {_number(interval.high)}]"


def _number(value: float) -> str:
    return f"{value:+.3g}" if np.isfinite(value) else ("-∞" if value < 0 else "∞")


INTRODUCTION = """\
# Evidence

The library computes the equations of the papers; this page puts the papers' claims to the test. `make evidence`
generates it from the records in `experiments/results`. `experiments/README.md` has the rules, and says how to rerun an
experiment.

Each arm trains at the best learning rate of its own sweep. The unit is the seed; the interval is Student's t interval
of the paired difference, adjusted over all seventeen claims by Holm's method. It says how much the seeds vary on the
given data; what another draw of test examples would change is not in it.

| claimed | holds | equal | reversed |
|---|---|---|---|
| better | the interval lies on the claimed side of zero | it lies within the margin | it lies on the other side |
| equal | | it lies within the margin, which confirms the claim | it excludes zero and leaves the margin |
| not better | the whole interval shows a gain no larger than the margin | | it shows a gain, and leaves the margin |

Everything else is **undecided**. Margins were set before the runs. A run whose loss or gradient is no longer finite
counts as chance from there on. All other figures are only descriptive. In the tables "±" is half the width of a 95 %
interval over the seeds, and "seconds" are those of one core for training a run.
"""


def _page(
    claims: Sequence[Claim],
    summaries: dict[str, Summary],
    judged: dict[str, Judged],
    shown: dict[str, list[str]],
    folder: Path,
    root: Path,
) -> str:
    lines = [
        INTRODUCTION,
        "| # | claim | figure: arm minus baseline | difference, interval | verdict |",
        "|---|---|---|---|---|",
    ]
    for claim in claims:
        contrast, found = claim.contrast, judged.get(claim.name)
        row = [
            f"[{claim.number}](#{_anchor(claim)})",
            claim.claim,
            f"{contrast.unit}: {contrast.title}",
            "" if found is None else _interval(found[0]),
            "not run yet" if found is None else f"**{found[1]}**",
        ]
        lines.append("| " + " | ".join(row) + " |")
    words = (
        "All claims: the interval of the difference in units of the margin, the verdict, and where the claim expects it"
    )
    lines += ["", f"![{words}]({_from_docs(folder / VERDICTS_PICTURE, root)})"]
    hours = sum(summary.hours for summary in summaries.values())
    lines += ["", f"All runs together trained for {hours:.1f} hours of one core; compiling and evaluating come on top."]
    for claim in claims:
        lines += ["", f"({_anchor(claim)})=", f"## {claim.number}. {claim.claim}", ""]
        lines += section(claim, summaries.get(claim.name), judged.get(claim.name))
        for file in shown.get(claim.name, []):
            place = _from_docs(folder / claim.name / file, root)
            lines += ["", f"![{claim.name}, {Path(file).stem}]({place})"]
    return "\n".join(lines) + "\n"


def _from_docs(file: Path, root: Path) -> str:
    """The address of a file on the page of evidence."""
    return (Path("..") / file.resolve().relative_to(root.resolve())).as_posix()


def _anchor(claim: Claim) -> str:
    return f"evidence-{claim.name.replace('_', '-')}"


def section(claim: Claim, summary: Summary | None, judged: Judged | None) -> list[str]:
    """What is known of a claim, as lines of Markdown."""
    contrast = claim.contrast
    lines = [
        f"- **Source:** {claim.source}",
        f"- **Published:** {claim.published}",
        f"- **Contrast:** {contrast.unit}: {contrast.title}; {contrast.expectation}.",
    ]
    if judged is not None and summary is not None:
        interval, word = judged
        lines.append(
            f"- **Here:** {_interval(interval)} at {100 * interval.confidence:.2f} %, "
            f"{len(summary.differences)} seeds: **{word}**."
        )
    lines.append(f"- **Smaller than in the paper:** {claim.smaller}")
    if claim.undecidable:
        lines.append(f"- **What this scale cannot decide:** {claim.undecidable}")
    if claim.looked_at:
        lines.append(f"- **Why the outcome is not the paper's:** {claim.looked_at}")
    lines.append(f"- **Rerun:** `python -m experiments run {claim.name} --data FOLDER`")
    if summary is None:
        return [*lines, "", "Not run yet."]
    lines += [
        f"- **Data:** {summary.source}; {summary.scale} scale, {summary.hours:.2f} hours of training on one core.",
        "",
    ]
    also = list(claim.also)
    lines.append("| arm | learning rate | " + " | ".join([contrast.unit, *also, "seeds", "diverged", "seconds"]) + " |")
    lines.append("|---" * (6 + len(also)) + "|")
    for arm in summary.arms:
        values = list(arm.figures.values())
        rate = " to ".join(
            f"{rate:g}" for rate in (arm.rates[:1] + arm.rates[-1:] if len(arm.rates) > 1 else arm.rates)
        )
        cells: list[Any] = [
            arm.arm,
            rate + (" (at the edge)" if arm.at_edge else ""),
            _mean(values),
            *(_figure(arm.also[name]) if name in arm.also else "" for name in also),
            len(values),
            arm.diverged,
            f"{arm.seconds:.0f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _figure(value: float) -> str:
    """Four digits, and counts whole."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    half = statistics.paired(values)
    return f"{np.mean(values):.4g}" + (f" ± {(half.high - half.low) / 2:.2g}" if len(values) > 1 else "")
