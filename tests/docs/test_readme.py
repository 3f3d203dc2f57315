"""README's example runs as written and prints what README says. As a program this file prints the example."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def block(language: str) -> str:
    """The first fenced block of a language in README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(rf"^```{language}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert match, f"README has no block of {language}"
    return match[1]


def same(printed: str, promised: str) -> bool:
    """The same words, and numbers that agree to two in the last printed digit."""
    got, want = printed.split(), promised.split()
    if len(got) != len(want):
        return False
    return all(
        abs(float(a) - float(b)) <= 0.0201 if re.fullmatch(r"\d+\.\d\d", b) else a == b
        for a, b in zip(got, want, strict=True)
    )


def test_the_example_prints_what_readme_says():
    done = subprocess.run([sys.executable, "-c", block("python")], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert same(done.stdout, block("text")), done.stdout


def test_the_comparison_can_fail():
    promised = block("text")
    assert same(promised, promised)
    assert not same(promised.replace("0.59", "0.65"), promised)
    assert not same(promised + "nan", promised)


def test_the_example_is_short():
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 20


def test_every_file_that_readme_and_contributing_link_exists():
    for name in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []


if __name__ == "__main__":
    print(block("python"))
