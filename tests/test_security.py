"""Nothing is unpickled from outside, no code of a hub is trusted, and no shell is run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lib.fingerprint import ROOT

FILES = sorted([*ROOT.glob("lib/**/*.py"), *ROOT.glob("notebooks/*.py"), *ROOT.glob("workflow/*.py")])
PICKLES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def calls(tree: ast.AST) -> list[tuple[str, dict[str, object]]]:
    """(dotted name, constant keyword arguments) of every call."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords if k.arg}
            found.append((ast.unparse(node.func), keywords))
    return found


def breaches(source: str) -> list[str]:
    """Uses that this collection forbids."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"imports {name}" for name in names if name.split(".")[0] in PICKLES]
    for name, keywords in calls(tree):
        if name == "torch.load" and keywords.get("weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if name.endswith((".read_pickle", "os.system", "os.popen")) or name in ("eval", "exec"):
            found.append(name)
        if keywords.get("allow_pickle") or keywords.get("trust_remote_code") or keywords.get("shell"):
            found.append(f"{name} with a forbidden switch")
        if name == "yaml.load":
            found.append("yaml.load instead of yaml.safe_load")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_forbidden_use(path: Path) -> None:
    assert breaches(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load('x')",
        "np.load('x', allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "pd.read_pickle('x')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "yaml.load('x')",
        "eval('1')",
    ],
)
def test_the_check_sees_each_breach(source: str) -> None:
    assert breaches(source)


def test_a_chapter_never_imports_another() -> None:
    chapters = {p.name for p in (ROOT / "lib").iterdir() if p.is_dir()} - {"publishing", "__pycache__"}
    for slug in chapters:
        for path in [*(ROOT / "lib" / slug).rglob("*.py"), ROOT / "notebooks" / f"{slug}.py"]:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            for other in chapters - {slug}:
                assert f"lib.{other}" not in text, f"{path.name} imports from {other}"
    for path in (ROOT / "lib").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not any(f"lib.{slug}" in text.split('"""', 2)[-1] for slug in chapters), path.name
